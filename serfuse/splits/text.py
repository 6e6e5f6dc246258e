"""Folds of whole sentences or words."""

from pathlib import Path

import numpy as np

from .base import ClipTable, Parts, SplitMethod, one_part_each
from .grouping import by_group


def _text(table: ClipTable, folds: int, seed: int, folder: Path | None) -> list[Parts]:
    part = by_group(table, "text", folds, np.random.default_rng([seed, 0]), "text")
    return one_part_each(part, folds)


TEXT = SplitMethod("text", "no sentence or word on both sides", _text, needs=("text",), apart=("text",))
