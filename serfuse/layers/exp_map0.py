"""Exponential map at the origin of the Poincare ball."""

from typing import Any

import keras

from ..ops import poincare
from .base import VectorLayer, positive


@keras.saving.register_keras_serializable(package="serfuse")
class ExpMap0(VectorLayer):
    """Exponential map at the origin, `tanh(kappa ||x||) x / ||x||` (HYFuse equation 1).

    Args:
        kappa: scale of the tangent vector, from 1e-12 to 1e12. The paper calls it the curvature, but the ball keeps
            radius 1. With features of norm 5 to 20 and `kappa = 1`, tanh is 1 in float32 and every vector lands on the
            edge: choose it so that `kappa ||x||` starts near 1.

    Shapes: `(batch, ..., features)` to the same. Masks pass through.

    Raises:
        ValueError: `kappa` is not such a number, or the input is not one tensor `(batch, ..., features)`.
    """

    def __init__(self, kappa: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kappa = positive("kappa", kappa)

    def mapped(self, x: Any) -> Any:
        """Map tangent vectors to points of the ball."""
        return poincare.expmap0(x, self.kappa)

    def get_config(self) -> dict[str, Any]:
        """Return arguments that make the same layer again."""
        return {**super().get_config(), "kappa": self.kappa}
