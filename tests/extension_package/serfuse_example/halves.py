"""A split: speakers in alphabetical order, the first half tested by models of the second, and the other way round."""

from pathlib import Path

import numpy as np

from serfuse.errors import SplitError
from serfuse.splits import ClipTable, Parts, SplitMethod


def _assign(table: ClipTable, folds: int, seed: int, folder: Path | None) -> list[Parts]:
    speakers = sorted(set(table.columns["speaker"]))
    if len(speakers) < 2:
        raise SplitError(f"Halves need at least two {table.speaker_kind}s, received {len(speakers)}.")
    first = np.isin(table.columns["speaker"].astype(str), speakers[: len(speakers) // 2])
    halves = np.flatnonzero(first), np.flatnonzero(~first)
    return [Parts(train=halves[1], test=halves[0]), Parts(train=halves[0], test=halves[1])]


HALVES = SplitMethod("halves", "two halves of the speakers", _assign, needs=("speaker",), apart=("speaker",))
