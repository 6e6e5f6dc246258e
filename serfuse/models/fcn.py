"""FCN: the dense head alone on one representation (HYFuse section 3, PARROT section 3)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from . import branch
from .base import Model, Options


class FcnOptions(Options):
    """Settings of `fcn`."""

    dropout: float = Field(0.3, ge=0, lt=1, description="after the dense layer; the papers do not print a rate")
    standardize: bool = Field(True, description="z-score the input with the statistics of the training part")


def build(arrays: Mapping[str, np.ndarray], classes: int, options: FcnOptions, seed: int) -> Any:
    """Build `(B, D)` -> Dense(128, relu) -> softmax."""
    import keras

    inputs = branch.inputs(arrays)
    tensor = branch.apply(branch.standardizer(arrays["a"], "a", options.standardize), inputs["a"])
    return keras.Model(inputs, branch.head(tensor, classes, options.dropout), name="fcn")


FCN = Model(
    "fcn",
    1,
    "Dense(128) and softmax on one representation",
    FcnOptions,
    build,
    published_as=(("hyfuse", "fcn"), ("parrot", "fcn")),
)
