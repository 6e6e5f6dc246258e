"""Weighted sum over the layers of an encoder."""

from typing import Any

import keras
from keras import ops

from .base import PreciseLayer, positive, shapes_of


@keras.saving.register_keras_serializable(package="serfuse")
class LayerWeights(PreciseLayer):
    """`sum_l softmax(rate w)_l x_l` over the layers of a frozen encoder, with one trained number for each.

    The weighted sum of SUPERB: Yang and others, "SUPERB: Speech processing Universal PERformance Benchmark",
    Interspeech 2021, section 3. It begins with all layers alike. `rate` is not theirs: they train for tens of thousands
    of steps, and in the hundreds that a few hundred clips give, Adam, whose steps have the size of the learning rate,
    would leave the weights where they began.

    Args:
        rate: how many times as fast as other weights these are trained; 1 is SUPERB's.

    Shapes: `(batch, layers, features)` to `(batch, features)`. Masks are not supported.

    Attributes:
        logits: `(layers,)`, the trained numbers, float32.

    Raises:
        ValueError: `rate` is no positive number, or the input is not one tensor `(batch, layers, features)` with a
            known number of layers and features.
    """

    def __init__(self, rate: float = 10.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = False
        self.rate = positive("rate", rate)

    def build(self, input_shape: Any) -> None:
        self.compute_output_shape(input_shape)
        self.logits = self.add_weight(
            name="layer_logits", shape=(input_shape[-2],), initializer="zeros", autocast=False
        )

    def call(self, inputs: Any) -> Any:
        self.compute_output_shape(shapes_of(inputs))
        weights = ops.reshape(ops.softmax(self.rate * self.precise(self.logits)), (1, -1))
        return self.returned(ops.squeeze(ops.matmul(weights, self.precise(inputs)), axis=-2))

    def weights_of_layers(self) -> list[float]:
        """The weights of the sum, one for each layer, positive and summing to 1."""
        weights = ops.softmax(self.rate * ops.cast(self.logits, "float32"))
        return [float(one) for one in ops.convert_to_numpy(weights)]

    def get_config(self) -> dict[str, Any]:
        """Return arguments that make the same layer again."""
        return {**super().get_config(), "rate": self.rate}

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return the shape of the input without the axis of the layers.

        Raises:
            ValueError: the input is not such a tensor, or has another number of layers than the one it was built for.
        """
        one = isinstance(input_shape, tuple | list) and all(n is None or isinstance(n, int) for n in input_shape)
        if not one or len(input_shape) != 3 or not input_shape[-1] or not input_shape[-2]:
            raise ValueError(
                "LayerWeights expects one tensor of shape (batch, layers, features) with known numbers of layers and "
                f"features, at least 1. Received: input_shape={input_shape}"
            )
        if self.built and input_shape[-2] != self.logits.shape[0]:
            raise ValueError(
                f"LayerWeights was built for {self.logits.shape[0]} layers. Received: input_shape={input_shape}"
            )
        return (input_shape[0], input_shape[-1])

    def compute_output_spec(self, inputs: Any, **_kwargs: Any) -> keras.KerasTensor:
        """Return the shape of the result and the compute dtype of the policy."""
        return keras.KerasTensor(self.compute_output_shape(shapes_of(inputs)), dtype=self.compute_dtype)
