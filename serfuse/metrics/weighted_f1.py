"""Mean of F1 over the classes, each with its share of the clips."""

from collections.abc import Sequence

import numpy as np

from .base import Counts, Metric


def _measure(labels: np.ndarray, predicted: np.ndarray, present: Sequence[str]) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted, labels=present, average="weighted", zero_division=0))


def _of_counts(counts: Counts) -> np.ndarray:
    return (counts.f1 * counts.support).sum(axis=-1) / counts.total


WEIGHTED_F1 = Metric("weighted_f1", "weighted F1", _measure, short="WF1", of_counts=_of_counts)
