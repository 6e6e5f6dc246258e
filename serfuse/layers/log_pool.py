"""Geometric mean of class probabilities."""

from typing import Any

import keras
from keras import ops

from .base import PreciseLayer, shapes_of

_LEAST = 1e-7  # as Keras' cross-entropy clips: an expert that is sure cannot rule a class out for all others


@keras.saving.register_keras_serializable(package="serfuse")
class LogPool(PreciseLayer):
    """The normalised geometric mean of what several experts say, `softmax(mean_e log p_e)`.

    A logarithmic opinion pool with equal weights: Heskes, "Selecting Weighting Factors in Logarithmic Opinion Pools",
    NeurIPS 1997. Its cross-entropy is at most the mean of the experts' own. Probabilities below 1e-7 count as that.

    Shapes: `(batch, ..., experts, classes)` of probabilities to `(batch, ..., classes)`, which sum to 1. Masks are not
    supported.

    Raises:
        ValueError: the input is not one tensor of three axes or more, with known numbers of experts and classes.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = False

    def build(self, input_shape: Any) -> None:
        self.compute_output_shape(input_shape)

    def call(self, inputs: Any) -> Any:
        self.compute_output_shape(shapes_of(inputs))
        logs = ops.log(ops.maximum(self.precise(inputs), _LEAST))
        return self.returned(ops.softmax(ops.mean(logs, axis=-2), axis=-1))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return the shape of the input without the axis of the experts.

        Raises:
            ValueError: the input is not such a tensor.
        """
        one = isinstance(input_shape, tuple | list) and all(n is None or isinstance(n, int) for n in input_shape)
        if not one or len(input_shape) < 3 or not input_shape[-1] or not input_shape[-2]:
            raise ValueError(
                "LogPool expects one tensor of shape (batch, ..., experts, classes) with known numbers of experts and "
                f"classes, at least 1. Received: input_shape={input_shape}"
            )
        return (*input_shape[:-2], input_shape[-1])

    def compute_output_spec(self, inputs: Any, **_kwargs: Any) -> keras.KerasTensor:
        """Return the shape of the result and the compute dtype of the policy."""
        return keras.KerasTensor(self.compute_output_shape(shapes_of(inputs)), dtype=self.compute_dtype)
