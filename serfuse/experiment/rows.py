"""Some rows of an array that is larger than memory, without a copy of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

COPIED_BYTES = 1 << 29
"""Rows of an array up to this size are copied, as one does; of a larger one they are read when they are looked at."""


class Rows:
    """Some rows of an array, which are read when they are looked at.

    What is asked of it is what an array would give: `rows[3]`, `rows[5:9]`, `rows[[4, 1]]` and `rows[mask]` are arrays
    of those rows, and `numpy.asarray(rows)` is all of them.

    Args:
        source: `(M, ...)`, mapped from a file, say; or `Stacked`.
        numbers: the rows of `source`, in the order that is wanted, int64.
    """

    def __init__(self, source: "np.ndarray | Stacked", numbers: np.ndarray) -> None:
        self.source, self.numbers = source, np.asarray(numbers, np.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    def __repr__(self) -> str:
        return f"Rows(shape={self.shape}, dtype={self.dtype})"

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.numbers), *self.source.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        return self.source.dtype

    @property
    def ndim(self) -> int:
        return self.source.ndim

    @property
    def nbytes(self) -> int:
        """Of the rows, were they copied."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __getitem__(self, which: Any) -> np.ndarray:
        if isinstance(which, tuple):
            return self.source[self.numbers[which[0]]][(slice(None), *which[1:])]
        return self.source[self.numbers[which]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("Rows of a mapped array are no array without a copy.")
        found = self.source[self.numbers]
        return found if dtype is None else found.astype(dtype, copy=False)


class Stacked:
    """Arrays `(N, D)` side by side as one `(N, L, D)`, of which the rows that are looked at are copied and no others.

    Args:
        sources: of one shape, mapped from files, say.
    """

    def __init__(self, sources: Sequence[np.ndarray]) -> None:
        self.sources = list(sources)
        if len({source.shape for source in self.sources}) != 1:
            raise ValueError(f"Arrays of one shape are stacked, received {[source.shape for source in self.sources]}.")

    def __len__(self) -> int:
        return len(self.sources[0])

    def __repr__(self) -> str:
        return f"Stacked(shape={self.shape}, dtype={self.dtype})"

    @property
    def shape(self) -> tuple[int, ...]:
        count, size = self.sources[0].shape
        return count, len(self.sources), size

    @property
    def dtype(self) -> np.dtype:
        return self.sources[0].dtype

    @property
    def ndim(self) -> int:
        return 3

    @property
    def nbytes(self) -> int:
        """Of all of it, were it copied."""
        return sum(source.nbytes for source in self.sources)

    def __getitem__(self, which: Any) -> np.ndarray:
        if isinstance(which, tuple):
            return self[which[0]][(slice(None), *which[1:])]
        return np.stack([source[which] for source in self.sources], axis=-2)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("Stacked arrays are no array without a copy.")
        found = self[:]
        return found if dtype is None else found.astype(dtype, copy=False)


Array = np.ndarray | Rows | Stacked


def are_mapped(arrays: Mapping[str, Any]) -> bool:
    """Whether some of these are `Rows`, so that no more than a batch of them is to be looked at."""
    return any(isinstance(array, Rows) for array in arrays.values())


def take(array: Array, numbers: np.ndarray) -> Array:
    """Some rows of an array: a copy, or `Rows` where it is one of those or larger than `COPIED_BYTES`.

    Args:
        array: `(N, ...)`.
        numbers: of the rows.
    """
    if isinstance(array, Rows):
        return Rows(array.source, array.numbers[numbers])
    return Rows(array, numbers) if array.nbytes > COPIED_BYTES else array[numbers]


def joined(first: Array, second: Array) -> Array:
    """The rows of one array and behind them those of another, without a copy where both are rows of one source."""
    if isinstance(first, Rows) and isinstance(second, Rows) and first.source is second.source:
        return Rows(first.source, np.concatenate([first.numbers, second.numbers]))
    return np.concatenate([np.asarray(first), np.asarray(second)])
