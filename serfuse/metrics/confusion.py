"""Confusion matrices of clusters, and the scores of many matrices at once: what the bootstrap draws from."""

from collections.abc import Sequence

import numpy as np

from . import intervals
from .base import Counts
from .table import SCORES


def scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """All of `SCORES` of many confusion matrices at once, (..., C, C) with true classes in rows -> (...).

    Classes without a clip are left out of the averages, as in `evaluate`.
    """
    counts = Counts.of(confusion)
    return {name: SCORES.get(name).of_counts(counts) for name in SCORES}


def confusion_by_cluster(
    labels: Sequence[str], predicted: Sequence[str], classes: Sequence[str], clusters: intervals.Clusters
) -> np.ndarray:
    """(clusters, C, C) counts, true classes in rows."""
    place = {str(name): i for i, name in enumerate(classes)}
    true = np.array([place[str(label)] for label in labels])
    given = np.array([place[str(label)] for label in predicted])
    shape = (len(classes), len(classes))
    return intervals.per_cluster(clusters.codes, clusters.number, true * len(classes) + given, shape)
