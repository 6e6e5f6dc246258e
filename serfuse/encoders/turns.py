"""Whose turn it is at Python's lock while a GPU is given its work.

A pass is hundreds of small operations, and each lets go of that lock and takes it again: beside threads that decode it
waits for one of them every time. So they rest between two clips while something is launched, and work while the GPU
does.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


class Turns:
    """Threads that launch something, and others that let them."""

    def __init__(self) -> None:
        self._launching = 0
        self._changed = threading.Condition()
        self._own = threading.local()

    @contextmanager
    def launching(self) -> Iterator[None]:
        """Within this, the thread gives a GPU its work."""
        self._own.launches = True
        self._add(1)
        try:
            yield
        finally:
            self._add(-1)
            self._own.launches = False

    @property
    def mine(self) -> bool:
        """Whether this thread is launching something."""
        return getattr(self._own, "launches", False)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within this, a thread that was launching waits for the GPU."""
        if not self.mine:
            yield
            return
        self._add(-1)
        try:
            yield
        finally:
            self._add(1)

    def rest(self, seconds: float) -> None:
        """Wait while something is launched, for so long at most: there are encoders that do not say that they wait."""
        with self._changed:
            self._changed.wait_for(lambda: not self._launching, seconds)

    def _add(self, count: int) -> None:
        with self._changed:
            self._launching += count
            if not self._launching:
                self._changed.notify_all()


TURNS = Turns()
"""Of this process."""


def on_host(tensor: "torch.Tensor") -> np.ndarray:
    """What a device has computed, as an array; other threads have their turn until it is there.

    While embeddings are made of one batch after the other, it is copied into pinned memory, which torch keeps for the
    next one: pages that are new take longer than the copy. Who asks for frames to keep them gets memory of the usual
    kind.
    """
    with TURNS.waiting():
        if TURNS.mine and tensor.is_cuda:
            import torch

            return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor).numpy()
        return tensor.cpu().numpy()
