"""How much memory there is, and how much a unit takes."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from ..errors import ConfigError
from ..machine import available

GUESS = 1 << 30
"""Peak of a unit before anything was measured: TensorFlow itself takes about half of it."""

GROWTH = 1 << 30
"""What a worker may grow by before a new process takes its place.

Keras' optimizers on TensorFlow register a gradient for every training step that is traced, and TensorFlow keeps it with
the graph around it for good: 7 MiB for each small network, so gigabytes over a thousand units.
"""

_HEADROOM = 1.15
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """`"8G"` -> bytes.

    Raises:
        ConfigError: not a size.
    """
    number = text.strip().upper().removesuffix("B").removesuffix("I")
    unit = number[-1:] if number[-1:] in "KMGT" else ""
    try:
        size = float(number.removesuffix(unit)) * _SIZES[unit]
    except ValueError:
        size = 0.0
    if not 0 < size < float("inf"):
        raise ConfigError(f"Cannot read the size {text!r}; expected for example 8G or 800M.")
    return int(size)


def resident(pid: int) -> int:
    """Bytes that a process takes now, 0 when it is gone."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def start_peak() -> None:
    """Begin a new measurement of this process's peak, where the system can do that (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Most bytes this process has taken since `start_peak`; where that cannot be told, since it began."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return resident(os.getpid())
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(found if sys.platform == "darwin" else found * 1024)


class Growth:
    """Says when one worker has grown so much that it is better replaced."""

    def __init__(self) -> None:
        self._first = 0

    def too_much(self, resident_bytes: int, limit: int = GROWTH) -> bool:
        """Whether the worker, which takes this much after a unit, took more than `limit` less after its first one."""
        self._first = self._first or resident_bytes
        return resident_bytes - self._first > limit


class Budget:
    """Says whether the memory allows for one more unit, from what units took so far.

    Args:
        limit: bytes that all workers together may take; `None` for what the machine has.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._peaks: dict[str, int] = {}

    def learn(self, kind: str, peak_bytes: int) -> None:
        """Remember what a unit of this kind took."""
        if peak_bytes > 0:
            self._peaks[kind] = max(self._peaks.get(kind, 0), peak_bytes)

    def need(self, kind: str) -> int:
        """Bytes that a unit of this kind is expected to take: measured, or the most that any took so far."""
        known = self._peaks.get(kind)
        if known is None:
            known = max([GUESS, *self._peaks.values()])
        return int(known * _HEADROOM)

    def allows(self, kind: str, own: int, running: dict[int, str], idle: int = 0) -> bool:
        """Whether a unit may start beside those that run.

        Args:
            kind: of the unit.
            own: bytes that the worker which would run it takes already, 0 for a worker not yet started.
            running: process id of every worker at work -> kind of its unit.
            idle: bytes that further workers take, which have nothing to do.
        """
        taken = {pid: resident(pid) for pid in running}
        growth = sum(max(self.need(of) - taken[pid], 0) for pid, of in running.items())
        room = available()
        if self.limit is not None:
            room = min(room, self.limit - sum(taken.values()) - own - idle)
        return self.need(kind) - own <= room - growth
