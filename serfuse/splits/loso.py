"""Leave one speaker out; of very many, a group of them at a time."""

from pathlib import Path

import numpy as np

from ..errors import SplitError
from .base import ClipTable, Parts, SplitMethod, one_part_each
from .grouping import codes, partition

MOST_SPEAKERS = 100
"""Up to this many speakers, `loso` leaves one out at a time: one model each."""

LEAST_GROUPS = 10
"""Of more speakers it makes this many groups, or as many as folds are asked for where that is more."""


def _loso(table: ClipTable, folds: int, seed: int, folder: Path | None) -> list[Parts]:
    distinct, code = _speakers(table)
    if len(distinct) <= MOST_SPEAKERS:
        return one_part_each(code, len(distinct))
    groups = min(max(folds, LEAST_GROUPS), len(distinct))
    part = partition(table.labels, table.columns["speaker"], groups, np.random.default_rng([seed, 0]))
    kind = table.speaker_kind
    return one_part_each(
        part,
        groups,
        f"There are {len(distinct)} {kind}s, more than {MOST_SPEAKERS}: {groups} groups of them are left out, one "
        f"group at a time, instead of {len(distinct)} models with one {kind} each (--split loso-all makes those).",
    )


def _loso_all(table: ClipTable, folds: int, seed: int, folder: Path | None) -> list[Parts]:
    distinct, code = _speakers(table)
    return one_part_each(code, len(distinct))


def _speakers(table: ClipTable) -> tuple[np.ndarray, np.ndarray]:
    distinct, code = codes(table.columns["speaker"])
    if len(distinct) < 2:
        raise SplitError(
            f"Leaving one {table.speaker_kind} out needs at least two, but all {len(table.ids)} clips have one "
            f"({distinct[0]!r}). Use the split 'random'."
        )
    return distinct, code


LOSO = SplitMethod(
    "loso",
    f"leave one speaker out; of more than {MOST_SPEAKERS}, one of {LEAST_GROUPS} groups (or of --folds, if more)",
    _loso,
    needs=("speaker",),
    apart=("speaker",),
)
LOSO_ALL = SplitMethod(
    "loso-all", "leave one speaker out, however many there are", _loso_all, needs=("speaker",), apart=("speaker",)
)
