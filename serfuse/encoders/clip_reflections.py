"""Clips of different length in one pass of speechbrain's time-delay networks, each as if it were alone. Imports torch.

Their convolutions keep the number of frames by reflecting the batch at both ends. A shorter clip ends inside the batch,
so its reflection is written there first. What is further behind is never looked at: everything else in such a network
works frame by frame, or is told how long the clips are.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from speechbrain.nnet.CNN import Conv1d
from torch import nn

from .torch_inference import Told


class ClipReflections:
    """Writes each clip's reflection behind it in front of every convolution that looks around, while told their frames.

    Args:
        model: of speechbrain's convolutions, which keep the number of frames by reflecting both ends of the batch, and
            of layers that see each frame by itself or are told the clips' lengths.

    Attributes:
        reach: frames that the widest convolution looks ahead: so many must be free behind the longest clip, and each
            clip must have more.
    """

    def __init__(self, model: nn.Module) -> None:
        self.reach = 0
        self._places = Told[torch.Tensor]()
        for module in model.modules():
            if isinstance(module, Conv1d) and module.kernel_size > 1:
                ahead = module.dilation * (module.kernel_size - 1) // 2
                self.reach = max(self.reach, ahead)
                module.register_forward_pre_hook(partial(self._reflected, ahead))

    @contextmanager
    def over(self, frames: Sequence[int], device: str) -> Iterator[None]:
        """Within this, a pass is over clips of so many frames."""
        steps = torch.arange(self.reach)
        ends = torch.tensor(frames)[:, None]
        clips = torch.arange(len(frames))[:, None].expand(-1, self.reach)
        # For each step behind the ends: whose, where, and where from. Those of a shorter reach are the first of them.
        places = torch.stack([clips, ends + steps, ends - 2 - steps]).transpose(1, 2).to(device)
        with self._places.tell(places):
            yield

    def _reflected(self, ahead: int, module: nn.Module, args: tuple[Any, ...]) -> tuple[torch.Tensor] | None:
        places = self._places.now()
        if places is None:
            return None
        hidden = args[0] if module.skip_transpose else args[0].transpose(1, 2)
        clips, ends, insides = places[:, :ahead]
        hidden[clips, :, ends] = hidden[clips, :, insides]
        return None
