"""Support vector machine with scikit-learn's defaults (PARROT section 3); of several inputs, on their concatenation."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from .base import MAX_INPUTS, Model, Options


class SvmOptions(Options):
    """Settings of `svm`: scikit-learn's defaults, as the paper says, after z-scoring.

    `probabilities` says how they are estimated; the labels, and what is counted from them, are the machine's own.
    """

    C: float = Field(1.0, gt=0)
    kernel: Literal["rbf", "linear", "poly", "sigmoid"] = "rbf"
    standardize: bool = Field(True, description="z-score the input with the statistics of the training part")
    probabilities: Literal["pairwise", "one-vs-rest"] = Field(
        "pairwise",
        description="a regression on the decisions between each two classes, or Platt's on a score for each class",
    )
    class_weight: Literal["none", "balanced"] = Field(
        "none",
        description="'balanced' weighs a clip by clips / (emotions * clips of its emotion), as scikit-learn does",
    )

    later: ClassVar[tuple[str, ...]] = ("class_weight",)


def build(arrays: Mapping[str, np.ndarray], classes: int, options: SvmOptions, seed: int) -> Any:
    """Build an unfitted scikit-learn pipeline of `StandardScaler` and `SVC`."""
    from sklearn.svm import SVC

    weight = None if options.class_weight == "none" else options.class_weight
    return scaled(SVC(C=options.C, kernel=options.kernel, class_weight=weight), options.standardize)


def scaled(svc: Any, standardize: bool) -> Any:
    """Build an unfitted scikit-learn pipeline of a machine, with a `StandardScaler` before it if asked to."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), svc) if standardize else make_pipeline(svc)


SVM = Model(
    "svm",
    1,
    "RBF support vector machine with scikit-learn's defaults; several representations are put side by side",
    SvmOptions,
    build,
    library="scikit-learn",
    published_as=(("parrot", "svm"),),
    max_inputs=MAX_INPUTS,
)
