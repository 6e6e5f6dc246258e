"""Bound on the length of tangent vectors."""

from typing import Any

import keras

from ..ops import poincare
from .base import VectorLayer, positive


@keras.saving.register_keras_serializable(package="serfuse")
class ClipNorm(VectorLayer):
    """Vectors longer than `max_norm` scaled down to it, `x min(1, max_norm / ||x||)`; the others as they are.

    Before an exponential map it keeps `kappa ||x||` where tanh still has a gradient, whatever training does to the
    features: Guo, Wang, Luo and Yu, "Clipped Hyperbolic Classifiers Are Super-Hyperbolic Classifiers", CVPR 2022,
    equation 9.

    Args:
        max_norm: from 1e-12 to 1e12.

    Shapes: `(batch, ..., features)` to the same. Masks pass through.

    Raises:
        ValueError: `max_norm` is not such a number, or the input is not one tensor `(batch, ..., features)`.
    """

    def __init__(self, max_norm: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_norm = positive("max_norm", max_norm)

    def mapped(self, x: Any) -> Any:
        """Scale what is longer than `max_norm` down to it."""
        return poincare.clip_norm(x, self.max_norm)

    def get_config(self) -> dict[str, Any]:
        """Return arguments that make the same layer again."""
        return {**super().get_config(), "max_norm": self.max_norm}
