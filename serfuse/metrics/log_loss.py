"""Mean negative log probability of the true class, in nats."""

from collections.abc import Sequence

import numpy as np

from .base import Loss


def _terms(labels: np.ndarray, rows: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """(N,), cut off as in scikit-learn's `log_loss`."""
    place = {name: i for i, name in enumerate(classes)}
    own = rows[np.arange(len(rows)), [place[label] for label in labels]]
    epsilon = np.finfo(np.float64).eps
    return -np.log(np.clip(own, epsilon, 1 - epsilon))


def _measure(labels: np.ndarray, rows: np.ndarray, classes: Sequence[str]) -> float:
    return float(np.mean(_terms(labels, rows, classes)))


LOG_LOSS = Loss("log_loss", "log loss", _measure, _terms)
