"""The network of the GE2E speaker encoder. Imports torch: for family files only."""

import torch
from torch.nn import functional


class Network(torch.nn.Module):
    """LSTM layers over mel bands, and what the original makes of their last state: one vector of length 1."""

    def __init__(self, bands: int, hidden: int, layers: int, embedding: int) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(bands, hidden, layers, batch_first=True)
        self.linear = torch.nn.Linear(hidden, embedding)

    def frames(self, mel: torch.Tensor) -> torch.Tensor:
        """Outputs of the last layer: `(B, T, bands)` to `(B, T, hidden)`."""
        return self.lstm(mel)[0]

    def utterance(self, mel: torch.Tensor, starts: list[int], length: int) -> torch.Tensor:
        """The mean over pieces of `length` columns of their vectors, brought to length 1: to `(B, embedding)`."""
        pieces = torch.stack([mel[:, start : start + length] for start in starts], dim=1)
        last = self.lstm(pieces.flatten(0, 1))[0][:, -1]
        vectors = functional.normalize(torch.relu(self.linear(last)))
        return functional.normalize(vectors.unflatten(0, (len(mel), len(starts))).mean(dim=1))
