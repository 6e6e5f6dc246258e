"""Clips of different length in one pass of a causal convolutional encoder, each as if it were alone. Imports torch.

Nothing in such an encoder looks ahead but its strided convolutions, which fill a clip's last window by reflection. In a
batch that is padded to the longest clip, what they would reflect is the padding; so each clip gets its own reflection
written behind its end before each of them. What comes behind that is never looked at.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class ClipEnds:
    """Reflects each clip of a batch at its own end, while it is told their lengths.

    Args:
        strided: the modules with a stride, in the order in which they are run; each takes `(B, C, T)`, gives
            `(B, C', ceil(T / stride))`, and sees nothing behind a window but to fill it up.
        strides: of each.
    """

    def __init__(self, strided: Sequence[nn.Module], strides: Sequence[int]) -> None:
        self._strides = list(strides)
        self._fills: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] | None = None
        for number, module in enumerate(strided):
            module.register_forward_pre_hook(lambda _, args, number=number: self._filled(number, args))

    @contextmanager
    def over(self, samples: Sequence[int], device: str) -> Iterator[None]:
        """Within this, a pass is over clips of so many samples, each longer than any stride at every stage."""
        lengths, self._fills = list(samples), []
        for stride in self._strides:
            places = [
                (clip, length + step, length - 2 - step)
                for clip, length in enumerate(lengths)
                for step in range(-length % stride)
            ]
            self._fills.append(tuple(torch.tensor(places, dtype=torch.long).reshape(-1, 3).T.to(device)))
            lengths = [-(-length // stride) for length in lengths]
        try:
            yield
        finally:
            self._fills = None

    def _filled(self, number: int, args: tuple[Any, ...]) -> tuple[torch.Tensor] | None:
        if self._fills is None:
            return None
        (hidden,) = args
        clips, ends, insides = self._fills[number]
        hidden = functional.pad(hidden, (0, -hidden.shape[-1] % self._strides[number]))
        hidden[clips, :, ends] = hidden[clips, :, insides]
        return (hidden,)
