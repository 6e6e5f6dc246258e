"""HYFuse: fusion of two representations by Moebius addition in the Poincare ball, as printed and symmetric."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
from pydantic import Field

from . import branch
from .base import Model
from .fcn import FcnOptions

_PROBE_CLIPS = 128  # enough for a median of norms to a few per cent
_LEAST, _LARGEST = 1e-12, 1e12  # what the layers take


class HyfuseOptions(FcnOptions):
    """Settings of `hyfuse`."""

    kappa: float | Literal["auto"] = Field(
        "auto",
        description="tangent scale of the exponential map; 'auto' chooses it per branch from the training part so "
        "that kappa*||x|| starts at `radius`. 1.0 is the literal reading and saturates: tanh(5..20) is 1 in float32",
    )
    radius: float = Field(1.0, gt=0, le=4, description="what the median of kappa*||x|| starts at when kappa='auto'")
    bound: float | None = Field(
        1.0,
        description="with kappa='auto', longer features are scaled down so that kappa*||x|| never exceeds this while "
        "training moves them; null: unbounded. A kappa given as a number is the literal reading and never bounded",
    )
    log_scale: float | Literal["inverse"] = Field(
        2.0,
        description="factor of the logarithmic map; 2 as printed, 'inverse' is 1/kappa (of two, their geometric mean), "
        "the exact inverse of the exponential map, which brings the features back to the size they had",
    )
    align: Literal["pad", "project"] = Field(
        "pad",
        description="how unequal branches come to one length: 'pad' with zeros (no parameters, the papers' count) or "
        "'project', a learned linear map of each branch to `projection` values",
    )
    projection: int = Field(120, ge=1, description="size of the learned projection of align='project'")

    def model_post_init(self, _context: Any) -> None:
        # "Not within" rather than "outside of": NaN is neither.
        if self.kappa != "auto" and not _LEAST <= self.kappa <= _LARGEST:
            raise ValueError(f"kappa must be 'auto' or a positive number up to 1e12, received {self.kappa}")
        if self.bound is not None and self.kappa == "auto" and not self.radius <= self.bound <= 1000:
            raise ValueError(
                f"bound must be null, or at least the radius {self.radius}, at which features start, and at most 1000; "
                f"received {self.bound}"
            )
        if self.log_scale != "inverse" and not _LEAST <= self.log_scale <= _LARGEST:
            raise ValueError(f"log_scale must be 'inverse' or a positive number up to 1e12, received {self.log_scale}")


class HyfuseSymmetricOptions(HyfuseOptions):
    """Settings of `hyfuse-symmetric`."""

    # With the printed 2, features come back about ten times smaller than they went in, and at the papers' learning
    # rate the dense layer behind them does not get far in 50 epochs.
    log_scale: float | Literal["inverse"] = Field("inverse", description="as for `hyfuse`")
    form: Literal["both-orders", "midpoint"] = Field(
        "both-orders",
        description="'both-orders' is logmap0(x (+) y) + logmap0(y (+) x); 'midpoint' the logmap0 of the gyromidpoint",
    )


def _aligned(flat: dict[str, Any], options: HyfuseOptions) -> dict[str, Any]:
    """Branches `(B, steps, filters)` -> `(B, F)` of one length."""
    import keras

    if options.align == "project":
        return {
            name: keras.layers.Dense(options.projection, name=f"project_{name}")(
                keras.layers.Flatten(name=f"flatten_{name}")(tensor)
            )
            for name, tensor in flat.items()
        }
    longest = max(tensor.shape[1] for tensor in flat.values())
    aligned = {}
    for name, tensor in flat.items():
        # Padding the time axis before flattening is padding the flattened vector at its end.
        if missing := longest - tensor.shape[1]:
            tensor = keras.layers.ZeroPadding1D((0, missing), name=f"pad_{name}")(tensor)
        aligned[name] = keras.layers.Flatten(name=f"flatten_{name}")(tensor)
    return aligned


def _kappas(
    inputs: dict[str, Any],
    aligned: dict[str, Any],
    arrays: Mapping[str, np.ndarray],
    options: HyfuseOptions,
    seed: int,
) -> dict[str, float]:
    """The tangent scale of each branch, from the training part only."""
    if options.kappa != "auto":
        return dict.fromkeys(aligned, float(options.kappa))
    import keras

    count = len(next(iter(arrays.values())))
    rows = np.sort(np.random.default_rng(seed).permutation(count)[:_PROBE_CLIPS])
    probe = keras.Model(inputs, aligned)
    features = probe({name: array[rows] for name, array in arrays.items()}, training=False)
    kappas = {}
    for name, feature in features.items():
        norms = np.linalg.norm(keras.ops.convert_to_numpy(feature).astype("float64"), axis=1)
        # float32 keeps the saved model equal to the one in memory
        kappas[name] = float(np.float32(options.radius / max(float(np.median(norms)), 1e-6)))
    return kappas


def build(arrays: Mapping[str, np.ndarray], classes: int, options: HyfuseOptions, seed: int, *, symmetric: bool) -> Any:
    """Build two branches -> expmap0 -> Moebius addition -> logmap0 -> Dense(128) -> softmax (HYFuse section 3.1).

    Raises:
        ConfigError: an embedding is too short for the convolutions.
    """
    import keras

    from ..layers import ClipNorm, ExpMap0, GyroMidpoint, LogMap0, MobiusAdd

    inputs = branch.inputs(arrays)
    convolved = {}
    for name, tensor in inputs.items():
        branch.check_size(name, arrays[name].shape[1], pooled=False)
        layers = [
            *branch.standardizer(arrays[name], name, options.standardize),
            *branch.conv_layers(name, pooled=False),
        ]
        convolved[name] = branch.apply(layers, tensor)
    aligned = _aligned(convolved, options)
    kappas = _kappas(inputs, aligned, arrays, options, seed)
    if options.kappa == "auto" and options.bound is not None:
        aligned = {
            name: ClipNorm(options.bound / kappas[name], name=f"bound_{name}")(tensor)
            for name, tensor in aligned.items()
        }
    x, y = (ExpMap0(kappas[name], name=f"exp_{name}")(tensor) for name, tensor in aligned.items())
    scale = (kappas["a"] * kappas["b"]) ** -0.5 if options.log_scale == "inverse" else options.log_scale
    if not symmetric:
        fused = LogMap0(scale, name="log")(MobiusAdd(name="mobius")([x, y]))
    elif options.form == "midpoint":
        fused = LogMap0(scale, name="log")(GyroMidpoint(name="midpoint")([x, y]))
    else:
        fused = keras.layers.Add(name="both_orders")(
            [
                LogMap0(scale, name="log_xy")(MobiusAdd(name="mobius_xy")([x, y])),
                LogMap0(scale, name="log_yx")(MobiusAdd(name="mobius_yx")([y, x])),
            ]
        )
    return keras.Model(inputs, branch.head(fused, classes, options.dropout), name="hyfuse")


HYFUSE = Model(
    "hyfuse",
    2,
    "Moebius addition in the Poincare ball, the paper's formula with a kappa that does not saturate",
    HyfuseOptions,
    partial(build, symmetric=False),
    published_as=(("hyfuse", "hyfuse"),),
)
HYFUSE_SYMMETRIC = Model(
    "hyfuse-symmetric",
    2,
    "Moebius addition in both orders, so that both representations weigh the same",
    HyfuseSymmetricOptions,
    partial(build, symmetric=True),
)
