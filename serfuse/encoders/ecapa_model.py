"""speechbrain's ECAPA-TDNN, and the part of it that comes before its pooling. Imports torch: for family files only."""

from typing import Any

import torch
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, TDNNBlock


class BeforePooling(torch.nn.Module):
    """`(B, T, bands)` to `(B, T, D)`: all layers in front of the attentive statistics."""

    def __init__(self, model: ECAPA_TDNN) -> None:
        super().__init__()
        self.blocks, self.mfa = model.blocks, model.mfa

    def forward(self, bands: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """`lengths`: part of T of each clip, `(B,)`."""
        x = bands.transpose(1, 2)
        heard = []
        for block in self.blocks:
            x = block(x) if isinstance(block, TDNNBlock) else block(x, lengths)
            heard.append(x)
        return self.mfa(torch.cat(heard[1:], dim=1)).transpose(1, 2)


def network(**config: Any) -> ECAPA_TDNN:
    """The architecture, with whatever weights torch's generator and default device give."""
    return ECAPA_TDNN(**config)


def without_pooling(model: ECAPA_TDNN) -> BeforePooling:
    """The layers of `model` in front of its pooling, with their weights."""
    return BeforePooling(model)
