"""Residual vector quantisation (Zeghidour et al., arXiv:2107.03312, algorithm 1), for the encoders of codecs.

Each codebook quantises what those before it left. Imports torch: for family files only.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from ..errors import WeightsError
from .base import EncoderPreset
from .checkpoints.state_dict import some
from .codec import count_codebooks


class ResidualVQ(nn.Module):
    """`(B, D, T)` to the sum of the vectors that the codebooks choose, `(B, D, T)`: the nearest by Euclidean distance.

    Args:
        codebooks: each `(K, D)`.
    """

    def __init__(self, codebooks: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.codebooks = nn.ParameterList([nn.Parameter(book, requires_grad=False) for book in codebooks])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = x.transpose(1, 2)
        total = torch.zeros_like(residual)
        for book in self.codebooks:
            distance = residual.square().sum(-1, keepdim=True) - 2 * residual @ book.T + book.square().sum(-1)
            chosen = functional.embedding(distance.argmin(dim=-1), book)
            total, residual = total + chosen, residual - chosen
        return total.transpose(1, 2)


class FactorisedVQ(nn.Module):
    """DAC's: each codebook looks in a space of few dimensions of its own, by cosine (Kumar et al., section 3.2).

    Args:
        parts: of each codebook the weight and bias of the projection into that space, `(d, D)` and `(d,)`, those of the
            one back, `(D, d)` and `(D,)`, and its vectors `(K, d)`.
        strides: frames that each codebook hears as one, their mean (SNAC); T is a multiple of them all.
    """

    def __init__(self, parts: Sequence[Sequence[torch.Tensor]], strides: Sequence[int] | None = None) -> None:
        super().__init__()
        self.strides = tuple(strides or [1] * len(parts))
        self.parts = nn.ModuleList(
            nn.ParameterList([nn.Parameter(tensor, requires_grad=False) for tensor in part]) for part in parts
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual, total = x, torch.zeros_like(x)
        for (into, into_bias, back, back_bias, book), stride in zip(self.parts, self.strides, strict=True):
            heard = functional.avg_pool1d(residual, stride, stride) if stride > 1 else residual
            low = functional.conv1d(heard, into[..., None], into_bias)
            likeness = functional.normalize(low.transpose(1, 2), dim=-1) @ functional.normalize(book).T
            chosen = functional.embedding(likeness.argmax(dim=-1), book).transpose(1, 2)
            step = functional.conv1d(chosen, back[..., None], back_bias)
            step = step.repeat_interleave(stride, dim=-1) if stride > 1 else step
            total, residual = total + step, residual - step
        return total


def quantiser_of(
    preset: EncoderPreset, state: dict[str, torch.Tensor], name: str, asked: int | None, path: Path, *, dimension: int
) -> tuple[ResidualVQ | None, int]:
    """The quantiser of a checkpoint, and how many codebooks it sums.

    Args:
        preset: the encoder.
        state: the checkpoint's tensors.
        name: of a codebook, with `{}` in the place of its number.
        asked: how many are summed, `None` for all; 0 gives no quantiser.
        path: of the checkpoint, for messages.
        dimension: D of the frames.

    Raises:
        WeightsError: the codebooks are absent, damaged, or do not fit the encoder.
        ConfigError: there are not so many.
    """
    if asked == 0:
        return None, 0
    count = 0
    while name.format(count) in state:
        count += 1
    if count == 0:
        raise WeightsError(f"{path} lacks {name.format(0)}, which codebooks={asked or 'all'} needs. {preset.where}")
    number = count_codebooks(preset, asked, count)
    books = []
    for place in range(number):
        book = state[name.format(place)].float()
        book = book[0] if book.ndim == 3 and len(book) == 1 else book  # one head, as vector_quantize_pytorch writes it
        if book.ndim != 2 or book.shape[1] != dimension or not len(book):
            raise WeightsError(
                f"{path} holds another model than {preset.name}: {name.format(place)} has shape {tuple(book.shape)}, "
                f"expected vectors of {dimension} numbers. {preset.where}"
            )
        books.append(book.clone())
    check_finite(preset, {name.format(place): book for place, book in enumerate(books)}, path)
    return ResidualVQ(books), number


def check_finite(preset: EncoderPreset, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Refuse tensors with NaN or infinite numbers.

    Raises:
        WeightsError: naming them.
    """
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise WeightsError(f"{path} is damaged: {some(broken)} hold NaN or infinite numbers. {preset.where}")


def random_quantiser(preset: EncoderPreset, dimension: int, asked: int | None) -> tuple[ResidualVQ | None, int]:
    """As `quantiser_of`, with vectors drawn from torch's generator: as many and as large as the published model's.

    Raises:
        ConfigError: there are not so many.
    """
    count, size = preset.config["codebooks"]
    number = count_codebooks(preset, asked, count)
    books = [torch.randn(size, dimension) / math.sqrt(dimension) for _ in range(number)]
    return (ResidualVQ(books) if books else None), number
