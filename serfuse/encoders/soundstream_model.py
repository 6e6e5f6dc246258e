"""The encoder of haydenshively's SoundStream (Zeghidour et al., arXiv:2107.03312, section III-A).

Written from the architecture; the modules' names are those of the published checkpoint.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

_DILATIONS = (1, 3, 9)


class CausalConv(nn.Module):
    """A convolution that sees the past only, which is reflected before the first sample."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride=stride, dilation=dilation)
        self.past = dilation * (kernel - 1) - (stride - 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(functional.pad(x, (self.past, 0), mode="reflect") if self.past else x)


class ResidualUnit(nn.Module):
    """Its input plus two convolutions of it, each followed by an ELU."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            CausalConv(channels, channels, 7, dilation=dilation), nn.ELU(), CausalConv(channels, channels, 1), nn.ELU()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


class EncoderBlock(nn.Module):
    """Three residual units, then a stride that doubles the channels."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(ResidualUnit(channels, dilation) for dilation in _DILATIONS),
            CausalConv(channels, 2 * channels, 2 * stride, stride=stride),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class SoundStreamEncoder(nn.Module):
    """`(B, 1, samples)` to `(B, dimension, samples // product of strides)`.

    Args:
        channels: after the first convolution; they double at every stride.
        dimension: channels of the output.
    """

    def __init__(self, *, channels: int = 58, dimension: int = 256, strides: Sequence[int] = (2, 4, 5, 5)) -> None:
        super().__init__()
        widths = [channels << number for number in range(len(strides) + 1)]
        self.layers = nn.Sequential(
            CausalConv(1, channels, 7),
            *(EncoderBlock(width, stride) for width, stride in zip(widths, strides, strict=False)),
            CausalConv(widths[-1], dimension, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)
