"""A fixed set of vectors that travels with the model."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from .base import PreciseLayer


@keras.saving.register_keras_serializable(package="serfuse")
class ReferenceSet(PreciseLayer):
    """Returns its own stored vectors, whatever it is called on.

    The input only ties the layer to a model. The vectors are non-trainable weights: a `.keras` file holds them, and
    `get_config` holds just their shape.

    Args:
        values: `(M, D)` vectors, e.g. clips drawn from the training part, or `(M, L, D)` with the layers of an encoder.
            May be omitted where `shape` is given and the weights are loaded afterwards; they are zeros until then.
        shape: of the values, when they are omitted.

    Shapes: any tensor, to that shape. The output has no batch axis.

    Raises:
        ValueError: `values` is no finite matrix (or stack of them) with at least one row, or neither argument is given.
    """

    def __init__(self, values: Any = None, shape: Sequence[int] | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("trainable", False)
        super().__init__(**kwargs)
        self.supports_masking = False
        if values is None and shape is None:
            raise ValueError("ReferenceSet needs `values` (M, D), or `shape` when the weights are loaded afterwards.")
        if values is not None:
            try:
                values = np.asarray(values, dtype="float32")
            except (TypeError, ValueError) as error:
                raise ValueError(f"ReferenceSet expects a matrix of numbers (references, features): {error}") from error
            if not np.isfinite(values).all():
                raise ValueError("The values of a ReferenceSet must be finite; received NaN or infinity among them.")
            if shape is not None and tuple(shape) != values.shape:
                raise ValueError(f"Received values of shape {values.shape} and shape={tuple(shape)}, which differ.")
            shape = values.shape
        axes = shape if isinstance(shape, tuple | list) else ()
        if len(axes) not in (2, 3) or not all(isinstance(n, int) and n >= 1 for n in axes):
            raise ValueError(f"ReferenceSet expects a matrix (references, features). Received shape: {shape}")
        self.shape = tuple(axes)
        initializer = "zeros" if values is None else (lambda shape, dtype=None: keras.ops.cast(values, dtype))
        self.vectors = self.add_weight(
            name="vectors", shape=self.shape, initializer=initializer, trainable=False, autocast=False
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        return self.returned(self.vectors)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """Return None: references are never masked."""
        return None

    def compute_output_shape(self, input_shape: Any) -> tuple[int, ...]:
        """Return the shape of the values."""
        return self.shape

    def compute_output_spec(self, inputs: Any, **_kwargs: Any) -> keras.KerasTensor:
        """Return the shape of the values and the policy's compute dtype."""
        return keras.KerasTensor(self.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the shape; the vectors are weights."""
        return {**super().get_config(), "shape": list(self.shape)}
