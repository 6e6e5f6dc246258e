"""Signals that end a command."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_current: Callable[[], None] | None = None


@contextmanager
def terminated_like_interrupted() -> Iterator[Callable[[], None]]:
    """Let `kill` (and a batch system's time limit) end the work as orderly as Ctrl-C does.

    `Progress` holds this guard for as long as it is open. Inside another one it is the same guard.

    Yields:
        a function to call now and then: it raises `KeyboardInterrupt` if a signal came whose own was swallowed. Python
        prints and drops an exception that arises while an object is being freed, which training does all the time.
    """
    global _current
    if _current is not None:
        yield _current
        return
    came = False

    def stop(number: int, frame: Any) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    # Where SIGINT is ignored (a job in the background of a script) or another's, it stays so.
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    try:
        before = {number: signal.signal(number, stop) for number in numbers}
    except ValueError:  # not the main thread
        yield check
        return
    try:
        _current = check
        yield check
    finally:
        _current = None
        for number, handler in before.items():
            signal.signal(number, handler)
