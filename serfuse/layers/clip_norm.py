"""Bound on the length of tangent vectors."""

from typing import Any

import keras
from keras import ops

from .. import poincare
from .precise import VectorLayer


@keras.saving.register_keras_serializable(package="serfuse")
class ClipNorm(VectorLayer):
    """Vectors longer than `max_norm` scaled down to it, `x min(1, max_norm / ||x||)`; the others as they are.

    Before an exponential map it keeps `kappa ||x||` where tanh still has a gradient, whatever training does to the
    features: Guo, Wang, Luo and Yu, "Clipped Hyperbolic Classifiers Are Super-Hyperbolic Classifiers", CVPR 2022,
    equation 9.

    Args:
        max_norm: positive.

    Shapes: `(batch, ..., features)` to the same. Masks pass through.

    Raises:
        ValueError: `max_norm` is not a positive number, or the input is not one tensor `(batch, ..., features)`.
    """

    def __init__(self, max_norm: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_norm = float(max_norm)
        if not 0.0 < self.max_norm < float("inf"):
            raise ValueError(f"max_norm must be a positive number. Received: max_norm={max_norm}")

    def call(self, inputs: Any) -> Any:
        x = self.precise(inputs)
        length = poincare.norm(x)
        return self.returned(ops.where(length > self.max_norm, x * (self.max_norm / length), x))

    def get_config(self) -> dict[str, Any]:
        """Arguments that make the same layer again."""
        return {**super().get_config(), "max_norm": self.max_norm}
