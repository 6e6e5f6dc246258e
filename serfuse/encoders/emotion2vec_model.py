"""The network of emotion2vec (Ma et al., arXiv:2312.15185), a data2vec 2.0 of 12 layers. Imports torch.

Written from the architecture. The modules' names are those of the published checkpoints below
`modality_encoders.AUDIO`, but for `layers` and `norm`: see `emotion2vec.own_names`.
"""

import math

import torch
from torch import nn
from torch.nn import functional

_KERNELS, _STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
_POSITIONS, _POSITION_KERNEL, _POSITION_GROUPS = 5, 19, 16


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of `(B, D, T)`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Convolutions(nn.Module):
    """Waveforms `(B, samples)` to `(B, D, T)`, one frame per 320 samples."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        sizes = zip((1, *[channels] * 6), _KERNELS, _STRIDES, strict=True)
        self.conv_layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(inputs, channels, kernel, stride, bias=False),
                nn.Identity(),
                nn.Sequential(nn.Identity(), ChannelNorm(channels)),
                nn.GELU(),
            )
            for inputs, kernel, stride in sizes
        )

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        x = waveforms[:, None]
        for layer in self.conv_layers:
            x = layer(x)
        return x


class Positions(nn.Sequential):
    """What is added to frames `(B, T, D)` for where they stand: grouped convolutions over their neighbours."""

    def __init__(self, width: int) -> None:
        layers = [
            nn.Sequential(
                nn.Conv1d(width, width, _POSITION_KERNEL, padding=_POSITION_KERNEL // 2, groups=_POSITION_GROUPS),
                ChannelNorm(width, elementwise_affine=False),
                nn.GELU(),
            )
            for _ in range(_POSITIONS)
        ]
        super().__init__(nn.Identity(), *layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Attention(nn.Module):
    """Attention of several heads; `bias` is added to the likeness of each pair of frames."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        heard = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.proj(heard.transpose(1, 2).reshape(batch, length, width))


class Layer(nn.Module):
    """Attention and a network of two linear layers, a norm behind either."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        x = self.norm1(x + self.attn(x, bias))
        return self.norm2(x + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](x))))


class Emotion2VecNetwork(nn.Module):
    """Waveforms `(B, samples)` to `(B, T + tokens, width)`; what belongs to the learned tokens stands at the end.

    The original puts them first. Nothing in a layer depends on the order but the bias, which is 0 for them.

    Args:
        channels: of the convolutions.
        width: of a frame.
        heads: of the attention.
        hidden: numbers between the two linear layers of a layer.
        layers: of the context encoder and of the model behind it together.
        tokens: that are learned and stand for the utterance.
    """

    def __init__(self, *, channels: int, width: int, heads: int, hidden: int, layers: int, tokens: int) -> None:
        super().__init__()
        self.local_encoder = Convolutions(channels)
        self.project_features = nn.Sequential(nn.Identity(), nn.LayerNorm(channels), nn.Linear(channels, width))
        self.relative_positional_encoder = Positions(width)
        self.extra_tokens = nn.Parameter(torch.zeros(1, tokens, width))
        self.alibi_scale = nn.Parameter(torch.ones(1, 1, heads, 1, 1))
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Layer(width, heads, hidden) for _ in range(layers))

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        x = self.project_features(self.local_encoder(waveforms).transpose(1, 2))
        x = x + self.relative_positional_encoder(x)
        bias = self._bias(x.shape[1])
        x = self.norm(torch.cat([x, self.extra_tokens.expand(len(x), -1, -1)], dim=1))
        for layer in self.layers:
            x = layer(x, bias)
        return x

    def _bias(self, frames: int) -> torch.Tensor:
        """What attention loses with the distance of two frames, `(1, heads, N, N)` (Press et al., arXiv:2108.12409)."""
        scale = self.alibi_scale
        place = torch.arange(frames, device=scale.device)
        distance = (place[:, None] - place).abs().to(torch.float32)
        slopes = torch.tensor(alibi_slopes(scale.numel()), device=scale.device).reshape(1, -1, 1, 1)
        bias = -distance * slopes * scale.float().clamp_min(0)[0]
        return functional.pad(bias, (0, self.extra_tokens.shape[1]) * 2).to(scale.dtype)


def alibi_slopes(heads: int) -> list[float]:
    """How much each head loses per frame: a geometric series, filled up from the next finer one beside a power of 2."""
    nearest = 2 ** int(math.log2(heads))
    slopes = [2.0 ** (-8 * (number + 1) / nearest) for number in range(nearest)]
    return slopes + (alibi_slopes(2 * nearest)[::2][: heads - nearest] if heads > nearest else [])
