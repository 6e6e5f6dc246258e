"""Folds within a training part, for what is chosen or learned from held-out clips of it."""

from collections.abc import Mapping

import numpy as np

from ..errors import SplitError
from .grouping import partition

_TRIES = 20
_LEAST = 2  # clips of each class that are left to learn from: probabilities are estimated on folds of their own


def inner_folds(
    labels: np.ndarray, groups: Mapping[str, np.ndarray], folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Row numbers to learn from and to hold out, each row held out once.

    Args:
        labels: `(N,)` class numbers; each class is spread evenly over the folds.
        groups: `{"speaker": (N,), ...}`, what no fold may have on both sides; under two of them a fold leaves out the
            clips that share only the one or the other with what it holds out.
        folds: number of folds, about that number where there are two kinds of groups; fewer where there are fewer
            groups, or clips of a class.
        seed: decides the folds.

    Raises:
        SplitError: a class would not have two clips left to learn from in some fold, however it is drawn.
    """
    sizes = np.bincount(labels)
    sizes = sizes[sizes > 0]
    for attempt in range(_TRIES if groups else 1):
        rng = np.random.default_rng([seed, attempt, 3])
        found = _grouped(labels, groups, folds, rng) if groups else _stratified(labels, min(folds, sizes.min()), seed)
        if found and all(_enough(labels, learned, len(sizes)) for learned, _ in found):
            return found
    kinds = " and ".join(groups)
    raise SplitError(
        f"Inner folds of a training part of {len(labels)} clips would leave fewer than {_LEAST} clips of some emotion "
        f"to learn from{f', since they keep apart by {kinds}' if kinds else ''}. Use a model that needs no inner folds "
        "('late'), go without training.search, or leave out the emotion of which there are few clips."
    )


def _stratified(labels: np.ndarray, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedKFold

    if folds < 2:
        return []
    splitter = StratifiedKFold(int(folds), shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(labels)), labels))


def _grouped(
    labels: np.ndarray, groups: Mapping[str, np.ndarray], folds: int, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    blocks = folds if len(groups) == 1 else max(2, round(folds ** (1 / len(groups))))
    parts = []
    for values in groups.values():
        number = min(blocks, len(set(values)))
        if number < 2:
            return []
        parts.append(partition(labels, values, number, rng))
    found = []
    for cell in np.ndindex(*(part.max() + 1 for part in parts)):
        held = [part == place for part, place in zip(parts, cell, strict=True)]
        out = np.flatnonzero(np.logical_and.reduce(held))
        if len(out):
            found.append((np.flatnonzero(~np.logical_or.reduce(held)), out))
    return found


def _enough(labels: np.ndarray, learned: np.ndarray, classes: int) -> bool:
    counts = np.bincount(labels[learned])
    return np.count_nonzero(counts >= _LEAST) == classes
