"""Unweighted average recall: mean over the classes of the share that is found; also called balanced accuracy."""

from collections.abc import Sequence

import numpy as np

from .base import Counts, Metric


def _measure(labels: np.ndarray, predicted: np.ndarray, present: Sequence[str]) -> float:
    from sklearn.metrics import recall_score

    return float(recall_score(labels, predicted, labels=present, average="macro", zero_division=0))


def _of_counts(counts: Counts) -> np.ndarray:
    return counts.recall.sum(axis=-1) / counts.classes


UAR = Metric("uar", "UAR", _measure, short="UAR", of_counts=_of_counts)
