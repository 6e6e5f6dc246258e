"""Confusion matrices of clusters: what the bootstrap draws from."""

from collections.abc import Sequence

import numpy as np

from . import intervals


def confusion(labels: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> list[list[int]]:
    """C x C counts, true classes in rows; every label is one of the classes."""
    one = intervals.Clusters(np.zeros(len(labels), dtype=int), 1, "all")
    return confusion_by_cluster(labels, predicted, classes, one)[0].astype(int).tolist()


def confusion_by_cluster(
    labels: Sequence[str], predicted: Sequence[str], classes: Sequence[str], clusters: intervals.Clusters
) -> np.ndarray:
    """(clusters, C, C) counts, true classes in rows."""
    place = {str(name): i for i, name in enumerate(classes)}
    true = np.array([place[str(label)] for label in labels])
    given = np.array([place[str(label)] for label in predicted])
    shape = (len(classes), len(classes))
    return intervals.per_cluster(clusters.codes, clusters.number, true * len(classes) + given, shape)
