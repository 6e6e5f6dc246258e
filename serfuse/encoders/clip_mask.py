"""Clips of different length in one pass of a speech transformer, each as if it were alone. Imports torch.

An attention mask is not enough: the base models' first convolution is followed by a norm over time, whose statistics
would take the padding in, and convolutions inside the transformer expect zeros behind a clip's end and find whatever
the layers before made of the padding. Here the norm sees each clip by itself, and the padding is emptied before each
such convolution. What is left of the padding is never looked at: the convolutions of the front end reach only forward
by whole frames, everything else works frame by frame, and attention is masked.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class ClipMask:
    """Makes the parts of a model that look along time keep to the clips of a batch, while it is told their lengths.

    Args:
        model: of transformers' wav2vec 2.0 kind, with `feature_extractor.conv_layers` and `encoder`. A norm over time
            behind its first convolution is replaced by one with the same weights.
    """

    def __init__(self, model: nn.Module) -> None:
        first = model.feature_extractor.conv_layers[0]
        self._norm: _NormOfEach | None = None
        self._first = (first.conv.kernel_size[0], first.conv.stride[0])
        self._mask: torch.Tensor | None = None
        norm = getattr(first, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            self._norm = first.layer_norm = _NormOfEach(norm)
        for module in model.encoder.modules():
            if isinstance(module, nn.Conv1d) and module.kernel_size[0] > 1:
                module.register_forward_pre_hook(self._empty)

    @contextmanager
    def over(self, samples: Sequence[int], mask: torch.Tensor) -> Iterator[None]:
        """Within this, a pass is over clips of so many samples.

        Args:
            samples: of each clip of the batch.
            mask: `(B, T)`, true for the frames of each clip.
        """
        kernel, stride = self._first
        self._mask = mask
        if self._norm is not None:
            self._norm.lengths = [(count - kernel) // stride + 1 for count in samples]
        try:
            yield
        finally:
            self._mask = None
            if self._norm is not None:
                self._norm.lengths = None

    def _empty(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[torch.Tensor] | None:
        """Zeros behind each clip in what goes into a convolution, `(B, D, T)`."""
        if self._mask is None:
            return None
        return (args[0].masked_fill(~self._mask[:, None], 0.0),)


class _NormOfEach(nn.GroupNorm):
    """A norm over time of each clip by itself.

    Args:
        norm: whose weights it takes over.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        # Without numbers of its own: under a meta device or a half precision too it has those of the other.
        super().__init__(norm.num_groups, norm.num_channels, norm.eps, affine=False)
        self.weight, self.bias = norm.weight, norm.bias
        self.lengths: Sequence[int] | None = None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.lengths is None:
            return super().forward(hidden)
        normed = torch.zeros_like(hidden)
        for number, length in enumerate(self.lengths):
            normed[number, :, :length] = super().forward(hidden[number : number + 1, :, :length])[0]
        return normed
