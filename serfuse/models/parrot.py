"""PARROT: a Hadamard branch beside an optimal-transport branch."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any, Literal

import numpy as np
from pydantic import Field

from . import branch
from .base import MAX_INPUTS, Model
from .concat import ConcatPooledOptions


class ParrotOptions(ConcatPooledOptions):
    """Settings of `parrot`."""

    points: Literal["features", "reference", "batch"] = Field(
        "features",
        description="what is transported: 'features' of one clip; clips against a fixed 'reference' set drawn from "
        "the training part; or the clips of a 'batch' (the literal reading, where a prediction depends on the clips "
        "predicted beside it)",
    )
    map: Literal["barycentric", "literal"] = Field(
        "barycentric", description="diag(1/Gamma 1) Gamma R_q, or Gamma R_p as printed"
    )
    epsilon: float = Field(0.1, ge=1e-6, le=1e12, description="entropic regularisation, in units of the largest cost")
    iterations: int = Field(20, ge=1, le=1000, description="Sinkhorn iterations")
    references: int = Field(64, ge=2, le=4096, description="clips of the reference set (points='reference')")


def build(arrays: Mapping[str, np.ndarray], classes: int, options: ParrotOptions, seed: int) -> Any:
    """Build pooled branches projected to 120; Hadamard beside Concat(R_p->q, R_q, R_q->p, R_p); Dense(128).

    PARROT section 3.1. R_p is input "a", R_q input "b". The paper has two representations; of more, each pair has its
    Hadamard product and its transport both ways, and each representation stands there itself once: for N inputs
    `N + 3 N (N - 1) / 2` vectors of 120 values.

    Raises:
        ConfigError: an embedding is too short for the convolutions.
    """
    import keras

    from ..layers import FeatureTransport, Hadamard, ReferenceSet, ReferenceTransport, SinkhornTransport

    inputs = branch.inputs(arrays)
    rows = _reference_rows(len(arrays["a"]), options.references, seed)
    projected, references = {}, {}
    for name, tensor in inputs.items():
        branch.check_size(name, arrays[name].shape[-1], pooled=True)
        layers = [
            *branch.standardizer(arrays[name], name, options.standardize),
            *branch.conv_layers(name, pooled=True),
            keras.layers.Flatten(name=f"flatten_{name}"),
            keras.layers.Dense(options.projection, name=f"project_{name}"),
        ]
        projected[name] = branch.apply(layers, tensor)
        if options.points == "reference":
            # The same layers see the reference clips, so the set moves with the features while training.
            reference = ReferenceSet(arrays[name][rows], name=f"reference_{name}")(tensor)
            references[name] = branch.apply(layers, reference)
    # The vectors of a batch, handed over as they are, are one pair of sets: the clips are its points.
    layer = {"features": FeatureTransport, "reference": ReferenceTransport, "batch": SinkhornTransport}[options.points]
    parts, there = [], set()
    for first, second in combinations(projected, 2):
        word = f"_{first}{second}" if len(projected) > 2 else ""
        p, q = projected[first], projected[second]
        transport = layer(options.epsilon, options.iterations, options.map, name=f"transport{word}")
        sent = transport([p, q, *(references[name] for name in (first, second) if references)])
        parts.append(Hadamard(name=f"hadamard{word}")([p, q]))
        for name, moved in ((second, sent.p_to_q), (first, sent.q_to_p)):
            parts.append(moved)
            if name not in there:
                parts.append(projected[name])
                there.add(name)
    fused = keras.layers.Concatenate(name="fused")(parts)
    return keras.Model(inputs, branch.head(fused, classes, options.dropout), name="parrot")


def _reference_rows(count: int, references: int, seed: int) -> np.ndarray:
    """Rows of the training part that form the reference set: the same ones for all inputs."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:references])


PARROT = Model(
    "parrot",
    2,
    "Hadamard product beside optimal transport between each two representations",
    ParrotOptions,
    build,
    published_as=(("parrot", "parrot"),),
    batch_dependent=lambda options: options.points == "batch",
    max_inputs=MAX_INPUTS,
)
