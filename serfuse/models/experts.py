"""The recommended fusion network: an expert per representation and one of all, whose opinions are pooled."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from pydantic import Field

from . import branch
from .base import MAX_INPUTS, Model, Options


class ExpertsOptions(Options):
    """Settings of `experts`."""

    operator: Literal["concat", "hadamard", "hyperbolic", "transport", "none"] = Field(
        "concat",
        description="how the expert of all representations fuses them: 'concat'; 'hadamard', products of "
        "neighbours; 'hyperbolic', their Moebius sum in order (HYFuse); 'transport', each "
        "beside what it becomes when sent to its neighbour (PARROT); 'none': there is no such expert",
    )
    hidden: int = Field(128, ge=1, le=4096, description="values of each hidden layer")
    members: int = Field(4, ge=1, le=16, description="networks trained side by side, their probabilities averaged")
    input_dropout: float = Field(0.3, ge=0, lt=1, description="of the standardized embeddings")
    dropout: float = Field(0.3, ge=0, lt=1, description="after each hidden layer")
    standardize: bool = Field(True, description="z-score the input with the statistics of the training part")


def build(arrays: Mapping[str, np.ndarray], classes: int, options: ExpertsOptions, seed: int) -> Any:
    """Build, `members` times, Dense(hidden, relu) and softmax per input, Dense(hidden, relu) and softmax on all fused.

    The experts of one member are pooled by the geometric mean of their probabilities, as late fusion does; each is
    trained on the labels by itself as well, so that a strong representation does not keep a weak one from being
    learned from (Wang, Tran and Feiszli, "What Makes Training Multi-modal Classification Networks Hard?", CVPR 2020).
    Members differ in their initial weights and dropout, and their probabilities are averaged.
    """
    import keras

    from ..layers import LogPool

    inputs = branch.inputs(arrays)
    standard = {
        name: branch.apply(branch.standardizer(arrays[name], name, options.standardize), tensor)
        for name, tensor in inputs.items()
    }
    hidden, opinions = {}, []
    for name, tensor in standard.items():
        tensor = keras.layers.RepeatVector(options.members, name=f"members_{name}")(tensor)
        hidden[name] = _hidden(_dropped(tensor, options.input_dropout, f"dropout_input_{name}"), options, name)
        opinions.append(_opinion(hidden[name], classes, name))
    if options.operator != "none":
        fused = _hidden(_fused(list(hidden.values()), options), options, "all")
        opinions.append(_opinion(fused, classes, "all"))
    # In float32 from here on, under any mixed precision policy.
    said = keras.layers.Concatenate(name="said", dtype="float32")(opinions)
    flat = keras.layers.Flatten(name="penultimate", dtype="float32")(said)
    shape = (options.members, len(opinions), classes)
    experts = keras.layers.Reshape(shape, name="experts", dtype="float32")(flat)
    pooled = LogPool(name="members", dtype="float32")(experts)
    answer = keras.layers.GlobalAveragePooling1D(name="emotion", dtype="float32")(pooled)
    return keras.Model(inputs, answer, name="experts")


def _dropped(tensor: Any, rate: float, name: str) -> Any:
    import keras

    return keras.layers.Dropout(rate, name=name)(tensor) if rate else tensor


def _hidden(tensor: Any, options: ExpertsOptions, name: str) -> Any:
    from ..layers import MemberDense

    tensor = MemberDense(options.hidden, "relu", name=f"hidden_{name}")(tensor)
    return _dropped(tensor, options.dropout, f"dropout_{name}")


def _opinion(tensor: Any, classes: int, name: str) -> Any:
    from ..layers import MemberDense

    return MemberDense(classes, "softmax", name=f"opinion_{name}", dtype="float32")(tensor)


def _fused(hidden: list[Any], options: ExpertsOptions) -> Any:
    """Vectors `(B, members, hidden)`, one per input, to one of that many axes."""
    import keras

    from ..layers import ExpMap0, Hadamard, LogMap0, MobiusAdd, SinkhornTransport

    neighbours = list(enumerate(pairwise(hidden), start=1))
    parts = list(hidden)
    if options.operator == "hyperbolic":
        # Features of this width have norms of several units, where tanh has no gradient left.
        kappa = float(options.hidden**-0.5)
        points = [ExpMap0(kappa, name=f"exp{n}")(x) for n, x in enumerate(hidden, start=1)]
        total = points[0]
        for n, point in enumerate(points[1:], start=1):
            total = MobiusAdd(name=f"mobius{n}")([total, point])
        return LogMap0(1 / kappa, name="log")(total)
    if options.operator == "hadamard":
        parts = [Hadamard(name=f"hadamard{n}")(list(pair)) for n, pair in neighbours]
    elif options.operator == "transport":
        line, flat = (options.members, options.hidden, 1), (options.members, options.hidden)
        lines = [keras.layers.Reshape(line, name=f"line{n}")(x) for n, x in enumerate(hidden, start=1)]
        for n, pair in enumerate(pairwise(lines), start=1):
            sent = SinkhornTransport(name=f"transport{n}")(list(pair))  # features of a vector are points on a line
            parts.append(keras.layers.Reshape(flat, name=f"forth{n}")(sent.p_to_q))
            parts.append(keras.layers.Reshape(flat, name=f"back{n}")(sent.q_to_p))
    return keras.layers.Concatenate(name="fused")(parts) if len(parts) > 1 else parts[0]


EXPERTS = Model(
    "experts",
    2,
    "an expert per representation and one of all, their opinions pooled; small, for few clips",
    ExpertsOptions,
    build,
    max_inputs=MAX_INPUTS,
    supervised=("experts", "members"),
    drawn="probabilities of each expert",
)
