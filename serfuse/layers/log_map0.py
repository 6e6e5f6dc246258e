"""Logarithmic map at the origin of the Poincare ball."""

from typing import Any

import keras

from ..ops import poincare
from .base import VectorLayer, positive


@keras.saving.register_keras_serializable(package="serfuse")
class LogMap0(VectorLayer):
    """Logarithmic map at the origin, `scale artanh(||x||) x / ||x||` (HYFuse equation 3).

    Args:
        scale: factor from 1e-12 to 1e12; 2 as printed. `LogMap0(scale)(ExpMap0(kappa)(x)) = scale * kappa * x`, so
            `1 / kappa` is the exact inverse of `ExpMap0(kappa)`, and 2 is that only for `kappa = 1/2`.

    Shapes: `(batch, ..., features)` to the same. Points outside of the ball's usable part are projected onto its edge
    (`poincare.margin`). Masks pass through.

    Raises:
        ValueError: `scale` is not such a number, or the input is not one tensor `(batch, ..., features)`.
    """

    def __init__(self, scale: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = positive("scale", scale)

    def mapped(self, x: Any) -> Any:
        """Map points of the ball to tangent vectors."""
        return poincare.logmap0(x, self.scale)

    def get_config(self) -> dict[str, Any]:
        """Return arguments that make the same layer again."""
        return {**super().get_config(), "scale": self.scale}
