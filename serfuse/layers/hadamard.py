"""Elementwise product of two representations."""

from typing import Any

import keras

from .base import MergeLayer


@keras.saving.register_keras_serializable(package="serfuse")
class Hadamard(MergeLayer):
    """Elementwise product `R_p * R_q` (PARROT section 3.1).

    Shapes: a list of two tensors `(batch, ..., features)` of one shape, to one tensor of that shape. A position is
    masked where it is masked in either input.

    Raises:
        ValueError: the inputs are not two tensors of the same shape. Unlike `keras.layers.Multiply` it does not
            broadcast, which would hide two branches of unequal length.
    """

    most = 2

    def merged(self, x: Any, y: Any) -> Any:
        """Multiply."""
        return x * y
