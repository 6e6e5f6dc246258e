"""Who works on what, when several processes share a folder.

One file, of which each unit owns one byte: whoever works on the unit holds the operating system's lock on that byte.
The system lets go of it when the process ends, however it ends, so a claim can never be left behind.
"""

import errno
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .atomic_io import write_error

try:
    import fcntl
except ImportError:  # Windows: units may be run twice; finished ones are safe all the same
    fcntl = None

_TAKEN = (errno.EACCES, errno.EAGAIN)
_PAUSE = 0.05


class Claims:
    """The claims of one process on the units of a folder.

    Args:
        path: the file, created if need be.

    Raises:
        WriteError: it cannot be created.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise write_error(path, error) from None
        self._path = path
        self._held: set[str] = set()

    def take(self, unit: str) -> bool:
        """Claim a unit; `False` when another process has it."""
        if unit in self._held:
            return True
        if not self._lock(1, _place(unit)):
            return False
        self._held.add(unit)
        return True

    def take_all(self) -> bool:
        """Claim every unit there may be, until `close`; `False` when another process has any."""
        return self._lock(0, 0)  # of no length: to the end of the file, wherever that comes to be

    def _lock(self, length: int, start: int) -> bool:
        if fcntl is not None:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
            except OSError as error:
                if error.errno in _TAKEN:
                    return False
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                    raise write_error(self._path, error) from None
                # A file system without locks: units may be run twice by two processes, and either result is right.
        return True

    def release(self, unit: str) -> None:
        """Let go of a unit."""
        if unit in self._held:
            self._held.discard(unit)
            if fcntl is not None:
                with suppress(OSError):
                    fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(unit))

    @contextmanager
    def holding(self, unit: str) -> Iterator[None]:
        """Hold a unit for the block, once whoever has it has let go of it."""
        while not self.take(unit):
            time.sleep(_PAUSE)
        try:
            yield
        finally:
            self.release(unit)

    def close(self) -> None:
        """Let go of everything."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self._held.clear()


def held(path: Path, units: Iterable[str]) -> set[str] | None:
    """Those of `units` that some process has claimed, on whichever machine; `None` where locks cannot tell.

    Each lock is tried for an instant. Who asks for the unit in that instant comes back to it later. Not for a
    process that has claims itself: the system gives up all its locks on a file when it closes any descriptor of it.
    """
    if fcntl is None:
        return None
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return set()
    found = set()
    try:
        for unit in units:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _place(unit))
            except OSError as error:
                if error.errno not in _TAKEN:
                    return None
                found.add(unit)
            else:
                fcntl.lockf(file, fcntl.LOCK_UN, 1, _place(unit))
    finally:
        os.close(file)
    return found


def _place(unit: str) -> int:
    """A byte of its own for each unit: 47 bits of a hash, so that two of a million units meet once in 280 times."""
    return int.from_bytes(hashlib.sha256(unit.encode()).digest()[:6], "big") >> 1
