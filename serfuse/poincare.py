"""Geometry of the Poincare ball of radius 1 (curvature -1), as pure functions of `keras.ops` tensors.

Every function works on the last axis, keeps the dtype it is given and broadcasts over the others. Points are kept
within `1 - margin(dtype)` of the origin: nearer to the boundary `1 - ||x||^2` has no digits left in that dtype.
Use float32 or float64; the layers convert half precision before they come here.
"""

from typing import Any

from keras import backend, ops

_TINY = 1e-30  # under the root of a norm: its gradient at zero is 0 instead of NaN
# Both leave `1 - ||x||^2` three correct digits in their dtype.
_MARGINS = {"float64": 1e-12, "float32": 1e-4}


def margin(dtype: str) -> float:
    """How far from the boundary the usable part of the ball ends: 1e-12 in float64, 1e-4 in float32.

    So `log0` (with scale 1) returns at most 14.2 and 4.95.

    Raises:
        ValueError: another dtype.
    """
    if dtype not in _MARGINS:
        raise ValueError(f"The Poincare ball needs float32 or float64. Received dtype {dtype}; convert it first.")
    return _MARGINS[dtype]


def _limit(x: Any) -> float:
    return 1.0 - margin(backend.standardize_dtype(x.dtype))


def _squared(x: Any) -> Any:
    return ops.sum(ops.square(x), axis=-1, keepdims=True)


def norm(x: Any) -> Any:
    """`sqrt(sum x^2 + 1e-30)` over the last axis, `(..., D) -> (..., 1)`."""
    return ops.sqrt(_squared(x) + _TINY)


def project(x: Any) -> Any:
    """Points outside of the ball's usable part, moved onto its edge: `(..., D) -> (..., D)`."""
    limit = _limit(x)
    length = norm(x)
    return ops.where(length > limit, x * (limit / length), x)


def exp0(x: Any, kappa: float = 1.0) -> Any:
    """Exponential map at the origin, `tanh(kappa ||x||) x / ||x||`, projected: `(..., D) -> (..., D)`.

    HYFuse equation 1. `kappa` scales the tangent vector; the ball keeps radius 1.
    """
    length = ops.sqrt(_squared(x) * kappa**2 + _TINY)  # of kappa x, so that tiny features with a large kappa stay exact
    return x * (ops.minimum(ops.tanh(length), _limit(x)) * kappa / length)


def log0(x: Any, scale: float = 2.0) -> Any:
    """Logarithmic map at the origin, `scale artanh(||x||) x / ||x||`: `(..., D) -> (..., D)`.

    HYFuse equation 3 has scale 2. Points outside of the usable part are projected first. Exactly,
    `log0(exp0(x, kappa), scale) = scale * kappa * x`, so `scale = 1 / kappa` is the inverse of `exp0`.
    """
    length = norm(x)
    return x * (scale * ops.arctanh(ops.minimum(length, _limit(x))) / length)


def mobius_add(x: Any, y: Any) -> Any:
    """Moebius addition `x (+) y`, projected: `(..., D), (..., D) -> (..., D)`.

    HYFuse equation 2, rearranged. With `s = 1 - ||x||^2`, `t = 1 - ||y||^2` and `w = ||x + y||^2` the printed
    numerator is `s (x + y) + w x` and the printed denominator `s t + w`. These are the same polynomials, but no term
    is negative, so nothing cancels: at norms of 0.999 the printed form keeps one digit in float32, this one four.
    """
    total = x + y
    s, t, w = 1.0 - _squared(x), 1.0 - _squared(y), _squared(total)
    denominator = s * t + w
    return project(total * (s / denominator) + x * (w / denominator))


def gyromidpoint(x: Any, y: Any) -> Any:
    """Moebius gyromidpoint: the point halfway on the geodesic, `(..., D), (..., D) -> (..., D)`.

    Ungar's `1/2 (*) (g_x^2 x + g_y^2 y) / (g_x^2 + g_y^2 - 1)` with `g^2 = 1 / (1 - ||.||^2)`, in closed form: with
    `s = 1 - ||x||^2` and `t = 1 - ||y||^2` it is `(t x + s y) / (s + t - s t + sqrt(s t (||x - y||^2 + s t)))`.
    """
    s, t = 1.0 - _squared(x), 1.0 - _squared(y)
    product = s * t
    denominator = s + t - product + ops.sqrt(product * (_squared(x - y) + product))
    return project(x * (t / denominator) + y * (s / denominator))
