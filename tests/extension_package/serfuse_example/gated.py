"""A model: attention from one representation to the other behind a learned gate. Keras is imported in `build`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from serfuse.models import Model, Options


class GatedOptions(Options):
    """Settings of `gated`; each can be given as `--set options.<name>=...`."""

    width: int = Field(16, ge=2, le=1024, description="size that both representations are projected to")
    heads: int = Field(2, ge=1, le=16, description="heads of the attention")


def build(arrays: Mapping[str, np.ndarray], classes: int, options: GatedOptions, seed: int) -> Any:
    """Two projections, attention between them, a gate, and serfuse's usual head."""
    import keras

    from serfuse.models import branch

    from .layers import Gate

    inputs = branch.inputs(arrays)
    sides = []
    for name, tensor in inputs.items():
        tensor = branch.apply(branch.standardizer(arrays[name], name, True), tensor)
        sides.append(keras.layers.Dense(options.width, name=f"project_{name}")(tensor))
    a, b = (keras.layers.Reshape((options.width, 1), name=f"values_{place}")(side) for place, side in enumerate(sides))
    heard = keras.layers.MultiHeadAttention(options.heads, key_dim=4, name="attention")(a, b)
    fused = Gate(name="gate")(keras.layers.Flatten(name="flatten")(heard))
    return keras.Model(inputs, branch.head(fused, classes, dropout=0.0), name="gated")


GATED = Model(
    "gated",
    2,
    "attention between two representations behind a gate",
    GatedOptions,
    build,
    layers=("serfuse_example.layers:Gate", "keras.layers:MultiHeadAttention"),
)
