"""HYFuse: fusion of representations by Moebius addition in the Poincare ball, as printed and symmetric."""

import math
from collections.abc import Mapping
from functools import partial
from itertools import permutations
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ..errors import ConfigError
from . import branch
from .base import MAX_INPUTS, Model
from .fcn import FcnOptions

_PROBE_CLIPS = 128  # enough for a median of norms to a few per cent
_LEAST, _LARGEST = 1e-12, 1e12  # what the layers take
_MOST_ORDERED = 4  # inputs of which all orders are summed: there are 24 of four, 120 of five


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
        description="factor of the logarithmic map; 2 as printed, 'inverse' is 1/kappa (of several, their geometric "
        "mean), the exact inverse of the exponential map, which brings the features back to the size they had",
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


_Weight = Annotated[float, Field(ge=1e-6, le=1e6)]  # what the layer takes


class HyfuseSymmetricOptions(HyfuseOptions):
    """Settings of `hyfuse-symmetric`."""

    later: ClassVar[tuple[str, ...]] = ("weights",)

    # With the printed 2, features come back about ten times smaller than they went in, and at the papers' learning
    # rate the dense layer behind them does not get far in 50 epochs.
    log_scale: float | Literal["inverse"] = Field("inverse", description="as for `hyfuse`")
    form: Literal["both-orders", "midpoint"] = Field(
        "both-orders",
        description="'both-orders' is logmap0(x (+) y) + logmap0(y (+) x), and twice the mean over all orders of three "
        "or four; 'midpoint' the logmap0 of the gyromidpoint of all",
    )
    weights: Literal["learned"] | Annotated[list[_Weight], Field(min_length=2, max_length=MAX_INPUTS)] | None = Field(
        None,
        description="for form='midpoint', how much each input weighs: null for all alike, a list with a number for "
        "each, or 'learned', which trains them from equal ones",
    )

    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        if self.weights is not None and self.form != "midpoint":
            raise ValueError(f"weights are for form='midpoint', received weights={self.weights} with {self.form!r}")


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
    """Build branches -> expmap0 -> Moebius addition -> logmap0 -> Dense(128) -> softmax (HYFuse section 3.1).

    The paper has two branches. More are added from left to right, `(x (+) y) (+) z`; or, symmetric, see `_symmetric`.

    Raises:
        ConfigError: an embedding is too short for the convolutions, or the symmetric form cannot be made of so many
            inputs or weights.
    """
    import keras

    from ..layers import ClipNorm, ExpMap0, LogMap0, MobiusAdd

    if symmetric:
        _check_symmetric(len(arrays), options)

    inputs = branch.inputs(arrays)
    convolved = {}
    for name, tensor in inputs.items():
        branch.check_size(name, arrays[name].shape[-1], pooled=False)
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
    points = {name: ExpMap0(kappas[name], name=f"exp_{name}")(tensor) for name, tensor in aligned.items()}
    inverse = math.prod(kappas.values()) ** (-1 / len(kappas))
    scale = inverse if options.log_scale == "inverse" else options.log_scale
    if symmetric:
        fused = _symmetric(points, options, scale)
    else:
        fused = LogMap0(scale, name="log")(MobiusAdd(name="mobius")(list(points.values())))
    return keras.Model(inputs, branch.head(fused, classes, options.dropout), name="hyfuse")


def _check_symmetric(count: int, options: HyfuseSymmetricOptions) -> None:
    if options.form == "both-orders" and count > _MOST_ORDERED:
        raise ConfigError(
            f"hyfuse-symmetric of {count} inputs would add them in {math.factorial(count):,} orders; it does so for at "
            f"most {_MOST_ORDERED} inputs. Take their midpoint instead: --set options.form=midpoint."
        )
    if isinstance(options.weights, list) and len(options.weights) != count:
        raise ConfigError(f"options.weights has {len(options.weights)} numbers for {count} inputs; give one for each.")


def _symmetric(points: dict[str, Any], options: HyfuseSymmetricOptions, scale: float) -> Any:
    """Fuse points of the ball so that no input is the first or the last: `(B, D)` each, to tangent vectors `(B, D)`.

    Moebius addition is neither commutative nor associative, so of three points the sums in the cyclic orders
    (xyz, yzx, zxy) are others than those in the reversed ones: only all N! orders together do not depend on the order
    of the inputs. Their mean is taken twice, which is the sum of both orders for two points, and of the same size for
    more: about twice the sum of all, where that is small.
    """
    import keras

    from ..layers import GyroMidpoint, LogMap0, MobiusAdd

    if options.form == "midpoint":
        return LogMap0(scale, name="log")(GyroMidpoint(options.weights, name="midpoint")(list(points.values())))
    orders = list(permutations(points))
    called = {"a": "x", "b": "y"} if len(points) == 2 else {}  # the names that these layers have had in files
    logs = []
    for order in orders:
        word = "".join(called.get(name, name) for name in order)
        added = MobiusAdd(name=f"mobius_{word}")([points[name] for name in order])
        logs.append(LogMap0(scale * (2 / len(orders)), name=f"log_{word}")(added))
    return keras.layers.Add(name="both_orders" if len(points) == 2 else "all_orders")(logs)


HYFUSE = Model(
    "hyfuse",
    2,
    "Moebius addition in the Poincare ball, the paper's formula with a kappa that does not saturate",
    HyfuseOptions,
    partial(build, symmetric=False),
    published_as=(("hyfuse", "hyfuse"),),
    max_inputs=MAX_INPUTS,
)
HYFUSE_SYMMETRIC = Model(
    "hyfuse-symmetric",
    2,
    "Moebius addition in all orders, or the midpoint, so that all representations weigh the same",
    HyfuseSymmetricOptions,
    partial(build, symmetric=True),
    max_inputs=MAX_INPUTS,
)
