"""Midpoint of points of the Poincare ball."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from ..ops import poincare
from .base import MergeLayer, positive

LEARNED = "learned"


@keras.saving.register_keras_serializable(package="serfuse")
class GyroMidpoint(MergeLayer):
    """The point halfway on the geodesic between two points of the ball, or the middle of more, whatever their order.

    Ungar's Moebius gyromidpoint; see `poincare.gyromidpoint` and `poincare.weighted_midpoint` for the closed forms. It
    is not in the papers: it stands beside `MobiusAdd` as a fusion in which all inputs weigh the same.

    Args:
        weights: None: all weigh the same. Or one positive number per input, of which only the ratios count. Or
            "learned": one number per input is trained, and their softmax are the weights, all equal at first.

    Shapes: a list of two or more tensors `(batch, ..., features)` of one shape, to one tensor of that shape. A position
    is masked where it is masked in any input.

    Raises:
        ValueError: the inputs are not two or more tensors of the same shape, or not as many as there are weights; or a
            weight is not a number from 1e-6 to 1e6.
    """

    def __init__(self, weights: Sequence[float] | Literal["learned"] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        plain = weights is None or (isinstance(weights, str) and weights == LEARNED)
        self.proportions = weights if plain else _numbers(weights)
        self.logits: Any = None

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        if self.proportions == LEARNED:
            # float32 whatever the policy: as exact as what is computed with it
            self.logits = self.add_weight(
                shape=(len(input_shape),), initializer="zeros", name="logits", dtype="float32", autocast=False
            )

    def merged(self, *tensors: Any) -> Any:
        """Find the middle."""
        if self.proportions is None and len(tensors) == 2:
            return poincare.gyromidpoint(*tensors)
        if self.proportions == LEARNED:
            shares = ops.softmax(ops.cast(self.logits, tensors[0].dtype))
            return poincare.weighted_midpoint(tensors, [shares[place] for place in range(len(tensors))])
        return poincare.weighted_midpoint(tensors, self.proportions or [1.0] * len(tensors))

    def _merged(self, shapes: Any) -> tuple[int | None, ...]:
        merged = super()._merged(shapes)
        if self.proportions not in (None, LEARNED) and len(self.proportions) != len(shapes):
            raise ValueError(
                f"GyroMidpoint expects as many tensors as it has weights, {len(self.proportions)}. "
                f"Received: input_shape={shapes}"
            )
        return merged

    def get_config(self) -> dict[str, Any]:
        """Return arguments that make the same layer again."""
        config = super().get_config()
        if self.proportions is None:
            return config
        return {**config, "weights": self.proportions if self.proportions == LEARNED else list(self.proportions)}


def _numbers(weights: Any) -> tuple[float, ...]:
    if not isinstance(weights, list | tuple) or len(weights) < 2:
        raise ValueError(f"weights must be None, 'learned' or a list of two or more numbers. Received: {weights!r}")
    return tuple(positive("weights", number, least=1e-6, largest=1e6) for number in weights)
