"""Check sums of a file by blocks, so that any few rows of it can be verified without reading the rest.

A block is 8,192 words of eight bytes; its sum is that of every word times a fixed odd number of its own, modulo 2^64.
An odd number has an inverse there, so a change within one word always changes the sum, and any other change does but
for one case in about 2^60. NumPy makes these sums at the speed of memory: CRC-32 takes three times as long, SHA-256
five times. They are against damage, not against people: who writes a part can write its sums.
"""

import hashlib

import numpy as np

BYTES = 1 << 16
_WORDS = BYTES // 8
# From a hash rather than from a generator of random numbers, whose stream may change with the version of NumPy.
_FACTORS = np.frombuffer(hashlib.shake_256(b"serfuse.blocks").digest(BYTES), "<u8").astype(np.uint64) | np.uint64(1)


def count(size: int) -> int:
    """Number of blocks of a file of `size` bytes, the last of which may be shorter."""
    return -(-size // BYTES)


def sums(data: memoryview) -> np.ndarray:
    """The sum of each block of `data`, uint64, shape `(count(len(data)),)`. A short last block is filled with zeros.

    Args:
        data: contiguous bytes.
    """
    whole = len(data) // BYTES
    found = np.empty(count(len(data)), np.uint64)
    if whole:
        words = np.frombuffer(data, "<u8", count=whole * _WORDS).reshape(whole, _WORDS)
        np.einsum("ij,j->i", words, _FACTORS, out=found[:whole])  # twice as fast as matmul, which is for floats
    if whole < len(found):
        rest = np.zeros(BYTES, np.uint8)
        rest[: len(data) - whole * BYTES] = np.frombuffer(data, np.uint8, offset=whole * BYTES)
        found[whole:] = rest.view("<u8").astype(np.uint64) @ _FACTORS
    return found


class Summing:
    """Sums of what is written bit by bit.

    Attributes:
        size: bytes so far.
    """

    def __init__(self) -> None:
        self.size = 0
        self._done: list[np.ndarray] = []
        self._rest = bytearray()

    def add(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        view = memoryview(data).cast("B")
        self.size += len(view)
        if self._rest:
            take = min(BYTES - len(self._rest), len(view))
            self._rest += view[:take]
            view = view[take:]
            if len(self._rest) == BYTES:
                self._done.append(sums(memoryview(self._rest)))
                self._rest = bytearray()
        whole = len(view) // BYTES * BYTES
        if whole:
            self._done.append(sums(view[:whole]))
        self._rest += view[whole:]

    def finish(self) -> np.ndarray:
        """The sums of all blocks."""
        rest = [sums(memoryview(self._rest))] if self._rest else []
        return np.concatenate([*self._done, *rest, np.empty(0, np.uint64)])
