"""Moebius addition in the Poincare ball."""

from typing import Any

import keras

from ..ops import poincare
from .base import PairLayer


@keras.saving.register_keras_serializable(package="serfuse")
class MobiusAdd(PairLayer):
    """Moebius addition of two points of the ball (HYFuse equation 2).

        x (+) y = ((1 + 2<x,y> + ||y||^2) x + (1 - ||x||^2) y) / (1 + 2<x,y> + ||x||^2 ||y||^2)

    Computed in a form of the same value in which nothing cancels (`poincare.mobius_add`), then projected into the
    ball's usable part. The order matters: near the boundary `1 - ||x||^2` is nearly 0 and `y` nearly disappears.

    Shapes: a list of two tensors `(batch, ..., features)` of one shape, to one tensor of that shape. A position is
    masked where it is masked in either input.

    Raises:
        ValueError: the inputs are not two tensors of the same shape.
    """

    def merged(self, x: Any, y: Any) -> Any:
        """Add, `x (+) y`."""
        return poincare.mobius_add(x, y)
