"""Stretches of a file, one behind the other in memory without being read."""

import ctypes
import mmap
import sys
import weakref
from collections.abc import Sequence
from functools import cache
from io import FileIO
from pathlib import Path

import numpy as np


def mapped(path: Path, stretches: Sequence[tuple[int, int]], size: int) -> np.ndarray | None:
    """Vectors that lie in several places of a file as one array.

    The array is the caller's own: what is written into it stays in memory and never reaches the file. It stays readable
    when the file is removed.

    Args:
        path: the file.
        stretches: `(first byte, bytes)` of each; all but the first begin, and all but the last end, at a multiple of
            the size of a memory page.
        size: length of a vector.

    Returns:
        float32, shape `(N, size)`; `None` where the system cannot do it, which is then to be read.
    """
    if not sys.platform.startswith("linux") or sys.byteorder != "little":
        return None
    page = mmap.PAGESIZE
    total = sum(length for _, length in stretches)
    lead = stretches[0][0] % page
    if any(begin % page for begin, _ in stretches[1:]) or any((sum(part)) % page for part in stretches[:-1]):
        return None
    system = _system()
    access = mmap.PROT_READ | mmap.PROT_WRITE
    failed = ctypes.c_void_p(-1).value
    # Room for all of it, whose parts are then laid over with the file's.
    base = system.mmap(None, lead + total, access, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE, -1, 0)
    if base == failed:
        return None
    at = base
    with open(path, "rb") as file:
        for begin, length in stretches:
            start = begin - begin % page
            flags = mmap.MAP_PRIVATE | _FIXED | _NORESERVE
            if system.mmap(at, begin - start + length, access, flags, file.fileno(), start) == failed:
                system.munmap(base, lead + total)
                return None
            at += begin - start + length
    memory = (ctypes.c_char * (lead + total)).from_address(base)
    weakref.finalize(memory, system.munmap, base, lead + total)
    return np.frombuffer(memory, "<f4", offset=lead).reshape(-1, size)


def looked_at(file: FileIO, begin: int, end: int) -> np.ndarray | None:
    """Bytes of a file where the system keeps them, to be looked at once: reading them copies them first.

    Args:
        file: open for reading.
        begin: the first, at a multiple of the size of a memory page.
        end: behind the last.

    Returns:
        uint8; `None` where the system cannot do it or does not get them from the disk, which reading is to tell.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        memory = mmap.mmap(file.fileno(), end - begin, access=mmap.ACCESS_READ, offset=begin)
    except (OSError, ValueError):
        return None
    data = np.frombuffer(memory, np.uint8)
    return data if fetched(data) else None


def fetched(data: np.ndarray) -> bool:
    """Whether the pages of a stretch of a mapped file are in memory now, so that to look at them cannot fail.

    A page that the disk does not give, or that a file was cut off before, ends a process that looks at it. This asks
    the system for all of them at once, which is also quicker than meeting them one by one.

    Args:
        data: uint8, contiguous.

    Returns:
        False too where the system cannot tell (Linux before 5.14).
    """
    begin = data.ctypes.data
    start = begin - begin % mmap.PAGESIZE
    return _system().madvise(start, begin + data.nbytes - start, _POPULATE_READ) == 0


@cache
def _system() -> ctypes.CDLL:
    """The system's own functions."""
    system = ctypes.CDLL(None, use_errno=True)
    system.mmap.restype = ctypes.c_void_p
    system.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    system.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    system.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return system


_POPULATE_READ = 22
_FIXED, _NORESERVE = 0x10, 0x4000  # of Linux, on every processor but MIPS and Alpha, which NumPy is not built for
