"""Pieces in several threads: in order, few at a time, and errors where they belong."""

import threading
import time
from collections.abc import Iterator

import pytest

from serfuse.store import together


def test_results_come_in_order_and_few_pieces_are_taken_ahead() -> None:
    taken, working, most = 0, 0, 0
    lock = threading.Lock()

    def pieces() -> Iterator[int]:
        nonlocal taken
        while taken < 1000:
            taken += 1
            yield taken

    def work(piece: int) -> int:
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
        time.sleep(0.0005 * (piece % 3))
        with lock:
            working -= 1
        return piece

    for count, found in enumerate(together.each(work, pieces(), threads=3), start=1):
        assert found == count and taken <= count + 7
    assert count == 1000 and 2 <= most <= 3


@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_raised_comes_in_its_turn_and_ends_the_work(threads: int) -> None:
    done = []

    def work(piece: int) -> int:
        if piece == 5:
            raise ValueError("five")
        done.append(piece)
        return piece

    found = []
    with pytest.raises(ValueError, match="five"):
        for piece in together.each(work, range(1000), threads):
            found.append(piece)
    assert found == [0, 1, 2, 3, 4] and len(done) < 20
    assert threading.active_count() == 1 or not any("ThreadPool" in one.name for one in threading.enumerate())


def test_one_item_is_made_while_the_one_before_is_worked_on() -> None:
    made, threads = [], set()

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            threads.add(threading.get_ident())
            yield number
        raise ValueError("behind the last")

    found = []
    with pytest.raises(ValueError, match="behind the last"):
        for item in together.ahead(items()):
            found.append(item)
            assert len(made) <= item + 2
    assert found == [0, 1, 2, 3, 4] and threading.get_ident() not in threads
    assert list(together.ahead([])) == []
