"""Moebius addition in the Poincare ball."""

from functools import reduce
from typing import Any

import keras

from ..ops import poincare
from .base import MergeLayer


@keras.saving.register_keras_serializable(package="serfuse")
class MobiusAdd(MergeLayer):
    """Moebius addition of two points of the ball (HYFuse equation 2), or of more from left to right.

        x (+) y = ((1 + 2<x,y> + ||y||^2) x + (1 - ||x||^2) y) / (1 + 2<x,y> + ||x||^2 ||y||^2)

    Computed in a form of the same value in which nothing cancels (`poincare.mobius_add`), then projected into the
    ball's usable part. The order matters: near the boundary `1 - ||x||^2` is nearly 0 and `y` nearly disappears. So
    does the bracketing: three points are added as `(x (+) y) (+) z`.

    Shapes: a list of two or more tensors `(batch, ..., features)` of one shape, to one tensor of that shape. A position
    is masked where it is masked in any input.

    Raises:
        ValueError: the inputs are not two or more tensors of the same shape.
    """

    def merged(self, *tensors: Any) -> Any:
        """Add, `x (+) y`, then what follows."""
        return reduce(poincare.mobius_add, tensors)
