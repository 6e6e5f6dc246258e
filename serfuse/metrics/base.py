"""What a figure of merit is, and what it is measured on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

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
    def of_sums(cls, sums: np.ndarray) -> "Counts":
        """Count in `(..., 3 C)`: diagonals, row sums and column sums of confusion matrices, one behind the other."""
        right, support, given = np.split(sums, 3, axis=-1)
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
class Tested:
    """Predictions of a set of clips.

    Attributes:
        labels: (N,) true classes.
        predicted: (N,) predicted classes.
        probabilities: (N, C) whose rows sum to 1, columns as `classes`; `None` where the model gives none.
        classes: all classes, also those without a clip here.
    """

    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray | None
    classes: tuple[str, ...]

    def rows(self, chosen: np.ndarray) -> "Tested":
        """Take some of the clips, by position; a clip may come more than once."""
        rows = None if self.probabilities is None else self.probabilities[chosen]
        return Tested(self.labels[chosen], self.predicted[chosen], rows, self.classes)


@dataclass(frozen=True)
class Metric:
    """A figure of merit.

    Only `name`, `title` and `measure` must be given. The two optional forms are for the bootstrap, which asks for the
    figure of thousands of draws; without them it measures a few hundred draws one by one.

    Attributes:
        name: registry name, as files have it.
        title: as sentences and tables have it.
        measure: with `needs="predictions"` `(labels (N,), predicted (N,), classes that have a clip) -> float`; with
            `needs="probabilities"` `(labels (N,), probabilities (N, C), all C classes) -> float`. NaN where it is
            not defined.
        short: heading of a narrow column; the title by default.
        needs: what it is a figure of.
        unit: "percent", a share between 0 and 1 that is shown in per cent, or "plain", any number, shown as it is.
        higher_is_better: the direction.
        of_counts: the same figure of many confusion matrices at once, `(Counts) -> (...)`.
        terms: `(labels, probabilities, classes) -> (N,)` of positive numbers whose mean is the figure.
        interval: whether it gets an interval; not where the bootstrap is known not to cover.
    """

    name: str
    title: str
    measure: Callable[[np.ndarray, np.ndarray, Sequence[str]], float]
    short: str = ""
    needs: Literal["predictions", "probabilities"] = "predictions"
    unit: Literal["percent", "plain"] = "percent"
    higher_is_better: bool = True
    of_counts: Callable[[Counts], np.ndarray] | None = None
    terms: Callable[[np.ndarray, np.ndarray, Sequence[str]], np.ndarray] | None = None
    interval: bool = True

    @property
    def heading(self) -> str:
        """Give the heading of a narrow column."""
        return self.short or self.title

    def scaled(self, value: float | None) -> float | None:
        """Give the value as it is shown: in per cent, or as it is."""
        return 100 * value if value is not None and self.unit == "percent" else value

    def shown(self, value: object, sign: bool = False) -> str:
        """Word a value for people, `0.8066` -> `80.7` in per cent and `0.807` plain; a dash where there is none."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            return "-"
        mark = "+" if sign else ""
        return f"{100 * value:{mark}.1f}" if self.unit == "percent" else f"{value:{mark}.3f}"

    def shown_range(self, low: object, high: object) -> str:
        """`76.1 to 84.7`; a dash where either end is missing."""
        ends = self.shown(low), self.shown(high)
        return "-" if "-" in ends else " to ".join(ends)
