"""Google's speech embedding as torch modules: a spectrogram of 32 mel bands, and convolutions over it.

Imports torch: for family files only.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional

WINDOW, STEP = 512, 160
"""Samples of one column of the spectrogram, and from one to the next."""

_SILENCE = 1e-10  # least power, in the squared unit of 16-bit samples
_RANGE = 80.0  # decibels below the loudest value of the clip
_SLOPE, _FLOOR = 0.2, -0.4


class Spectrogram(torch.nn.Module):
    """Mel bands in decibels, no lower than 80 below the clip's loudest, then divided by 10, plus 2."""

    def __init__(self, bins: int, bands: int) -> None:
        super().__init__()
        # Constants of a transform, not learned; the file holds them as it holds weights.
        self.register_buffer("cosine", torch.randn(bins, 1, WINDOW) / WINDOW**0.5)
        self.register_buffer("sine", torch.randn(bins, 1, WINDOW) / WINDOW**0.5)
        self.register_buffer("bands", torch.rand(bins, bands) / bins)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """`(B, samples)` in the range of 16-bit integers to `(B, T, bands)`."""
        power = sum(functional.conv1d(samples[:, None], part, stride=STEP) ** 2 for part in (self.cosine, self.sine))
        decibel = 10 * torch.log10((power.transpose(1, 2) @ self.bands).clamp(min=_SILENCE))
        return torch.maximum(decibel, decibel.amax(dim=(1, 2), keepdim=True) - _RANGE) / 10 + 2


class Convolutions(torch.nn.Module):
    """The convolutions, over a whole spectrogram at once.

    The original cuts windows of 76 columns every 8 and runs each by itself. Nothing pads the time axis and the pooling
    there strides by 8 in all, so that one pass gives the same numbers in a tenth of the work.
    """

    def __init__(self, layers: Sequence[Sequence[int]]) -> None:
        """
        Args:
            layers: of each convolution its width, its kernel over time and over bands, and the size of the pooling
                behind it over time and over bands.
        """
        super().__init__()
        self.pools = [tuple(layer[3:]) for layer in layers]
        widths = [1, *(layer[0] for layer in layers)]
        self.convolutions = torch.nn.ModuleList(
            torch.nn.Conv2d(before, width, (time, band), padding=(0, band // 2))
            for before, (width, time, band, _, _) in zip(widths, layers, strict=False)
        )

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """`(B, 76 + 8 (T - 1), 32)` to `(B, T, D)`."""
        x = spectrogram[:, None]
        last = len(self.pools) - 1
        for number, (convolution, pool) in enumerate(zip(self.convolutions, self.pools, strict=True)):
            x = convolution(x)
            if number < last:
                x = functional.leaky_relu(x, _SLOPE).clamp(min=_FLOOR)
            if pool != (1, 1):
                x = functional.max_pool2d(x, pool)
        return x.squeeze(3).transpose(1, 2)


class Network(torch.nn.Module):
    """Both, to be run one after the other."""

    def __init__(self, bins: int, bands: int, layers: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(bins, bands)
        self.convolutions = Convolutions(layers)
