"""Work on pieces of a file in several threads, whose results come in the order of the pieces."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Piece = TypeVar("Piece")
Found = TypeVar("Found")
_MOST_THREADS = 8


def each(work: Callable[[Piece], Found], pieces: Iterable[Piece], threads: int | None = None) -> Iterator[Found]:
    """What `work` makes of each piece, in their order; no more than a few are taken up ahead.

    NumPy's sums, reading and the system's calls leave Python's lock to the other threads.

    Args:
        work: is called in several threads at once. What it raises is raised here, when its piece's turn comes.
        pieces: taken one by one, in the caller's thread.
        threads: how many; by default one per processor that this process may use, up to eight.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = threads or max(1, min(_MOST_THREADS, usable))
    if count == 1 or (isinstance(pieces, Sized) and len(pieces) < 2):
        yield from map(work, pieces)
        return
    with ThreadPoolExecutor(count) as pool:
        begun: deque[Future[Found]] = deque()
        try:
            for piece in pieces:
                begun.append(pool.submit(work, piece))
                if len(begun) > 2 * count:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()


def ahead(items: Iterable[Found]) -> Iterator[Found]:
    """The items, each of which another thread makes while the one before is worked on.

    Args:
        items: taken one by one in that thread. What it raises is raised here.
    """
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, source, end)
            yield item  # type: ignore[misc]
