"""Concatenation of branches: the baseline fusion of both papers, which has two."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from pydantic import Field

from . import branch
from .base import MAX_INPUTS, Model
from .fcn import FcnOptions


class ConcatOptions(FcnOptions):
    """Settings of `concat`."""


class ConcatPooledOptions(ConcatOptions):
    """Settings of `concat-pooled`."""

    projection: int = Field(120, ge=1, description="size of each branch's linear projection (PARROT section 3.1)")


def build(arrays: Mapping[str, np.ndarray], classes: int, options: ConcatOptions, seed: int, *, pooled: bool) -> Any:
    """Build two or more branches, flattened (and projected to 120 in PARROT's form), concatenated, Dense(128), softmax.

    HYFuse section 4.2: "the same architecture as HYFuse up to feature flattening and subsequently a FCN". PARROT
    section 4.2: PARROT without its two fusion branches, "the rest modeling same", so the projection stays.

    Raises:
        ConfigError: an embedding is too short for the convolutions.
    """
    import keras

    inputs = branch.inputs(arrays)
    flat = []
    for name, tensor in inputs.items():
        branch.check_size(name, arrays[name].shape[-1], pooled)
        layers = [
            *branch.standardizer(arrays[name], name, options.standardize),
            *branch.conv_layers(name, pooled),
            keras.layers.Flatten(name=f"flatten_{name}"),
        ]
        if pooled:
            layers.append(keras.layers.Dense(options.projection, name=f"project_{name}"))
        flat.append(branch.apply(layers, tensor))
    fused = keras.layers.Concatenate(name="fused")(flat)
    return keras.Model(inputs, branch.head(fused, classes, options.dropout), name="concat")


CONCAT = Model(
    "concat",
    2,
    "CNN branches concatenated (HYFuse's baseline)",
    ConcatOptions,
    partial(build, pooled=False),
    published_as=(("hyfuse", "concat"),),
    max_inputs=MAX_INPUTS,
)
CONCAT_POOLED = Model(
    "concat-pooled",
    2,
    "pooled CNN branches, projected to 120 and concatenated (PARROT's baseline)",
    ConcatPooledOptions,
    partial(build, pooled=True),
    published_as=(("parrot", "concat"),),
    max_inputs=MAX_INPUTS,
)
