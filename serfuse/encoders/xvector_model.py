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


def network(**config: Any) -> Xvector:
    """The architecture, with whatever weights torch's generator and default device give."""
    model = Xvector(**config)
    for position, layer in enumerate(model.blocks):
        if isinstance(layer, StatisticsPooling):
            model.blocks[position] = FixedNoisePooling()
    return model
