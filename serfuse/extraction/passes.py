"""Passes of encoders that are under way: two at once on a CPU, where an encoder takes that.

A pass has moments in which one core works: Python's between two operations, a recurrence, the end of each operation,
when the faster threads wait for the slowest. Another pass fills them. Each has as many threads as it has alone, so that
its numbers are the same.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from ..corpora.base import Clip

_WAITING = 1  # passes that are ready for the moment when one of those under way ends

Owner = TypeVar("Owner")
Outcomes = list[list[np.ndarray] | Exception]
"""Of the clips of a pass, see `embed_each`."""


@dataclass(eq=False)
class Pass(Generic[Owner]):
    """One pass over some clips.

    Attributes:
        owner: whose it is.
        clips: that go through it.
        seconds: of audio.
        make: runs it.
    """

    owner: Owner
    clips: Sequence[Clip]
    seconds: float
    make: Callable[[], Outcomes]
    _future: Future[Outcomes] | None = field(default=None, init=False)

    def begin(self, pool: ThreadPoolExecutor) -> None:
        """Have a thread run it."""
        self._future = pool.submit(self.make)

    @property
    def ended(self) -> bool:
        """Whether it has made something already."""
        return self._future is not None and self._future.done() and self._future.exception() is None

    def wait(self) -> None:
        """Until it has ended, if it was begun."""
        if self._future is not None:
            wait([self._future])

    def outcomes(self) -> Outcomes:
        """What it made: it is waited for, or run here and now if it was not begun.

        Raises:
            Exception: whatever it raised.
        """
        return self.make() if self._future is None else self._future.result()


class Passes(Generic[Owner]):
    """Passes in the order in which they were begun. Leaving the block waits for none of them.

    Args:
        at_once: how many run at once.
        seconds: audio that those have together which were begun, unless there is one only.
    """

    def __init__(self, at_once: int, seconds: float) -> None:
        self._at_once, self._seconds = at_once, seconds
        self._begun: deque[Pass[Owner]] = deque()
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="serfuse-pass")

    def __enter__(self) -> "Passes[Owner]":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def room(self, seconds: float = math.inf) -> bool:
        """Whether one more of so much audio may begin; by default, whether none is under way."""
        if not self._begun:
            return True
        audio = seconds + sum(one.seconds for one in self._begun)
        return len(self._begun) < self._at_once + _WAITING and audio <= self._seconds

    def begin(self, one: Pass[Owner]) -> None:
        """Run it in a thread."""
        self._begun.append(one)
        one.begin(self._pool)

    def oldest(self) -> Pass[Owner]:
        """The one that was begun first, when it has ended; it is no longer counted."""
        self._begun[0].wait()  # whatever interrupts this leaves it where it is
        return self._begun.popleft()

    def ended(self) -> list[Pass[Owner]]:
        """Those that have made something which nobody has taken."""
        return [one for one in self._begun if one.ended]
