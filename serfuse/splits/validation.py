"""The inner validation part: drawn from training, kept apart from it as the test part is."""

from collections.abc import Sequence

import numpy as np

from ..errors import SplitError
from .base import ClipTable, Parts
from .grouping import codes, partition


def kept_apart(table: ClipTable, drawn: Sequence[Parts]) -> tuple[str, ...]:
    """Tell which of speaker and text no fold has on both sides."""
    result = []
    for column in ("speaker", "text"):
        values = table.columns[column]
        if all(value is not None for value in values) and all(
            not set(values[parts.train]) & set(values[parts.test]) for parts in drawn
        ):
            result.append(column)
    return tuple(result)


def draw(
    table: ClipTable, train: np.ndarray, apart: tuple[str, ...], fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Split `train` into (training, validation) positions; nothing named in `apart` is on both sides."""
    if fraction == 0:
        return train, train[:0]
    if not apart:
        chosen = _stratified(table.labels[train], fraction, rng)
        return train[~chosen], train[chosen]
    for column in apart:
        values = set(table.columns[column][train])
        if len(values) < 2:
            raise SplitError(
                f"The training part of a fold holds one {table.name(column)} only ({next(iter(values))!r}), so no "
                "validation part can be kept apart from it. Go without one, and so without early stopping: --set "
                "training.validation_fraction=0."
            )
    # Held out in one column: a block of 1/k of its values. In two: 1/sqrt(k) of each, since only clips in
    # both held-out blocks can validate.
    blocks = max(2, round(fraction ** (-1 / len(apart))))
    parts = []
    for column in apart:
        values = table.columns[column][train]
        parts.append(partition(table.labels[train], values, min(blocks, len(set(values))), rng))
    best: tuple[int, np.ndarray, np.ndarray] | None = None
    distinct, label = codes(table.labels[train])
    counts = [part.max() + 1 for part in parts]
    for cell in rng.permutation(int(np.prod(counts))):
        held = [part == k for part, k in zip(parts, np.unravel_index(cell, counts), strict=True)]
        inside, outside = np.logical_and.reduce(held), ~np.logical_or.reduce(held)
        if not inside.any() or _covered(label[outside]) < len(distinct):
            continue
        covered = _covered(label[inside])
        if best is None or covered > best[0]:
            best = covered, outside, inside
    if best is None:
        kinds = " and ".join(table.name(column) for column in apart)
        raise SplitError(
            f"No validation part can be kept apart by {kinds} without taking the last clips of a class out of "
            "training. Go without one, and so without early stopping: --set training.validation_fraction=0."
        )
    return train[best[1]], train[best[2]]


def _covered(label: np.ndarray) -> int:
    """How many classes have a clip."""
    return int(np.count_nonzero(np.bincount(label)))


def _stratified(labels: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Mark the share `fraction` of each class, at least one clip of a class that has two, never all of
    one."""
    chosen = np.zeros(len(labels), dtype=bool)
    for label in sorted(set(labels)):
        places = np.flatnonzero(labels == label)
        number = min(max(round(fraction * len(places)), 1), len(places) - 1)
        chosen[rng.permutation(places)[:number]] = True
    return chosen
