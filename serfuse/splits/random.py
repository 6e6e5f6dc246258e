"""The papers' folds: stratified at random, speakers and texts on both sides."""

from pathlib import Path

import numpy as np

from ..errors import SplitError
from .base import ClipTable, Parts, SplitMethod


def _random(table: ClipTable, folds: int, seed: int, folder: Path | None) -> list[Parts]:
    from sklearn.model_selection import StratifiedKFold

    classes, sizes = np.unique(table.labels, return_counts=True)
    few = {str(c): int(n) for c, n in zip(classes, sizes, strict=True) if n < folds}
    alone = [name for name, count in few.items() if count < 2]
    if alone:
        raise SplitError(
            f"There is one clip only of {', '.join(alone)}, which cannot be both trained on and tested. Add clips of "
            "it, or leave the emotion out."
        )
    if few:
        listed = ", ".join(f"{name} ({count})" for name, count in few.items())
        raise SplitError(
            f"{folds} stratified folds need at least {folds} clips of every class, but there are fewer of: {listed}. "
            f"Use --folds {min(few.values())}, add clips or leave the class out."
        )
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return [Parts(train, test) for train, test in splitter.split(table.ids, table.labels)]


RANDOM = SplitMethod("random", "stratified at random, as in the papers", _random)
