"""Mean over the classes of F1, the harmonic mean of precision and recall."""

from collections.abc import Sequence

import numpy as np

from .base import Counts, Metric


def _measure(labels: np.ndarray, predicted: np.ndarray, present: Sequence[str]) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted, labels=present, average="macro", zero_division=0))


def _of_counts(counts: Counts) -> np.ndarray:
    return counts.f1.sum(axis=-1) / counts.classes


MACRO_F1 = Metric("macro_f1", "macro-F1", _measure, short="F1", of_counts=_of_counts)
