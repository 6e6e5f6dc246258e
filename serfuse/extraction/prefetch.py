"""Batches read by threads while encoders work on the ones before."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from ..corpora.base import Clip
from ..encoders.turns import TURNS

_READERS = 2  # more of them wait for each other: half of what they do is Python's
_TOGETHER = 4  # clips of a batch that one of them reads before it tells of them
_REST = 0.01  # seconds that a clip waits at most while a GPU is given its work; some models launch all of the time
_MOST = 256  # batches that wait at once, however short: there are corpora of clips of which nothing can be read

Read = TypeVar("Read")
Batch = TypeVar("Batch")


class ReadAhead(Generic[Batch, Read]):
    """Batches with what their clips are read to, by threads, while encoders work.

    Args:
        read: of a clip of a batch; an exception is the outcome of that clip.
        batches: in the order they are wanted; asked for the next one only when there is room for it.
        clips: of a batch.
        cost: seconds of audio of a batch.
        budget: seconds of audio that may wait in memory, asked again for each batch.
    """

    def __init__(
        self,
        read: Callable[[Batch, Clip], Read],
        batches: Iterable[Batch],
        clips: Callable[[Batch], list[Clip]],
        cost: Callable[[Batch], float],
        budget: Callable[[], float],
    ) -> None:
        self._read, self._batches, self._clips, self._cost, self._budget = read, batches, clips, cost, budget
        self._pool = ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1), thread_name_prefix="serfuse-read")

    def __enter__(self) -> Iterator[tuple[Batch, list[Read | Exception]]]:
        return self._ahead()

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ahead(self) -> Iterator[tuple[Batch, list[Read | Exception]]]:
        waiting: deque[tuple[Batch, list[Future[list[Read | Exception]]], float]] = deque()
        ahead = 0.0
        coming = iter(self._batches)
        more = True
        while more or waiting:
            # Always one batch beyond the one being worked on, and more as long as they are small.
            while more and (len(waiting) < 2 or (ahead < self._budget() and len(waiting) < _MOST)):
                batch = next(coming, None)
                if batch is None:
                    more = False
                    break
                seconds = self._cost(batch)
                clips = self._clips(batch)
                starts = range(0, len(clips), _TOGETHER)
                futures = [self._pool.submit(self._some, batch, clips[at : at + _TOGETHER]) for at in starts]
                waiting.append((batch, futures, seconds))
                ahead += seconds
            if waiting:
                batch, futures, seconds = waiting.popleft()
                ahead -= seconds
                yield batch, [outcome for future in futures for outcome in future.result()]

    def _some(self, batch: Batch, clips: Sequence[Clip]) -> list[Read | Exception]:
        return [self._one(batch, clip) for clip in clips]

    def _one(self, batch: Batch, clip: Clip) -> Read | Exception:
        TURNS.rest(_REST)
        try:
            return self._read(batch, clip)
        except Exception as error:
            return error
