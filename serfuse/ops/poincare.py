"""Geometry of the Poincare ball of radius 1 (curvature -1), as pure functions of `keras.ops` tensors.

The names are geoopt's. Every function works on the last axis, keeps the dtype it is given and broadcasts over the
others. Points are kept within `1 - margin(dtype)` of the origin: nearer to the boundary `1 - ||x||^2` has no digits
left in that dtype. Use float32 or float64; the layers convert half precision before they come here.
"""

from collections.abc import Sequence
from itertools import combinations
from math import inf, isfinite
from typing import Any

from keras import backend, ops

from .combination import Combination, joined, recalled, tensor, value
from .float64 import arctanh, minimum, tanh
from .lengths import scaled_within, squared, within

_TINY = 1e-30  # under the root of a norm: its gradient at zero is 0 instead of NaN
_LARGEST = {"float64": 1e150, "float32": 1e15}  # whose square, summed over many coordinates, is still finite
_FURTHEST = 15.0  # more than artanh of any point of the ball's usable part
# Both leave `1 - ||x||^2` three correct digits in their dtype.
_MARGINS = {"float64": 1e-12, "float32": 1e-4}


def margin(dtype: str) -> float:
    """Tell how far from the boundary the usable part of the ball ends: 1e-12 in float64, 1e-4 in float32.

    So `logmap0` (with scale 1) returns at most 14.2 and 4.95.

    Raises:
        ValueError: another dtype.
    """
    return _of(_MARGINS, dtype)


def _of(table: dict[str, float], dtype: str) -> float:
    """What a table of constants holds for a dtype."""
    if dtype not in table:
        raise ValueError(f"The Poincare ball needs float32 or float64. Received dtype {dtype}; convert it first.")
    return table[dtype]


def _limit(x: Any) -> float:
    return 1.0 - margin(backend.standardize_dtype(x.dtype))


def _at_most(value: Any) -> float:
    """What a scale does not exceed.

    Where several networks that have one each share a program it is a tensor, and its attribute `at_most` says that.
    """
    return value if isinstance(value, float | int) else getattr(value, "at_most", inf)


def _reach(x: Any, kappa: float = 1.0) -> Any:
    """The largest value that is within reach.

    Squares of 1e19 are infinite in float32, and the map of such a vector would silently be 0.
    """
    most = _at_most(kappa)
    scale = max(most, 1.0) if isfinite(most) else ops.maximum(kappa, 1.0)
    return _of(_LARGEST, backend.standardize_dtype(x.dtype)) / scale


def _known(x: Any, kappa: float = 1.0) -> Combination:
    """`x` as a sum with its squared length: as it came about, or by itself.

    A vector beyond reach is brought within it: where it lands on the ball does not depend on that.
    """
    found = recalled(x)
    largest = _of(_LARGEST, backend.standardize_dtype(x.dtype))
    if found is not None and found.longest * _at_most(kappa) <= largest:
        return found
    near, square = within(x, _reach(x, kappa))
    return Combination(((near, ops.ones_like(square)),), square)


def clip_norm(x: Any, longest: float) -> Any:
    """Scale vectors longer than `longest` down to it, `x min(1, longest / ||x||)`: `(..., D) -> (..., D)`."""
    largest = _of(_LARGEST, backend.standardize_dtype(x.dtype))
    if isfinite(most := _at_most(longest)) and most > largest:  # some within the bound are beyond reach
        near, reach = scaled_within(x, _reach(x))
        length = ops.sqrt(squared(near) + _TINY)
        return ops.where(length > longest * reach, near * (longest / length), x)
    return tensor(_shortened(_known(x), longest))


def _shortened(x: Combination, longest: float) -> Combination:
    """The sum at length `longest` where it is longer."""
    length = ops.sqrt(x.square + _TINY)
    beyond = length > longest
    # The branch that is not taken has a gradient too, which must be finite where its vector is 0.
    factor = ops.where(beyond, longest / ops.where(beyond, length, ops.ones_like(length)), 1.0)
    return x.times(factor, ops.where(beyond, longest**2, x.square), _at_most(longest))


def project(x: Any) -> Any:
    """Move points outside of the ball's usable part onto its edge: `(..., D) -> (..., D)`."""
    return clip_norm(x, _limit(x))


def expmap0(x: Any, kappa: float = 1.0) -> Any:
    """Map tangent vectors at the origin to the ball, `tanh(kappa ||x||) x / ||x||`, projected: `(..., D) -> (..., D)`.

    The exponential map of HYFuse equation 1. `kappa`, from 1e-12 to 1e12, scales the tangent vector; the ball keeps
    radius 1. geoopt's `expmap0` is that of `kappa = 1`.
    """
    known = _known(x, kappa)
    length = ops.sqrt(known.square * kappa**2 + _TINY)  # of kappa x: tiny features with a large kappa stay exact
    reached = minimum(tanh(length), _limit(x))
    return tensor(known.times(reached * kappa / length, ops.square(reached), 1.0))


def logmap0(x: Any, scale: float = 2.0) -> Any:
    """Map points of the ball to tangent vectors at the origin, `scale artanh(||x||) x / ||x||`: `(..., D) -> (..., D)`.

    The logarithmic map of HYFuse equation 3, which has scale 2; geoopt's `logmap0` is that of scale 1. Points outside
    of the usable part are projected first. Exactly, `logmap0(expmap0(x, kappa), scale) = scale * kappa * x`, so
    `scale = 1 / kappa` is the inverse of `expmap0`.
    """
    known = _known(x)
    length = ops.sqrt(known.square + _TINY)
    reached = scale * arctanh(minimum(length, _limit(x)))
    return tensor(known.times(reached / length, ops.square(reached), _FURTHEST * _at_most(scale)))


def mobius_add(x: Any, y: Any) -> Any:
    """Add two points of the ball, `x (+) y` of Moebius, projected: `(..., D), (..., D) -> (..., D)`.

    Both points are projected first, since half precision rounds some onto the edge.

    HYFuse equation 2, rearranged. With `s = 1 - ||x||^2`, `t = 1 - ||y||^2` and `w = ||x + y||^2` the printed
    numerator is `s (x + y) + w x` and the printed denominator `s t + w`. These are the same polynomials, but no term
    is negative, so nothing cancels: at norms of 0.999 the printed form keeps one digit in float32, this one four.
    The squared length of the sum is `w / (s t + w)`.
    """
    limit = _limit(x)
    x, y = (_shortened(_known(point), limit) for point in (x, y))
    total = value(joined([x, y]))
    s, t, w = 1.0 - x.square, 1.0 - y.square, squared(total)
    denominator = s * t + w
    added = joined([Combination(((total, s / denominator),), w), x.times(w / denominator, w)])
    return tensor(_shortened(Combination(added, w / denominator), limit))


def gyromidpoint(x: Any, y: Any) -> Any:
    """Find the point halfway on the geodesic between two points: `(..., D), (..., D) -> (..., D)`.

    Ungar's Moebius gyromidpoint `1/2 (*) (g_x^2 x + g_y^2 y) / (g_x^2 + g_y^2 - 1)` with `g^2 = 1 / (1 - ||.||^2)`, in
    closed form: with `s = 1 - ||x||^2` and `t = 1 - ||y||^2` it is
    `(t x + s y) / (s + t - s t + sqrt(s t (||x - y||^2 + s t)))`. geoopt has it as `weighted_midpoint`.
    """
    x, y = project(x), project(y)
    s, t = 1.0 - squared(x), 1.0 - squared(y)
    product = s * t
    denominator = s + t - product + ops.sqrt(product * (squared(x - y) + product))
    return project(x * (t / denominator) + y * (s / denominator))


def weighted_midpoint(points: Sequence[Any], weights: Sequence[Any]) -> Any:
    """Find the gyromidpoint of N points with positive weights: N tensors `(..., D) -> (..., D)`.

    Ungar's `1/2 (*) sum(w_k g_k^2 x_k) / sum(w_k (g_k^2 - 1/2))`, which on the hyperboloid is the weighted mean of the
    points brought back to it: it moves with every isometry of the ball, does not depend on the order or on the sum of
    the weights, and is `gyromidpoint` for two equal ones. geoopt has it as `weighted_midpoint`.

    With `s_k = 1 - ||x_k||^2` and `W = sum(w_k)` it is computed as `2 sum(w_k x_k / s_k) / (sum(w_k (2 - s_k) / s_k) +
    sqrt(W^2 + 4 sum_(j<k) w_j w_k ||x_j - x_k||^2 / (s_j s_k)))`, in which nothing cancels: the root is the
    Minkowski length of that mean, whose printed form is a difference of nearly equal numbers near the boundary.

    Args:
        points: one or more points of the ball, projected first.
        weights: as many positive numbers, or tensors that broadcast with the points.
    """
    points = [project(x) for x in points]
    shares = [1.0 - squared(x) for x in points]
    heavy = [w / s for w, s in zip(weights, shares, strict=True)]
    moment = sum(x * h for x, h in zip(points, heavy, strict=True))
    mass = sum(h * (2.0 - s) for h, s in zip(heavy, shares, strict=True))
    length = sum(weights) ** 2 + ops.zeros_like(mass)
    for (x, g), (y, h) in combinations(list(zip(points, heavy, strict=True)), 2):
        length = length + 4.0 * g * h * squared(x - y)
    return project(moment * (2.0 / (mass + ops.sqrt(length))))
