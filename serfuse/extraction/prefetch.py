"""Clips read by threads while an encoder works on the ones before."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ..corpora.base import Clip

_READERS = 4


class ReadAhead:
    """Groups of clips with their waveforms, read by threads while the encoder works.

    Args:
        read: from a clip to its waveform; an exception is the outcome of that clip.
        groups: the clips, in the order they are wanted.
        cost: seconds of audio of a clip.
        budget: seconds of audio that may wait in memory.
    """

    def __init__(
        self,
        read: Callable[[Clip], np.ndarray],
        groups: Sequence[list[Clip]],
        cost: Callable[[Clip], float],
        budget: float,
    ) -> None:
        self._read, self._groups, self._cost, self._budget = read, groups, cost, budget
        self._pool = ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1), thread_name_prefix="serfuse-read")

    def __enter__(self) -> Iterator[tuple[list[Clip], list[np.ndarray | Exception]]]:
        return self._batches()

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _batches(self) -> Iterator[tuple[list[Clip], list[np.ndarray | Exception]]]:
        waiting: deque[tuple[list[Clip], list[Future[np.ndarray]], float]] = deque()
        ahead = 0.0
        for group in [*self._groups, None]:
            # Always one group beyond the one being worked on, and more as long as they are small.
            while waiting and (group is None or (ahead >= self._budget and len(waiting) > 1)):
                clips, futures, seconds = waiting.popleft()
                ahead -= seconds
                yield clips, [_outcome(future) for future in futures]
            if group is not None:
                seconds = sum(self._cost(clip) for clip in group)
                waiting.append((group, [self._pool.submit(self._read, clip) for clip in group], seconds))
                ahead += seconds


def _outcome(future: "Future[np.ndarray]") -> np.ndarray | Exception:
    try:
        return future.result()
    except Exception as error:
        return error
