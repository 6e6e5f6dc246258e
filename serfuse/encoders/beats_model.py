"""The network of BEATs (Chen et al., arXiv:2212.09058), a transformer over patches of a spectrogram. Imports torch.

Written from the architecture; the modules' names are those of the published checkpoints, weight norm multiplied out.
"""

import math

import torch
from torch import nn
from torch.nn import functional

PATCH = 16
"""Columns and bands of a patch."""

_BUCKETS, _FARTHEST = 320, 800
_CONVOLUTION, _GROUPS = 128, 16


class Attention(nn.Module):
    """Attention whose bias for the distance of two patches is gated by what is asked (as WavLM's)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.relative_attention_bias = nn.Embedding(_BUCKETS, heads)
        self.grep_linear = nn.Linear(width // heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, heads, 1, 1))

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        first, second = self.grep_linear(query).unflatten(-1, (2, 4)).sum(-1).sigmoid().chunk(2, dim=-1)
        gate = first * (second * self.grep_a - 1.0) + 2.0
        heard = functional.scaled_dot_product_attention(query, key, value, attn_mask=gate * bias)
        return self.out_proj(heard.transpose(1, 2).flatten(2))

    def bias(self, length: int) -> torch.Tensor:
        """For each pair of patches, `(1, heads, length, length)`: near distances apart, far ones by their logarithm."""
        place = torch.arange(length, device=self.grep_a.device)
        distance = place - place[:, None]
        half, exact = _BUCKETS // 2, _BUCKETS // 4
        far = torch.log(distance.abs().clamp_min(1).float() / exact) / math.log(_FARTHEST / exact) * (half - exact)
        bucket = torch.where(distance.abs() < exact, distance.abs(), (exact + far.long()).clamp_max(half - 1))
        return self.relative_attention_bias(bucket + half * (distance > 0)).permute(2, 0, 1)[None]


class Layer(nn.Module):
    """Attention and two linear layers, a norm behind either; what goes around them is scaled up (DeepNorm)."""

    def __init__(self, width: int, heads: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        x = self.self_attn_layer_norm(self.scale * x + self.self_attn(x, bias))
        return self.final_layer_norm(self.scale * x + self.fc2(functional.gelu(self.fc1(x))))


class Transformer(nn.Module):
    """Patches `(B, N, width)` with what a convolution over their neighbours adds, through the layers."""

    def __init__(self, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        half = _CONVOLUTION // 2
        self.pos_conv = nn.Sequential(nn.Conv1d(width, width, _CONVOLUTION, padding=half, groups=_GROUPS), nn.GELU())
        self.layer_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Layer(width, heads, hidden, (2 * layers) ** 0.25) for _ in range(layers))
        for layer in self.layers[1:]:  # one for all, under the name of each
            layer.self_attn.relative_attention_bias = self.layers[0].self_attn.relative_attention_bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer_norm(x + self.pos_conv(x.transpose(1, 2))[:, :, :-1].transpose(1, 2))
        bias = self.layers[0].self_attn.bias(x.shape[1])
        for layer in self.layers:
            x = layer(x, bias)
        return x


class BeatsNetwork(nn.Module):
    """Spectrograms `(B, T, bands)` to `(B, N, width)`, a row per patch, all bands of one time before the next time.

    Args:
        patch: numbers of a patch before it is widened.
        width: of a row.
        heads: of the attention.
        hidden: numbers between the two linear layers of a layer.
        layers: how many there are.
    """

    def __init__(self, *, patch: int, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(1, patch, PATCH, stride=PATCH, bias=False)
        self.layer_norm = nn.LayerNorm(patch)
        self.post_extract_proj = nn.Linear(patch, width)
        self.encoder = Transformer(width, heads, hidden, layers)

    def forward(self, bands: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embedding(bands[:, None]).flatten(2).transpose(1, 2)
        return self.encoder(self.post_extract_proj(self.layer_norm(patches)))
