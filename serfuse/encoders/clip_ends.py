"""Clips of different length in one pass of a convolutional encoder, each as if it were alone. Imports torch.

In a batch that is padded to the longest clip, a convolution that looks beyond a clip's end finds what the layers before
made of the padding, and not what it finds beyond the end of a clip that is alone. So that is written there first.

Nothing in a causal encoder looks ahead but its strided convolutions, which fill a clip's last window by reflection:
what comes behind that is never looked at. Others find zeros.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .torch_inference import Told


class ClipEnds:
    """Reflects each clip of a batch at its own end, while it is told their lengths.

    Args:
        strided: the modules with a stride, in the order in which they are run; each takes `(B, C, T)`, gives
            `(B, C', ceil(T / stride))`, and sees nothing behind a window but to fill it up.
        strides: of each.
    """

    def __init__(self, strided: Sequence[nn.Module], strides: Sequence[int]) -> None:
        self._strides = list(strides)
        self._fills = Told[list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]()
        for number, module in enumerate(strided):
            module.register_forward_pre_hook(lambda _, args, number=number: self._filled(number, args))

    @contextmanager
    def over(self, samples: Sequence[int], device: str) -> Iterator[None]:
        """Within this, a pass is over clips of so many samples, each longer than any stride at every stage."""
        lengths, fills = list(samples), []
        for stride in self._strides:
            places = [
                (clip, length + step, length - 2 - step)
                for clip, length in enumerate(lengths)
                for step in range(-length % stride)
            ]
            fills.append(tuple(torch.tensor(places, dtype=torch.long).reshape(-1, 3).T.to(device)))
            lengths = [-(-length // stride) for length in lengths]
        with self._fills.tell(fills):
            yield

    def _filled(self, number: int, args: tuple[Any, ...]) -> tuple[torch.Tensor] | None:
        fills = self._fills.now()
        if fills is None:
            return None
        (hidden,) = args
        clips, ends, insides = fills[number]
        hidden = functional.pad(hidden, (0, -hidden.shape[-1] % self._strides[number]))
        hidden[clips, :, ends] = hidden[clips, :, insides]
        return (hidden,)


class ClipZeros:
    """Empties what is behind each clip in front of every convolution that looks around, while it is told their lengths.

    Args:
        model: of convolutions that are padded with zeros, and layers that see each moment by itself; at every stage a
            clip's length is the same part of the batch's.
    """

    def __init__(self, model: nn.Module) -> None:
        self._lengths = Told[tuple[torch.Tensor, int]]()
        for module in model.modules():
            if isinstance(module, nn.Conv1d) and module.kernel_size[0] > 1:
                module.register_forward_pre_hook(self._emptied)

    @contextmanager
    def over(self, samples: Sequence[int], device: str) -> Iterator[None]:
        """Within this, a pass is over clips of so many samples, whole frames all of them."""
        with self._lengths.tell((torch.tensor(samples, device=device), max(samples))):
            yield

    def _emptied(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[torch.Tensor] | None:
        over = self._lengths.now()
        if over is None:
            return None
        (hidden,) = args
        lengths = over[0] * hidden.shape[-1] // over[1]
        behind = torch.arange(hidden.shape[-1], device=hidden.device) >= lengths[:, None]
        return (hidden.masked_fill(behind[:, None], 0.0),)
