"""Operations that keep float64 on every backend.

In Keras 3.15 `ops.minimum`, `maximum` and `matmul` on torch, and `ops.tanh` and `arctanh` on JAX, give float32 for
float64. `x @ y` keeps it everywhere.
"""

from typing import Any

from keras import backend, ops


def minimum(x: Any, y: Any) -> Any:
    """Take the smaller of `x` and `y`, element by element; `y` may be a number."""
    return ops.where(x > y, _like(y, x), x)


def maximum(x: Any, y: Any) -> Any:
    """Take the larger of `x` and `y`, element by element; `y` may be a number."""
    return ops.where(x < y, _like(y, x), x)


def tanh(x: Any) -> Any:
    """Compute the hyperbolic tangent of `x >= 0`."""
    if backend.standardize_dtype(x.dtype) != "float64":
        return ops.tanh(x)
    return -ops.expm1(-2.0 * x) / (1.0 + ops.exp(-2.0 * x))


def arctanh(x: Any) -> Any:
    """Compute the inverse hyperbolic tangent of `0 <= x < 1`."""
    if backend.standardize_dtype(x.dtype) != "float64":
        return ops.arctanh(x)
    return 0.5 * (ops.log1p(x) - ops.log1p(-x))


def _like(value: Any, x: Any) -> Any:
    return ops.full_like(x, value) if isinstance(value, int | float) else value
