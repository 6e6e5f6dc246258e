"""speechbrain's x-vector network, with noise that does not change from call to call."""

from typing import Any

import torch
from speechbrain.lobes.models.Xvector import Xvector
from speechbrain.nnet.pooling import StatisticsPooling

NOISE_SEED = 0
"""Seed of the noise that statistics pooling adds."""


class FixedNoisePooling(StatisticsPooling):
    """speechbrain's pooling, whose noise (1e-5 to 9e-5, also in evaluation) is one draw instead of ever new ones.

    It is drawn for one clip, so that a clip gives the same vector alone, in a batch, and on every device.
    """

    def _get_gauss_noise(self, shape_of_tensor: torch.Size, device: Any = "cpu") -> torch.Tensor:
        generator = torch.Generator().manual_seed(NOISE_SEED)
        noise = torch.randn((1, shape_of_tensor[-1]), generator=generator)
        noise -= noise.min()
        noise /= noise.max()
        return (self.eps * (9 - 8 * noise)).to(device)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """`(B, T, D)` to `(B, 1, 2 D)`. Unlike speechbrain's it does not ask a GPU for each of the lengths."""
        if lengths is None:
            return super().forward(x)
        own = torch.arange(x.shape[1], device=x.device) < (lengths * x.shape[1])[:, None]
        count, own = own.sum(dim=1)[:, None], own[:, :, None]
        mean = torch.where(own, x, 0.0).sum(dim=1) / count
        squares = torch.where(own, x - mean[:, None], 0.0).square().sum(dim=1)
        deviation = (squares / (count - 1)).sqrt() + self.eps
        return torch.cat([mean + self._get_gauss_noise(mean.shape, x.device), deviation], dim=1)[:, None]


class Network(Xvector):
    """speechbrain's network, of which only the pooling is told how long the clips are."""

    def forward(self, x: torch.Tensor, lens: torch.Tensor | None = None) -> torch.Tensor:
        """`(B, T, bands)` to `(B, 1, D)`; `lens`: part of T of each clip, `(B,)`."""
        for layer in self.blocks:
            x = layer(x, lens) if isinstance(layer, StatisticsPooling) else layer(x)
        return x


def network(**config: Any) -> Network:
    """The architecture, with whatever weights torch's generator and default device give."""
    model = Network(**config)
    for position, layer in enumerate(model.blocks):
        if isinstance(layer, StatisticsPooling):
            model.blocks[position] = FixedNoisePooling()
    return model
