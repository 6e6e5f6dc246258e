"""Multinomial regression: what turns scores into probabilities."""

from typing import Any

import numpy as np

from ..errors import RunError

_ITERATIONS = 5000


def fit(features: np.ndarray, labels: np.ndarray, classes: int, C: float) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients `(classes, F)` and intercepts `(classes,)`, minus infinity for a class without a clip.

    Args:
        features: `(N, F)`.
        labels: `(N,)` class numbers.
        classes: number of classes.
        C: inverse strength of the quadratic penalty.

    Raises:
        RunError: it does not converge.
    """
    from sklearn.linear_model import LogisticRegression

    found: Any = LogisticRegression(C=C, max_iter=_ITERATIONS).fit(features, labels)
    if found.n_iter_.max() >= _ITERATIONS:
        raise RunError(f"A regression on {features.shape[1]} scores does not converge with C={C:g}. Use a smaller one.")
    slopes, offsets = found.coef_, found.intercept_
    if len(slopes) == 1:  # two classes: one score, of the second against the first
        slopes, offsets = np.vstack([np.zeros_like(slopes), slopes]), np.append(0.0, offsets)
    coefficients, intercepts = np.zeros((classes, features.shape[1])), np.full(classes, -np.inf)
    coefficients[found.classes_], intercepts[found.classes_] = slopes, offsets
    return coefficients, intercepts


def probabilities(features: np.ndarray, coefficients: np.ndarray, intercepts: np.ndarray) -> np.ndarray:
    """Class probabilities `(N, classes)` of features `(N, F)`, rows summing to 1."""
    scores = features @ coefficients.T + intercepts
    found = np.exp(scores - scores.max(axis=1, keepdims=True))
    return found / found.sum(axis=1, keepdims=True)
