"""Entropic optimal transport between two sets of points, as pure functions of `keras.ops` tensors.

The words are those of POT and OTT: `a` and `b` are the weights of two point sets `p` and `q`, the cost is a matrix over
their pairs, the plan (or coupling) a joint distribution over these pairs with marginals `a` and `b`, `epsilon` the
entropic regularisation (POT's `reg`) in units of the cost.
"""

from collections.abc import Callable
from operator import truediv
from typing import Any, NamedTuple

import keras
from keras import ops

from .float64 import maximum, minimum

# Under the root of a distance, so that its gradient between equal points is 0 instead of NaN.
_TINY = 1e-30
_TINY_BY_PRODUCTS = 1e-12  # the squares come out of a subtraction, with the rounding of what was subtracted
_MASKED = -1e9  # the logarithm of nothing: unlike -inf, it has finite differences and gradients
_LEAST_EPSILON_OF_SCALINGS = 0.04  # exp(3 / 0.04), the worst product of kernel and scalings, is 4e32
_DIRECT = 16  # up to this many coordinates, differences are taken pair by pair


class Frame(NamedTuple):
    """A centre and a size that bring points near the origin and near unit size before distances are taken.

    Distances that are afterwards divided by the largest one do not depend on it; their rounding does.
    """

    centre: Any
    size: Any


def _as_rows(mask: Any, like: Any) -> Any:
    return ops.expand_dims(ops.cast(mask, like.dtype), -1)


def frame(p: Any, q: Any, p_mask: Any = None, q_mask: Any = None) -> Frame:
    """Find the common frame of two point sets, `(..., N, D), (..., M, D) -> (..., 1, D), (..., 1, 1)`.

    It has no gradient. Masked points do not count.
    """
    p, q = ops.stop_gradient(p), ops.stop_gradient(q)
    weights_p = ops.ones_like(p[..., :1]) if p_mask is None else _as_rows(p_mask, p)
    weights_q = ops.ones_like(q[..., :1]) if q_mask is None else _as_rows(q_mask, q)
    total = ops.sum(p * weights_p, axis=-2, keepdims=True) + ops.sum(q * weights_q, axis=-2, keepdims=True)
    count = ops.sum(weights_p, axis=-2, keepdims=True) + ops.sum(weights_q, axis=-2, keepdims=True)
    centre = total / maximum(count, 1.0)
    reach_p = ops.max(ops.abs(p - centre) * weights_p, axis=(-2, -1), keepdims=True)
    reach_q = ops.max(ops.abs(q - centre) * weights_q, axis=(-2, -1), keepdims=True)
    reach = maximum(reach_p, reach_q)
    return Frame(centre, ops.where(reach > 0.0, reach, ops.ones_like(reach)))


def distances(p: Any, q: Any, within: Frame) -> Any:
    """Compute Euclidean distances in units of `within.size`: `(..., N, D), (..., M, D) -> (..., N, M)`."""
    p, q = (p - within.centre) / within.size, (q - within.centre) / within.size
    if p.shape[-1] <= _DIRECT:
        squared = ops.sum(ops.square(ops.expand_dims(p, -2) - ops.expand_dims(q, -3)), axis=-1) + _TINY
    else:
        inner = p @ ops.swapaxes(q, -1, -2)
        p_squared = ops.sum(ops.square(p), axis=-1, keepdims=True)
        q_squared = ops.expand_dims(ops.sum(ops.square(q), axis=-1), -2)
        squared = ops.relu(p_squared + q_squared - 2.0 * inner) + _TINY_BY_PRODUCTS
    return ops.sqrt(squared)


def largest(distance: Any, p_mask: Any = None, q_mask: Any = None) -> Any:
    """Find the largest distance between two points that count: `(..., N, M) -> (..., 1, 1)`."""
    both = pair_mask(p_mask, q_mask)
    if both is not None:
        distance = ops.where(both, distance, ops.full_like(distance, _TINY**0.5))
    return ops.max(distance, axis=(-2, -1), keepdims=True)


def pair_mask(p_mask: Any = None, q_mask: Any = None) -> Any:
    """Tell which pairs count, `(..., N), (..., M) -> (..., N, M)`; None where neither set has a mask."""
    rows = None if p_mask is None else ops.expand_dims(ops.cast(p_mask, "bool"), -1)
    columns = None if q_mask is None else ops.expand_dims(ops.cast(q_mask, "bool"), -2)
    if rows is None or columns is None:
        return columns if rows is None else rows
    return ops.logical_and(rows, columns)


def cost_matrix(p: Any, q: Any, p_mask: Any = None, q_mask: Any = None) -> Any:
    """Compute Euclidean distances divided by the largest one, `(..., N, D), (..., M, D) -> (..., N, M)` in [0, 1].

    PARROT equation 1. Entries of masked points are meaningless.
    """
    distance = distances(p, q, frame(p, q, p_mask, q_mask))
    return distance / largest(distance, p_mask, q_mask)


def uniform_weights(mask: Any, dtype: Any) -> Any:
    """Spread a mass of 1 evenly over the points that count, `(..., N) -> (..., N)`; no mass where no point does."""
    valid = ops.cast(mask, dtype)
    return valid / maximum(ops.sum(valid, axis=-1, keepdims=True), 1.0)


def _log(weights: Any) -> Any:
    """Logarithm of weights, with `_MASKED` for nothing and a finite gradient there."""
    positive = weights > 0.0
    return ops.where(positive, ops.log(ops.where(positive, weights, ops.ones_like(weights))), _MASKED)


def sinkhorn_potentials(
    cost: Any, epsilon: float, iterations: int, a: Any = None, b: Any = None
) -> tuple[Any, Any, Any]:
    """Solve entropic transport for its dual potentials, in units of `epsilon`.

    The last update is that of `f`, as in POT's `sinkhorn_log`, so the rows of the plan sum to `a` exactly and its
    columns to `b` as well as the iterations have converged. The loop is unrolled: differentiating through `fori_loop`
    or `scan` fails under XLA in TensorFlow, through `while_loop` in JAX.

    The iteration runs on logarithms. Where `exp(-1 / epsilon)` and its products are far from the limits of float32
    (`epsilon >= 0.04`, the default included) the same iteration runs on the scalings themselves, which is as exact,
    takes a half to a tenth of the time and keeps vectors instead of matrices for the gradient.

    Args:
        cost: `(..., N, M)` in [0, 1], as `cost_matrix` gives it; where `a` or `b` is 0, anything finite.
        epsilon: entropic regularisation, from 1e-6: `1 / epsilon` must stay far below 1e9, which stands for nothing.
        iterations: number of updates of both potentials.
        a: `(..., N)` weights of the rows, at least 0, of sum 1; a row of weight 0 does not count. None: `1 / N` each.
        b: `(..., M)` weights of the columns, likewise. None: `1 / M` each.

    Returns:
        `f` `(..., N)`, `g` `(..., M)` and `kernel = -cost / epsilon` `(..., N, M)`, -1e9 standing for nothing in all
        three; the plan is `exp(f[:, None] + g[None, :] + kernel)`.
    """
    rows, columns = (None if weights is None else weights > 0.0 for weights in (a, b))
    kernel = cost * (-1.0 / epsilon)
    both = pair_mask(rows, columns)
    if both is not None:
        kernel = ops.where(both, kernel, ops.full_like(kernel, _MASKED))
    if a is None:
        a = ops.reshape(1.0 / ops.cast(ops.shape(cost)[-2], cost.dtype), (1,))
    if b is None:
        b = ops.reshape(1.0 / ops.cast(ops.shape(cost)[-1], cost.dtype), (1,))
    iterate = _by_scalings if epsilon >= _LEAST_EPSILON_OF_SCALINGS else _by_logarithms
    f, g = iterate(kernel, a, b, iterations, both is not None)
    if both is not None:
        # A point whose partners are all masked would keep a potential that outweighs _MASKED.
        f, g = (minimum(potential, -0.1 * _MASKED) for potential in (f, g))
    return _or_nothing(f, rows), _or_nothing(g, columns), kernel


def _or_nothing(potential: Any, mask: Any) -> Any:
    if mask is None:
        return potential
    return ops.where(mask, potential, ops.full_like(potential, _MASKED))


def _by_logarithms(kernel: Any, a: Any, b: Any, iterations: int, masked: bool) -> tuple[Any, Any]:
    log = _log if masked else ops.log
    log_a, log_b = log(a), log(b)
    f, g = ops.zeros_like(kernel[..., 0]), ops.zeros_like(kernel[..., 0, :])
    for _ in range(iterations):
        g = log_b - ops.logsumexp(kernel + ops.expand_dims(f, -1), axis=-2)
        f = log_a - ops.logsumexp(kernel + ops.expand_dims(g, -2), axis=-1)
    return f, g


def _by_scalings(kernel: Any, a: Any, b: Any, iterations: int, masked: bool) -> tuple[Any, Any]:
    a, b = ops.expand_dims(a, -2), ops.expand_dims(b, -2)
    if not masked:
        solve = _lean_scalings(kernel) or _scalings
        log_u, log_v = solve(kernel, a, b, iterations)
        return log_u[..., 0, :], log_v[..., 0, :]

    def divided(weights: Any, sums: Any) -> Any:
        # A sum is 0 only where all pairs are masked.
        return weights / ops.where(sums > 0.0, sums, ops.ones_like(sums))

    _, _, us, vs = _iterated(kernel, a, b, iterations, divided)
    return _log(us[-1][..., 0, :]), _log(vs[-1][..., 0, :])


def _iterated(
    kernel: Any, a: Any, b: Any, iterations: int, divided: Callable[[Any, Any], Any] = truediv
) -> tuple[Any, Any, list[Any], list[Any]]:
    """The kernel's exponential, its transpose, and both scalings after each update, the rows' also before the first.

    Scalings are rows, `(..., 1, N)` and `(..., 1, M)`, whose products are the fastest.
    """
    forth = ops.exp(kernel)
    back = ops.swapaxes(forth, -1, -2)
    us: list[Any] = [ops.ones_like(back[..., :1, :])]
    vs: list[Any] = []
    for _ in range(iterations):
        vs.append(divided(b, us[-1] @ forth))
        us.append(divided(a, vs[-1] @ back))
    return forth, back, us, vs


def _scalings(kernel: Any, a: Any, b: Any, iterations: int) -> tuple[Any, Any]:
    """Logarithms of both scalings, `(..., 1, N)` and `(..., 1, M)`."""
    _, _, us, vs = _iterated(kernel, a, b, iterations)
    return ops.log(us[-1]), ops.log(vs[-1])


def _lean_scalings(kernel: Any) -> Any:
    """`_scalings` with the gradient of all iterations as one product; None where the backend derives it by itself.

    What a backend derives adds up one matrix per product of the iteration, each as large as the kernel. Their sum is
    the product of the vectors, stacked.
    """
    known = keras.backend.backend() in ("tensorflow", "jax")
    return _scalings_by_rows if known and not keras.utils.is_keras_tensor(kernel) else None


def _scalings_by_rows(kernel: Any, a: Any, b: Any, iterations: int) -> tuple[Any, Any]:
    count = ops.shape(kernel)[-2]

    @ops.custom_gradient
    def solve(kernel: Any) -> Any:
        forth, back, us, vs = _iterated(kernel, a, b, iterations)

        def gradient(slope: Any) -> Any:
            # Backwards through u = a / (v K^T) and v = b / (u K), in the slopes of log u and log v.
            of_u, of_v = slope[..., :count], slope[..., count:]
            left, right = [], []
            for before, v, u in zip(us[-2::-1], vs[::-1], us[:0:-1], strict=True):
                of_sums = -of_u * u / a
                left.append(of_sums)
                right.append(v)
                of_v = of_v + (of_sums @ forth) * v
                of_sums = -of_v * v / b
                left.append(before)
                right.append(of_sums)
                of_u, of_v = (of_sums @ back) * before, 0.0
            stacked = ops.swapaxes(ops.concatenate(left, axis=-2), -1, -2)
            return (stacked @ ops.concatenate(right, axis=-2)) * forth

        return ops.concatenate([ops.log(us[-1]), ops.log(vs[-1])], axis=-1), gradient

    both = solve(ops.convert_to_tensor(kernel))
    return both[..., :count], both[..., count:]


def sinkhorn_log_plan(cost: Any, epsilon: float, iterations: int, a: Any = None, b: Any = None) -> Any:
    """Solve entropic transport for the logarithm of its plan, `(..., N, M)`; see `sinkhorn_potentials`.

    The plan itself, of total mass 1, is `ops.exp` of it.
    """
    f, g, kernel = sinkhorn_potentials(cost, epsilon, iterations, a, b)
    return ops.expand_dims(f, -1) + ops.expand_dims(g, -2) + kernel


def barycentric_map(log_plan: Any, points: Any) -> Any:
    """Send each row to its mean of `points` under the plan, `(..., N, M), (..., M, D) -> (..., N, D)`.

    `diag(1 / Gamma 1) Gamma points`. It takes the logarithm of the plan because a row of a plan that has not converged
    may be too small for the dtype; terms that are constant along a row do not matter.
    """
    # Not `ops.softmax`, which warns about a row of one entry.
    weights = ops.exp(log_plan - ops.stop_gradient(ops.max(log_plan, axis=-1, keepdims=True)))
    return weights @ points / ops.sum(weights, axis=-1, keepdims=True)
