"""Squared lengths of long vectors, with gradients that read each vector once.

What a backend derives by itself for `sum(square(x))` writes three vectors as long as `x`; those of the maps of the
Poincare ball have tens of thousands of values a clip, and reading and writing them is most of what the maps cost.
PyTorch and JAX keep what they derive: JAX compiles it into one pass.
"""

from functools import cache
from typing import Any

import keras
from keras import ops


def squared(x: Any) -> Any:
    """Squared lengths, `(..., D) -> (..., 1)`."""
    if not _lean(x):
        return ops.sum(ops.square(x), axis=-1, keepdims=True)
    return _squared()(ops.convert_to_tensor(x))


def within(x: Any, largest: Any) -> tuple[Any, Any]:
    """Vectors and their squared lengths, those with values beyond `largest` scaled down to it: `(..., D), (..., 1)`.

    Args:
        x: `(..., D)`.
        largest: a number, or a tensor of one; its square, summed over the values of a vector, must be finite.
    """
    if not _lean(x) or not isinstance(largest, float | int):
        near, _ = scaled_within(x, largest)
        return near, squared(near)
    return _within(ops.convert_to_tensor(x), largest)


def scaled_within(x: Any, largest: Any) -> tuple[Any, Any]:
    """Vectors, those with values beyond `largest` scaled down to it, and the factors `(..., 1)` by which they were."""
    fixed = ops.stop_gradient(x)
    factor = _factor(fixed, largest)
    return (x if 0 in x.shape else x * factor), factor


def _factor(x: Any, largest: Any) -> Any:
    from .float64 import maximum

    if 0 in x.shape:  # no clip: TensorFlow refuses to look for the largest of nothing
        return ops.ones_like(x[..., :1])
    size = maximum(ops.max(x, axis=-1, keepdims=True), -ops.min(x, axis=-1, keepdims=True))
    return ops.where(size > largest, largest / size, ops.ones_like(size))


def _lean(x: Any) -> bool:
    return keras.backend.backend() == "tensorflow" and not keras.utils.is_keras_tensor(x)


@cache
def _squared() -> Any:
    @ops.custom_gradient
    def squared(x: Any) -> Any:
        return ops.sum(ops.square(x), axis=-1, keepdims=True), lambda slope: 2 * slope * x

    return squared


def _within(x: Any, largest: float) -> tuple[Any, Any]:
    @ops.custom_gradient
    def within(x: Any) -> Any:
        square = ops.sum(ops.square(x), axis=-1, keepdims=True)
        # No value is beyond it where not even the length is, which is nearly always: nothing more is read then.
        usual = ops.all(square <= largest**2)

        def scaled() -> tuple[Any, Any, Any]:
            factor = _factor(x, largest)
            near = x * factor
            return near, ops.sum(ops.square(near), axis=-1, keepdims=True), factor

        near, found, factor = ops.cond(usual, lambda: (x, square, ops.ones_like(square)), scaled)

        def gradient(of_near: Any, of_square: Any) -> Any:
            slope = of_near + 2 * of_square * near
            return ops.cond(usual, lambda: slope, lambda: slope * factor)

        return (near, found), gradient

    return within(x)
