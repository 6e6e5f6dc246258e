"""Mean negative log probability of the true class, in nats."""

from collections.abc import Sequence

import numpy as np

from .base import Metric


def _terms(labels: np.ndarray, rows: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """(N,), cut off as in scikit-learn's `log_loss`, which gives their mean only."""
    own = rows[np.arange(len(rows)), _codes(labels, classes)]
    epsilon = np.finfo(np.float64).eps
    return -np.log(np.clip(own, epsilon, 1 - epsilon))


def _measure(labels: np.ndarray, rows: np.ndarray, classes: Sequence[str]) -> float:
    from sklearn.metrics import log_loss

    if len(classes) < 2:  # which scikit-learn refuses
        return 0.0
    # Numbers instead of names: scikit-learn takes the columns to stand in the order of the sorted labels.
    return float(log_loss(_codes(labels, classes), rows, labels=np.arange(len(classes))))


def _codes(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    place = {name: i for i, name in enumerate(classes)}
    return np.array([place[label] for label in labels], dtype=int)


LOG_LOSS = Metric(
    "log_loss", "log loss", _measure, needs="probabilities", unit="plain", higher_is_better=False, terms=_terms
)
