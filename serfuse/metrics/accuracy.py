"""Share of the clips that are predicted rightly."""

from collections.abc import Sequence

import numpy as np

from .base import Counts, Metric


def _measure(labels: np.ndarray, predicted: np.ndarray, present: Sequence[str]) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predicted))


def _of_counts(counts: Counts) -> np.ndarray:
    return counts.right.sum(axis=-1) / counts.total


ACCURACY = Metric("accuracy", "accuracy", _measure, short="Acc", of_counts=_of_counts)
