"""What a figure of merit is: a score of the predicted classes, or a loss of the probabilities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Counts:
    """What confusion matrices count, many at once.

    Attributes:
        right: (..., C) clips of each class that were found.
        support: (..., C) clips of each class.
        given: (..., C) clips that were put into each class.
        present: (..., C) whether a class has a clip at all.
        classes: (...) number of classes that have.
        total: (...) number of clips.
    """

    right: np.ndarray
    support: np.ndarray
    given: np.ndarray
    present: np.ndarray
    classes: np.ndarray
    total: np.ndarray

    @classmethod
    def of(cls, confusion: np.ndarray) -> "Counts":
        """From (..., C, C) counts, true classes in rows."""
        right = np.diagonal(confusion, axis1=-2, axis2=-1)
        support, given = confusion.sum(axis=-1), confusion.sum(axis=-2)
        present = support > 0
        return cls(right, support, given, present, present.sum(axis=-1), support.sum(axis=-1))

    @property
    def recall(self) -> np.ndarray:
        """(..., C); 0 for a class without a clip."""
        return self.right / np.where(self.present, self.support, 1)

    @property
    def f1(self) -> np.ndarray:
        """(..., C); 2 TP / (2 TP + FP + FN), 0 for a class without a clip."""
        return np.where(self.present, 2 * self.right / np.where(self.present, self.support + self.given, 1), 0)


@dataclass(frozen=True)
class Score:
    """A figure between 0 and 1, higher is better, that follows from the confusion matrix alone.

    Attributes:
        name: registry name, as files have it.
        title: as sentences and tables have it.
        short: heading of a narrow column.
        measure: `(labels, predicted, present classes) -> float`, by scikit-learn.
        of_counts: the same figure of many confusion matrices at once, `(Counts) -> (...)`, for the bootstrap, where
            scikit-learn would be called thousands of times.
    """

    name: str
    title: str
    short: str
    measure: Callable[[np.ndarray, np.ndarray, Sequence[str]], float]
    of_counts: Callable[[Counts], np.ndarray]


@dataclass(frozen=True)
class Loss:
    """A figure of the probabilities, lower is better.

    Attributes:
        name: registry name, as files have it.
        title: as sentences and tables have it.
        measure: `(labels, (N, C) probabilities, classes) -> float`.
        terms: `(labels, probabilities, classes) -> (N,)` whose mean is the figure, which gives it an interval; `None`
            where it is no mean over clips.
    """

    name: str
    title: str
    measure: Callable[[np.ndarray, np.ndarray, Sequence[str]], float]
    terms: Callable[[np.ndarray, np.ndarray, Sequence[str]], np.ndarray] | None = None
