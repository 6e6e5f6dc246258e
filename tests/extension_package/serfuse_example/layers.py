"""A Keras layer of the package's own; the registration gives it the name that model files use."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("serfuse_example")
class Gate(keras.layers.Layer):
    """Each value times a learned share between 0 and 1."""

    def build(self, input_shape: Any) -> None:
        self.logits = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="logits")

    def call(self, inputs: Any) -> Any:
        return inputs * keras.ops.sigmoid(self.logits)
