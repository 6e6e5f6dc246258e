"""The encoder of SNAC (Siuzdak et al., arXiv:2410.14411). Imports torch: for family files only.

Written from the architecture; the modules' names are those of the published checkpoints, weight norm multiplied out.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

_DILATIONS = (1, 3, 9)
_HEAD = 64  # numbers of a head of the local attention


class Snake(nn.Module):
    """`x + sin(alpha x)^2 / alpha`, a frequency alpha for each channel (Ziyin et al., arXiv:2006.08195)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.sin(self.alpha * x).square() / (self.alpha + 1e-9)


class ResidualUnit(nn.Module):
    """Its input plus a dilated convolution and one of width 1, a snake in front of either."""

    def __init__(self, channels: int, dilation: int, groups: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Snake(channels),
            nn.Conv1d(channels, channels, 7, padding=3 * dilation, dilation=dilation, groups=groups),
            Snake(channels),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x)


class EncoderBlock(nn.Module):
    """Three residual units, then a stride that doubles the channels."""

    def __init__(self, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            *(ResidualUnit(channels, dilation, groups) for dilation in _DILATIONS),
            Snake(channels),
            nn.Conv1d(channels, 2 * channels, 2 * stride, stride=stride, padding=(stride + 1) // 2),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)


class Rotation(nn.Module):
    """Rotary positions (Su et al., arXiv:2104.09864), counted from the beginning of each window."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 1.0 / (10000 ** (torch.arange(0, _HEAD, 2).float() / _HEAD)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        angles = torch.arange(x.shape[-2], device=x.device).to(self.inv_freq)[:, None] * self.inv_freq
        angles = torch.cat([angles, angles], dim=-1)
        first, second = x.chunk(2, dim=-1)
        return x * angles.cos() + torch.cat([-second, first], dim=-1) * angles.sin()


class LocalAttention(nn.Module):
    """`(B, D, T)`: its input plus attention within windows of frames; T is a multiple of the window."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window, self.heads = window, channels // _HEAD
        self.norm = nn.LayerNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.rel_pos = Rotation()
        self.to_out = nn.Linear(channels, channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, length = x.shape
        qkv = self.to_qkv(self.norm(x.transpose(1, 2)))
        qkv = qkv.reshape(batch, length // self.window, self.window, 3, self.heads, _HEAD)
        query, key, value = qkv.permute(3, 0, 4, 1, 2, 5)  # each (B, heads, windows, window, numbers)
        heard = functional.scaled_dot_product_attention(self.rel_pos(query), self.rel_pos(key), value)
        heard = heard.permute(0, 2, 3, 1, 4).reshape(batch, length, channels)
        return self.to_out(heard).transpose(1, 2) + x


class SnacEncoder(nn.Module):
    """`(B, 1, samples)` to `(B, D, samples / product of strides)`, `samples` a multiple of that times the window.

    Args:
        channels: after the first convolution; they double at every stride.
        strides: of the blocks.
        window: frames of a window of the local attention, `None` without one.
        depthwise: whether the convolutions within a block hear one channel each.
    """

    def __init__(
        self, *, channels: int, strides: Sequence[int], window: int | None = None, depthwise: bool = True
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(1, channels, 7, padding=3)]
        for stride in strides:
            layers.append(EncoderBlock(channels, stride, channels if depthwise else 1))
            channels *= 2
        if window is not None:
            layers.append(LocalAttention(channels, window))
        layers.append(nn.Conv1d(channels, channels, 7, padding=3, groups=channels if depthwise else 1))
        self.block = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)
