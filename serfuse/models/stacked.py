"""Stacking: a multinomial regression on what a head for each representation says of clips that it has not seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from . import heads, regression
from .base import MAX_INPUTS, Model
from .late import DRAWN, Experts, fit_heads, log_features
from .task import Task


class StackedOptions(heads.HeadOptions):
    """Settings of `stacked`."""

    C: float = Field(0.1, gt=0, description="inverse strength of the regression's penalty")
    folds: int = Field(5, ge=2, le=20, description="inner folds, grouped as the run's split is")


@dataclass
class Stacked(Experts):
    """Heads joined by a regression on the logarithms of their probabilities.

    Attributes:
        coefficients: `(classes, inputs * classes)`.
        intercepts: `(classes,)`; minus infinity for a class of which the training part holds no clip.
    """

    coefficients: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    intercepts: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def parameters(self) -> int:
        return super().parameters + self.coefficients.size + self.intercepts.size

    def joined(self, opinions: Mapping[str, np.ndarray]) -> np.ndarray:
        return regression.probabilities(log_features(opinions), self.coefficients, self.intercepts)


def fit(task: Task) -> Stacked:
    """Fit heads on inner folds, the regression on what they say of held-out clips, and the heads anew on all.

    Wolpert, "Stacked generalization", Neural Networks 5, 1992; on probabilities, as Ting and Witten, "Issues in
    stacked generalization", JAIR 10, 1999.

    Raises:
        ConfigError: heads for another number of inputs.
        SplitError: the clips cannot be held out so.
        RunError: the regression does not converge.
    """
    labels = task.training.labels
    held: dict[str, np.ndarray] = {name: np.zeros((len(labels), task.classes)) for name in task.training.arrays}
    for learned, out in task.inner_folds(task.options.folds):
        for side, head in fit_heads(task, learned).items():
            held[side][out] = head.probabilities({"a": task.training.arrays[side][out]})
    coefficients, intercepts = regression.fit(log_features(held), labels, task.classes, task.options.C)
    return Stacked(fit_heads(task), coefficients, intercepts)


STACKED = Model(
    "stacked",
    2,
    "stacking: a model (by default an SVM) per representation, joined by a regression on inner held-out clips",
    StackedOptions,
    None,
    library=heads.library,
    batch_dependent=heads.batch_dependent,
    max_inputs=MAX_INPUTS,
    fit=fit,
    trainings=lambda options, inputs: inputs * (options.folds + 1),
    drawn=DRAWN,
)
