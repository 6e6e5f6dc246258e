"""What the layers share: precision that does not follow the policy, and checks of what comes in."""

from typing import Any

import keras
from keras import ops


class PreciseLayer(keras.layers.Layer):
    """A layer that computes in float32 (float64 under that policy) and returns the policy's compute dtype.

    Half precision inside would be wrong rather than inexact: float16 squares overflow at 256 and `1 - ||x||^2` has
    three digits.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True

    def precise(self, x: Any) -> Any:
        """`x` in the dtype of the computation."""
        return ops.cast(x, "float64" if self.compute_dtype == "float64" else "float32")

    def returned(self, x: Any) -> Any:
        """`x` in the dtype that the next layer expects."""
        return ops.cast(x, self.compute_dtype)


class VectorLayer(PreciseLayer):
    """A map of vectors `(..., D)` to vectors of the same shape."""

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)

    def _check(self, shape: Any) -> None:
        if not _is_shape(shape) or len(shape) < 2 or shape[-1] is None:
            raise ValueError(
                f"{type(self).__name__} expects one tensor of shape (batch, ..., features) with a known number of "
                f"features. Received: input_shape={shape}"
            )

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """The shape of the input.

        Raises:
            ValueError: the input is not one tensor `(batch, ..., features)`.
        """
        self._check(input_shape)
        return tuple(input_shape)

    def compute_output_spec(self, inputs: Any, **_kwargs: Any) -> keras.KerasTensor:
        """Shape of the input, compute dtype of the policy."""
        shape = getattr(inputs, "shape", None) or [getattr(x, "shape", None) for x in inputs]
        return keras.KerasTensor(self.compute_output_shape(shape), dtype=self.compute_dtype)


class PairLayer(PreciseLayer):
    """A map of two tensors of one shape `(..., D)` to one tensor of that shape."""

    def build(self, input_shape: Any) -> None:
        self._merged(input_shape)

    def _merged(self, shapes: Any) -> tuple[int | None, ...]:
        name = type(self).__name__
        if _is_shape(shapes) or len(shapes) != 2 or not all(_is_shape(shape) for shape in shapes):
            raise ValueError(f"{name} expects a list of two tensors of the same shape. Received: input_shape={shapes}")
        first, second = shapes
        ranks_agree = len(first) == len(second) >= 2
        if not ranks_agree or any(None not in (m, n) and m != n for m, n in zip(first, second, strict=True)):
            raise ValueError(
                f"{name} expects a list of two tensors of the same shape (batch, ..., features). "
                f"Received: input_shape={shapes}. Bring them to one length first (zero padding or a Dense layer)."
            )
        if first[-1] is None or second[-1] is None:
            raise ValueError(f"{name} expects a known number of features. Received: input_shape={shapes}")
        return tuple(n if m is None else m for m, n in zip(first, second, strict=True))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """The common shape of the two inputs.

        Raises:
            ValueError: the inputs are not two tensors of the same shape.
        """
        return self._merged(input_shape)

    def compute_output_spec(self, inputs: Any, **_kwargs: Any) -> keras.KerasTensor:
        """Shape of the inputs, compute dtype of the policy."""
        shapes = inputs.shape if hasattr(inputs, "shape") else [tuple(x.shape) for x in inputs]
        return keras.KerasTensor(self.compute_output_shape(shapes), dtype=self.compute_dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """A position counts where it counts in both inputs."""
        masks = [mask for mask in (previous_mask or []) if mask is not None]
        if len(masks) < 2:
            return masks[0] if masks else None
        return ops.logical_and(*masks)


def _is_shape(value: Any) -> bool:
    """Whether a value is one shape rather than a list of them."""
    return isinstance(value, tuple | list) and all(n is None or isinstance(n, int) for n in value)
