"""Probabilities of a support vector machine, from the decisions between each two classes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..models import regression

PENALTY = 1.0
"""Inverse strength of the regression's penalty."""


@dataclass
class PairwiseCalibration:
    """A fitted machine whose decisions between each two classes a multinomial regression makes into probabilities.

    Platt, "Probabilistic outputs for support vector machines", 1999, has a regression on the one decision between two
    classes. Of more classes there are as many decisions as pairs, and all of them together say more than a score for
    each class against the rest, which counts won pairs.

    Attributes:
        estimator: pipeline that ends in a `SVC`, fitted on all clips.
        coefficients: `(classes, pairs)`.
        intercepts: `(classes,)`.
    """

    estimator: Any
    coefficients: np.ndarray
    intercepts: np.ndarray

    @classmethod
    def fit(
        cls,
        estimator: Any,
        columns: np.ndarray,
        labels: np.ndarray,
        folds: Iterable[tuple[np.ndarray, np.ndarray]],
    ) -> "PairwiseCalibration":
        """Fit the regression on decisions about clips that the machine has not seen.

        Args:
            estimator: fitted on all clips.
            columns: `(N, D)`.
            labels: `(N,)` class numbers.
            folds: rows to learn from and to hold out, so that each is held out once.
        """
        from sklearn.base import clone

        known, codes = np.unique(labels, return_inverse=True)
        held = np.zeros((len(labels), len(known) * (len(known) - 1) // 2))
        for learned, out in folds:
            held[out] = decisions(clone(estimator).fit(columns[learned], labels[learned]), columns[out])
        return cls(estimator, *regression.fit(held, codes, len(known), PENALTY))

    def predict_proba(self, columns: np.ndarray) -> np.ndarray:
        """Probabilities `(N, classes that it knows)`."""
        return regression.probabilities(decisions(self.estimator, columns), self.coefficients, self.intercepts)


def decisions(estimator: Any, columns: np.ndarray) -> np.ndarray:
    """The decision of a pipeline that ends in a `SVC` between each two classes: `(N, pairs)`."""
    svc = estimator[-1]
    shape = svc.decision_function_shape
    svc.decision_function_shape = "ovo"
    try:
        return np.asarray(estimator.decision_function(columns)).reshape(len(columns), -1)
    finally:
        svc.decision_function_shape = shape
