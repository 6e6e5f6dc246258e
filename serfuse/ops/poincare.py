"""Geometry of the Poincare ball of radius 1 (curvature -1), as pure functions of `keras.ops` tensors.

Every function works on the last axis, keeps the dtype it is given and broadcasts over the others. Points are kept
within `1 - margin(dtype)` of the origin: nearer to the boundary `1 - ||x||^2` has no digits left in that dtype.
Use float32 or float64; the layers convert half precision before they come here.
"""

from typing import Any

from keras import backend, ops

from .float64 import arctanh, larger, smaller, tanh

_TINY = 1e-30  # under the root of a norm: its gradient at zero is 0 instead of NaN
_TINIEST = {"float64": 1e-200, "float32": 1e-26}  # under a root, beside squares far below 1
_FINEST = {"float64": 1e-32, "float32": 1e-16}  # the same where no square is below the rounding of the directions
_LARGEST = {"float64": 1e150, "float32": 1e15}  # whose square, summed over many coordinates, is still finite
# Both leave `1 - ||x||^2` three correct digits in their dtype.
_MARGINS = {"float64": 1e-12, "float32": 1e-4}


def margin(dtype: str) -> float:
    """How far from the boundary the usable part of the ball ends: 1e-12 in float64, 1e-4 in float32.

    So `log0` (with scale 1) returns at most 14.2 and 4.95.

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


def _squared(x: Any) -> Any:
    return ops.sum(ops.square(x), axis=-1, keepdims=True)


def _within_reach(x: Any, kappa: float = 1.0) -> tuple[Any, Any]:
    """`x`, vectors whose squares would overflow scaled down, and the factor by which they were, `(..., 1)`.

    Squares of 1e19 are infinite in float32, and the map of such a vector would silently be 0.
    """
    largest = _of(_LARGEST, backend.standardize_dtype(x.dtype)) / max(kappa, 1.0)
    fixed = ops.stop_gradient(x)
    if 0 in x.shape:  # no clip: TensorFlow refuses to look for the largest of nothing
        return x, ops.ones_like(fixed[..., :1])
    size = larger(ops.max(fixed, axis=-1, keepdims=True), -ops.min(fixed, axis=-1, keepdims=True))
    factor = ops.where(size > largest, largest / size, ops.ones_like(size))
    return x * factor, factor


def norm(x: Any) -> Any:
    """`sqrt(sum x^2 + 1e-30)` over the last axis, `(..., D) -> (..., 1)`."""
    x, factor = _within_reach(x)
    return ops.sqrt(_squared(x) + _TINY) / factor


def clip_norm(x: Any, longest: float) -> Any:
    """Vectors longer than `longest` scaled down to it, `x min(1, longest / ||x||)`: `(..., D) -> (..., D)`."""
    near, factor = _within_reach(x)
    return _shortened(x, near, longest, longest * factor)


def project(x: Any) -> Any:
    """Points outside of the ball's usable part, moved onto its edge: `(..., D) -> (..., D)`."""
    return clip_norm(x, _limit(x))


def _projected(x: Any) -> Any:
    """`project` of what is known to be near the ball."""
    return _shortened(x, x, _limit(x), _limit(x))


def _shortened(x: Any, near: Any, longest: float, limit: Any) -> Any:
    """`near`, which points where `x` does, at length `longest` where it is beyond `limit`; else `x`."""
    length = ops.sqrt(_squared(near) + _TINY)
    beyond = length > limit
    # The branch that is not taken has a gradient too, which must be finite where its vector is 0.
    return ops.where(beyond, near * (longest / ops.where(beyond, length, ops.ones_like(length))), x)


def exp0(x: Any, kappa: float = 1.0) -> Any:
    """Exponential map at the origin, `tanh(kappa ||x||) x / ||x||`, projected: `(..., D) -> (..., D)`.

    HYFuse equation 1. `kappa`, from 1e-12 to 1e12, scales the tangent vector; the ball keeps radius 1.
    """
    x, _ = _within_reach(x, kappa)
    length = ops.sqrt(_squared(x) * kappa**2 + _TINY)  # of kappa x, so that tiny features with a large kappa stay exact
    return x * (smaller(tanh(length), _limit(x)) * kappa / length)


def log0(x: Any, scale: float = 2.0) -> Any:
    """Logarithmic map at the origin, `scale artanh(||x||) x / ||x||`: `(..., D) -> (..., D)`.

    HYFuse equation 3 has scale 2. Points outside of the usable part are projected first. Exactly,
    `log0(exp0(x, kappa), scale) = scale * kappa * x`, so `scale = 1 / kappa` is the inverse of `exp0`.
    """
    x, _ = _within_reach(x)
    length = ops.sqrt(_squared(x) + _TINY)
    return x * (scale * arctanh(smaller(length, _limit(x))) / length)


def mobius_add(x: Any, y: Any) -> Any:
    """Moebius addition `x (+) y`, projected: `(..., D), (..., D) -> (..., D)`.

    Both points are projected first, since half precision rounds some onto the edge.

    HYFuse equation 2, rearranged. With `s = 1 - ||x||^2`, `t = 1 - ||y||^2` and `w = ||x + y||^2` the printed
    numerator is `s (x + y) + w x` and the printed denominator `s t + w`. These are the same polynomials, but no term
    is negative, so nothing cancels: at norms of 0.999 the printed form keeps one digit in float32, this one four.
    """
    x, y = project(x), project(y)
    total = x + y
    s, t, w = 1.0 - _squared(x), 1.0 - _squared(y), _squared(total)
    denominator = s * t + w
    return _projected(total * (s / denominator) + x * (w / denominator))


def gyromidpoint(x: Any, y: Any) -> Any:
    """Moebius gyromidpoint: the point halfway on the geodesic, `(..., D), (..., D) -> (..., D)`.

    Ungar's `1/2 (*) (g_x^2 x + g_y^2 y) / (g_x^2 + g_y^2 - 1)` with `g^2 = 1 / (1 - ||.||^2)`, in closed form: with
    `s = 1 - ||x||^2` and `t = 1 - ||y||^2` it is `(t x + s y) / (s + t - s t + sqrt(s t (||x - y||^2 + s t)))`.
    """
    x, y = project(x), project(y)
    s, t = 1.0 - _squared(x), 1.0 - _squared(y)
    product = s * t
    denominator = s + t - product + ops.sqrt(product * (_squared(x - y) + product))
    return _projected(x * (t / denominator) + y * (s / denominator))


def fused_tangent(x: Any, y: Any, kappa_x: float = 1.0, kappa_y: float = 1.0, scale: float = 2.0) -> Any:
    """`log0(exp0(x, kappa_x) (+) exp0(y, kappa_y), scale)` without the ball's edge: `(..., D), (..., D) -> (..., D)`.

    Points near the boundary lose the digits of `1 - ||.||^2`, and with them the second operand; their tangent vectors
    do not. With `a = kappa_x ||x||`, `b = kappa_y ||y||`, the unit vectors `m` of x and `n` of y, and

        S^2 = sinh^2(a - b) + sinh(2a) sinh(2b) ||m + n||^2 / 4

    (`S = r / sqrt(1 - r^2)` for the norm r of the Moebius sum; the hyperbolic law of cosines) the result is exactly

        scale asinh(S) / (S sqrt(1 + S^2)) ((cosh^2(b) + S^2) tanh(a) m + sinh(b) cosh(b) n)

    Powers of `exp(a + b)` are taken out, so that nothing overflows. Meant for `a + b` up to 25 in float32: beyond, the
    rounding of the directions alone moves the result of opposed vectors by more than its own length.
    """
    dtype = backend.standardize_dtype(x.dtype)
    tiny, fine = _of(_TINIEST, dtype), _of(_FINEST, dtype)
    a = ops.sqrt(_squared(x) * kappa_x**2 + _TINY)
    b = ops.sqrt(_squared(y) * kappa_y**2 + _TINY)
    m, n = x * (kappa_x / a), y * (kappa_y / b)
    total, gap = m + n, a - b
    fall_a, fall_b, fall = ops.exp(-2.0 * a), ops.exp(-2.0 * b), ops.exp(-(a + b))
    # sinh(a - b), S^2 and sqrt(1 + S^2), over powers of exp(a + b). Half of the first is always zero.
    zero = ops.zeros_like(gap)
    apart = -0.5 * fall_b * ops.expm1(-2.0 * ops.where(gap > 0.0, gap, zero))
    apart = apart + 0.5 * fall_a * ops.expm1(2.0 * ops.where(gap > 0.0, zero, gap))
    facing = _squared(total) * ops.expm1(-4.0 * a) * ops.expm1(-4.0 * b)
    squared = ops.square(apart) + facing / 16.0
    # factor = asinh(S) / (S sqrt(1 + S^2)), over exp(2 (a + b)): by S where its square is safe, else by its logarithm
    near = a + b < 20.0
    rise = ops.exp(ops.where(near, a + b, zero))
    root = ops.sqrt(squared + ops.square(fall) + ops.where(near, zero + tiny, zero + fine))
    by_size = _arcsinh_ratio(squared * ops.square(rise)) * (rise / root)
    size = ops.sqrt(ops.where(near, ops.ones_like(squared), squared) + fine)
    by_logarithm = (a + b + ops.log(size + root)) / (size * root)
    factor = scale * ops.where(near, by_size, by_logarithm)
    # Lengths alike: the vector is taken apart into n + m and m, whose coefficients do not cancel where n = -m.
    # Otherwise into n and m, whose coefficients follow a and b down to zero.
    alike = ops.abs(gap) < 0.5 * smaller(a, b)
    of_m = ops.where(
        alike,
        fall_a * apart * (1.0 + fall_b) / (1.0 + fall_a) + squared * tanh(a),
        (0.25 * fall_a * ops.square(1.0 + fall_b) + squared) * tanh(a),
    )
    of_other = -0.25 * fall_a * ops.expm1(-4.0 * b)
    return ops.where(alike, total, n) * (factor * of_other) + m * (factor * of_m)


def _arcsinh_ratio(squared: Any) -> Any:
    """`asinh(S) / S` as a smooth function of `S^2`, by its series where `S < 0.01`."""
    small = squared < 1e-4
    size = ops.sqrt(ops.where(small, ops.full_like(squared, 1e-4), squared))
    # asinh(S) = log1p(S + S^2 / (1 + sqrt(1 + S^2))) keeps its digits on every backend
    direct = ops.log1p(size + size * size / (1.0 + ops.sqrt(1.0 + size * size))) / size
    s = ops.where(small, squared, ops.zeros_like(squared))
    return ops.where(small, 1.0 - s * (1 / 6 - s * (3 / 40 - s * (5 / 112))), direct)
