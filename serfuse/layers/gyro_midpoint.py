"""Midpoint of two points of the Poincare ball."""

from typing import Any

import keras

from ..ops import poincare
from .base import PairLayer


@keras.saving.register_keras_serializable(package="serfuse")
class GyroMidpoint(PairLayer):
    """The point halfway on the geodesic between two points of the ball, the same in both orders.

    Ungar's Moebius gyromidpoint; see `poincare.gyromidpoint` for the closed form. It is not in the papers: it stands
    beside `MobiusAdd` as a fusion in which both inputs weigh the same.

    Shapes: a list of two tensors `(batch, ..., features)` of one shape, to one tensor of that shape. A position is
    masked where it is masked in either input.

    Raises:
        ValueError: the inputs are not two tensors of the same shape.
    """

    def merged(self, x: Any, y: Any) -> Any:
        """Find the point halfway."""
        return poincare.gyromidpoint(x, y)
