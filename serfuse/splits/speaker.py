"""Folds of whole speakers."""

from pathlib import Path

import numpy as np

from .base import ClipTable, Parts, SplitMethod, one_part_each
from .grouping import by_group


def _speaker(table: ClipTable, folds: int, seed: int, folder: Path | None) -> list[Parts]:
    part = by_group(table, "speaker", folds, np.random.default_rng([seed, 0]), "speaker")
    return one_part_each(part, folds)


SPEAKER = SplitMethod(
    "speaker", "no speaker on both sides, stratified", _speaker, needs=("speaker",), apart=("speaker",)
)
