"""Folds that somebody else made: the corpus's fold column, or an EmoBox folder."""

import re
from pathlib import Path

import numpy as np

from ..errors import SplitError
from . import emobox
from .base import ClipTable, Parts, SplitMethod
from .published import published

_PART_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "validation",
    "devel": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


def _given(table: ClipTable, folds: int, seed: int, folder: Path | None) -> list[Parts]:
    if folder is not None:
        return emobox.read(table, Path(folder))
    values = np.array([value.strip() for value in table.columns["fold"]], dtype=object)
    named = np.array([_PART_NAMES.get(value.lower()) for value in values], dtype=object)
    if all(name is not None for name in named):
        return [published(named == "train", named == "validation", named == "test", "the fold column")]
    distinct = sorted(set(values), key=_natural)
    parts = sorted({value for value, name in zip(values, named, strict=True) if name is not None})
    if parts:
        unknown = [value for value in distinct if value not in parts]
        raise SplitError(
            f"The fold column holds names of parts ({', '.join(parts)}) and others ({', '.join(unknown[:5])}). "
            "Expected one of train, validation and test for every clip, or one value per fold and no such name. Leave "
            "the other clips out of the table, or rename the values."
        )
    if len(distinct) < 2:
        raise SplitError(
            f"The fold column holds one value only ({distinct[0]!r}). It needs one value per fold (at least two), or "
            "'train' and 'test' (and 'validation') for one published split."
        )
    return [Parts(np.flatnonzero(values != value), np.flatnonzero(values == value)) for value in distinct]


def _natural(value: str) -> tuple:
    """Sort "fold_10" behind "fold_9"."""
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", value) if p)


GIVEN = SplitMethod(
    "given",
    "the corpus's fold column, or an EmoBox folder",
    _given,
    needs=("fold",),
    apart=None,
    reads_folder=True,
)
