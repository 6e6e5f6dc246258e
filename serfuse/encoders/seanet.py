"""SEANet's encoder, non-causal, as SpeechTokenizer uses it (Tagliasacchi et al., arXiv:2009.02095).

Written from the architecture; the modules' names are those of the published checkpoint.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import remove_parametrizations


class PaddedConv(nn.Module):
    """A weight-normalised convolution that gives `ceil(samples / stride)` frames, padded by reflection."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.ModuleDict({"conv": weight_norm(nn.Conv1d(inputs, outputs, kernel, stride))})
        self.kernel, self.stride = kernel, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.kernel - self.stride
        right = total // 2
        left = total - right
        right += -x.shape[-1] % self.stride  # fills the last window
        return self.conv["conv"](_reflect(x, left, right))


def _reflect(x: torch.Tensor, left: int, right: int) -> torch.Tensor:
    """Reflection; a clip too short to be reflected is continued with zeros for as long as it takes."""
    zeros = max(0, max(left, right) + 1 - x.shape[-1])
    padded = functional.pad(functional.pad(x, (0, zeros)), (left, right), mode="reflect")
    return padded[..., : padded.shape[-1] - zeros]


class ResidualBlock(nn.Module):
    """Two convolutions through half the channels, beside one of width 1."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ELU(),
            PaddedConv(channels, channels // 2, kernel),
            nn.ELU(),
            PaddedConv(channels // 2, channels, 1),
        )
        self.shortcut = PaddedConv(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(x) + self.block(x)


class ResidualLSTM(nn.Module):
    """LSTM over the frames, with its input added to (each direction of) its output."""

    def __init__(self, channels: int, layers: int, bidirectional: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.transpose(1, 2)
        output, _ = self.lstm(x)
        if self.lstm.bidirectional:
            x = torch.cat([x, x], dim=-1)
        return (output + x).transpose(1, 2)


class SEANetEncoder(nn.Module):
    """`(B, 1, samples)` to `(B, dimension, ceil(samples / product of strides))`.

    Args:
        filters: channels after the first convolution; they double at every stride.
        dimension: channels of the output.
        strides: of the encoder, in its order (the checkpoint's config.json lists them for the decoder, reversed).
    """

    def __init__(
        self,
        *,
        filters: int = 64,
        dimension: int = 1024,
        strides: Sequence[int] = (2, 4, 5, 8),
        lstm_layers: int = 2,
        bidirectional: bool = True,
        kernel: int = 7,
        residual_kernel: int = 3,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [PaddedConv(1, filters, kernel)]
        width = filters
        for stride in strides:
            layers += [
                ResidualBlock(width, residual_kernel),
                nn.ELU(),
                PaddedConv(width, 2 * width, 2 * stride, stride),
            ]
            width *= 2
        layers.append(ResidualLSTM(width, lstm_layers, bidirectional))
        width *= 2 if bidirectional else 1
        layers += [nn.ELU(), PaddedConv(width, dimension, kernel)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)

    def fuse(self) -> "SEANetEncoder":
        """Compute the normalised weights once instead of at every call; afterwards the names are other ones."""
        for module in self.modules():
            if isinstance(module, PaddedConv):
                remove_parametrizations(module.conv["conv"], "weight", leave_parametrized=True)
        return self
