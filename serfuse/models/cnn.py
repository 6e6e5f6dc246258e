"""CNN on one representation, in both papers' forms."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from . import branch
from .base import Model
from .fcn import FcnOptions


class CnnOptions(FcnOptions):
    """Settings of `cnn` and `cnn-pooled`."""


def build(arrays: Mapping[str, np.ndarray], classes: int, options: CnnOptions, seed: int, *, pooled: bool) -> Any:
    """Build `(B, D)` -> Conv1D(64) -> Conv1D(128) -> flatten -> Dense(128) -> softmax; `pooled` as in PARROT.

    Raises:
        ConfigError: the embedding is too short for the convolutions.
    """
    import keras

    branch.check_size("a", arrays["a"].shape[-1], pooled)
    inputs = branch.inputs(arrays)
    layers = [
        *branch.standardizer(arrays["a"], "a", options.standardize),
        *branch.conv_layers("a", pooled),
        keras.layers.Flatten(name="flatten_a"),
    ]
    tensor = branch.apply(layers, inputs["a"])
    return keras.Model(inputs, branch.head(tensor, classes, options.dropout), name="cnn")


CNN = Model(
    "cnn",
    1,
    "Conv1D(64), Conv1D(128), Dense(128) on one representation (HYFuse's form, no pooling)",
    CnnOptions,
    partial(build, pooled=False),
    published_as=(("hyfuse", "cnn"),),
)
CNN_POOLED = Model(
    "cnn-pooled",
    1,
    "Conv1D(64), Conv1D(128) with max-pooling, Dense(128) on one representation (PARROT's form)",
    CnnOptions,
    partial(build, pooled=True),
    published_as=(("parrot", "cnn"),),
)
