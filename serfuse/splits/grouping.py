"""Partitions into whole groups (speakers, texts), with the classes spread evenly."""

import numpy as np

from ..errors import SplitError
from .base import ClipTable


def codes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the values: the sorted distinct ones, and the code of each `(N,)` among them."""
    distinct = np.array(sorted(set(values)), dtype=object)
    place = {value: i for i, value in enumerate(distinct)}
    return distinct, np.array([place[value] for value in values], dtype=int)


def partition(labels: np.ndarray, groups: np.ndarray, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Put whole groups into parts, 0 .. parts - 1 for each clip, classes spread evenly; another seed draws others.

    scikit-learn's StratifiedGroupKFold breaks only ties at random: on Emo-DB every seed gives the same five
    folds, so repeats over seeds would repeat one partition. Here groups are placed greedily, the larger ones
    first but in a perturbed order, each where it overlaps least with what is there; of `tries` such draws
    the best spread is kept.
    """
    tries, spread = 10, 0.6
    _, group = codes(groups)
    _, label = codes(labels)
    counts = np.zeros((group.max() + 1, label.max() + 1))
    np.add.at(counts, (group, label), 1)
    total = counts.sum(axis=0)
    # Each class in units of its own size, and the number of clips as one more "class".
    weighted = np.hstack([counts / np.sqrt(total), counts.sum(axis=1, keepdims=True) / np.sqrt(total.sum())])
    keys = np.log(counts.sum(axis=1)) + spread * rng.standard_normal((tries, len(counts)))
    order = np.argsort(-keys, axis=1, kind="stable")
    held = np.zeros((tries, parts, weighted.shape[1]))
    part = np.zeros((tries, len(counts)), dtype=int)
    rows = np.arange(tries)
    for step in range(len(counts)):
        chosen = order[:, step]
        incoming = weighted[chosen]
        # Growth of the summed squared deviation from even parts, up to a constant. An empty part has 0, the
        # least.
        target = np.argmin(np.einsum("tpc,tc->tp", held, incoming), axis=1)
        held[rows, target] += incoming
        part[rows, chosen] = target
    best = int(np.argmin(((held - held.mean(axis=1, keepdims=True)) ** 2).sum(axis=(1, 2))))
    return part[best][group]


def by_group(table: ClipTable, column: str, folds: int, rng: np.random.Generator, method: str) -> np.ndarray:
    """Draw the fold (0 .. folds - 1) that tests each clip, whole groups of `column` each.

    Args:
        table: the clips.
        column: "speaker" or "text".
        folds: number of folds.
        rng: draws the partition.
        method: name of the split, for messages.

    Raises:
        SplitError: fewer groups than folds.
    """
    distinct = set(table.columns[column])
    kind = table.name(column)
    if len(distinct) < 2:
        raise SplitError(
            f"The split {method!r} needs at least two {kind}s, but all {len(table.ids)} clips have one "
            f"({next(iter(distinct))!r}). Use the split 'random'."
        )
    if len(distinct) < folds:
        other = f", or the split 'loso' (one {kind} at a time)" if column == "speaker" else ""
        raise SplitError(
            f"{folds} folds under the split {method!r} need at least {folds} {kind}s, but there are {len(distinct)}. "
            f"Use --folds {len(distinct)}{other}."
        )
    return partition(table.labels, table.columns[column], folds, rng)
