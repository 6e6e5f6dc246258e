"""A dense layer for each of several networks that are trained side by side."""

from typing import Any

import keras
from keras import ops

from .base import PreciseLayer, shapes_of, whole

ACTIVATIONS = ("linear", "relu", "softmax")
_MOST_UNITS = 2**20


@keras.saving.register_keras_serializable(package="serfuse")
class MemberDense(PreciseLayer):
    """One dense layer per member of an ensemble, in one product: `y_m = activation(x_m W_m + b_m)`.

    Kernels start as Glorot and Bengio's uniform distribution has it for each member by itself, and biases at 0.

    Args:
        units: values of each member's result, from 1 to 2^20.
        activation: "linear", "relu" or "softmax".

    Shapes: `(batch, members, features)` to `(batch, members, units)`. Masks are not supported.

    Raises:
        ValueError: an argument is out of range, or the input is not such a tensor of known members and features.
    """

    def __init__(self, units: int, activation: str = "linear", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = False
        self.units = whole("units", units, _MOST_UNITS)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}. Received: activation={activation!r}")
        self.activation = activation

    def build(self, input_shape: Any) -> None:
        self.compute_output_shape(input_shape)
        _, members, features = input_shape
        limit = (6.0 / (features + self.units)) ** 0.5
        self.kernel = self.add_weight(
            name="kernel",
            shape=(members, features, self.units),
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )
        self.bias = self.add_weight(name="bias", shape=(members, self.units), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        shape = shapes_of(inputs)
        self.compute_output_shape(shape)
        if tuple(shape[1:]) != tuple(self.kernel.shape[:2]):
            raise ValueError(
                f"MemberDense was built for {self.kernel.shape[0]} members of {self.kernel.shape[1]} features. "
                f"Received: input_shape={shape}"
            )
        x = self.precise(inputs)
        y = ops.einsum("bmf,mfu->bmu", x, ops.cast(self.kernel, x.dtype)) + ops.cast(self.bias, x.dtype)
        if self.activation != "linear":
            y = ops.relu(y) if self.activation == "relu" else ops.softmax(y, axis=-1)
        return self.returned(y)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return the shape of the input with `units` in place of the features.

        Raises:
            ValueError: the input is not such a tensor.
        """
        one = isinstance(input_shape, tuple | list) and all(n is None or isinstance(n, int) for n in input_shape)
        if not one or len(input_shape) != 3 or not input_shape[1] or not input_shape[2]:
            raise ValueError(
                "MemberDense expects one tensor of shape (batch, members, features) with known numbers of members and "
                f"features, at least 1. Received: input_shape={input_shape}"
            )
        return (*input_shape[:2], self.units)

    def compute_output_spec(self, inputs: Any, **_kwargs: Any) -> keras.KerasTensor:
        """Return the shape of the result and the compute dtype of the policy."""
        return keras.KerasTensor(self.compute_output_shape(shapes_of(inputs)), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return arguments that make the same layer again."""
        return {**super().get_config(), "units": self.units, "activation": self.activation}
