"""What the layers share: precision that does not follow the policy, and checks of what comes in."""

from typing import Any

import keras
from keras import ops

_LEAST, _LARGEST = 1e-12, 1e12


def positive(name: str, value: Any, least: float = _LEAST, largest: float = _LARGEST) -> float:
    """Check that a layer's argument is a float whose powers float32 can hold.

    Raises:
        ValueError: it is no number, or not from `least` to `largest`; a configuration file may hold anything.
    """
    number = _number(value)
    if not least <= number <= largest:
        raise ValueError(f"{name} must be a positive number from {least:g} to {largest:g}. Received: {name}={value!r}")
    return number


def whole(name: str, value: Any, largest: int) -> int:
    """Check that a layer's argument is a whole number from 1 to `largest`.

    Raises:
        ValueError: it is not.
    """
    number = _number(value)
    if not 1 <= number <= largest or number != int(number):
        raise ValueError(f"{name} must be a whole number from 1 to {largest}. Received: {name}={value!r}")
    return int(number)


def _number(value: Any) -> float:
    """NaN for what is no number: for text and truth values, too, which Python would convert."""
    if isinstance(value, str | bytes | bool):
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


class PreciseLayer(keras.layers.Layer):
    """A layer that computes in float32 (float64 under that policy) and returns the policy's compute dtype.

    Half precision inside would be wrong rather than inexact: float16 squares overflow at 256 and `1 - ||x||^2` has
    three digits.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True

    def precise(self, x: Any) -> Any:
        """Cast `x` to the dtype of the computation."""
        return ops.cast(x, "float64" if self.compute_dtype == "float64" else "float32")

    def returned(self, x: Any) -> Any:
        """Cast `x` to the dtype that the next layer expects."""
        return ops.cast(x, self.compute_dtype)


class VectorLayer(PreciseLayer):
    """A map of vectors `(..., D)` to vectors of the same shape; a subclass says which in `mapped`."""

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)

    def call(self, inputs: Any) -> Any:
        self._check(shapes_of(inputs))  # a layer is built once, and called on other shapes afterwards
        return self.returned(self.mapped(self.precise(inputs)))

    def mapped(self, x: Any) -> Any:
        """Map vectors, in float32 or float64."""
        raise NotImplementedError

    def _check(self, shape: Any) -> None:
        if not _is_shape(shape) or len(shape) < 2 or not shape[-1]:
            raise ValueError(
                f"{type(self).__name__} expects one tensor of shape (batch, ..., features) with a known number of "
                f"features, at least 1. Received: input_shape={shape}"
            )

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return the shape of the input.

        Raises:
            ValueError: the input is not one tensor `(batch, ..., features)`.
        """
        self._check(input_shape)
        return tuple(input_shape)

    def compute_output_spec(self, inputs: Any, **_kwargs: Any) -> keras.KerasTensor:
        """Return the shape of the input and the compute dtype of the policy."""
        return keras.KerasTensor(self.compute_output_shape(shapes_of(inputs)), dtype=self.compute_dtype)


class PairLayer(PreciseLayer):
    """A map of two tensors of one shape `(..., D)` to one tensor of that shape; a subclass says which in `merged`."""

    def build(self, input_shape: Any) -> None:
        self._merged(input_shape)

    def call(self, inputs: Any) -> Any:
        self._merged(shapes_of(inputs))  # after the first call, too: the operations themselves would broadcast
        x, y = inputs
        return self.returned(self.merged(self.precise(x), self.precise(y)))

    def merged(self, x: Any, y: Any) -> Any:
        """Merge two tensors, in float32 or float64."""
        raise NotImplementedError

    def _merged(self, shapes: Any) -> tuple[int | None, ...]:
        name = type(self).__name__
        listed = isinstance(shapes, tuple | list) and not _is_shape(shapes)
        if not listed or len(shapes) != 2 or not all(_is_shape(shape) for shape in shapes):
            raise ValueError(f"{name} expects a list of two tensors of the same shape. Received: input_shape={shapes}")
        first, second = shapes
        ranks_agree = len(first) == len(second) >= 2
        if not ranks_agree or any(None not in (m, n) and m != n for m, n in zip(first, second, strict=True)):
            raise ValueError(
                f"{name} expects a list of two tensors of the same shape (batch, ..., features). "
                f"Received: input_shape={shapes}. Bring them to one length first (zero padding or a Dense layer)."
            )
        if not first[-1] or not second[-1]:
            raise ValueError(f"{name} expects a known number of features, at least 1. Received: input_shape={shapes}")
        return tuple(n if m is None else m for m, n in zip(first, second, strict=True))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return the common shape of the two inputs.

        Raises:
            ValueError: the inputs are not two tensors of the same shape.
        """
        return self._merged(input_shape)

    def compute_output_spec(self, inputs: Any, **_kwargs: Any) -> keras.KerasTensor:
        """Return the shape of the inputs and the compute dtype of the policy."""
        return keras.KerasTensor(self.compute_output_shape(shapes_of(inputs)), dtype=self.compute_dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Let a position count where it counts in both inputs."""
        masks = [mask for mask in (previous_mask or []) if mask is not None]
        if len(masks) < 2:
            return masks[0] if masks else None
        return ops.logical_and(*masks)


def _is_shape(value: Any) -> bool:
    """Whether a value is one shape rather than a list of them."""
    return isinstance(value, tuple | list) and all(n is None or isinstance(n, int) for n in value)


def shapes_of(inputs: Any) -> Any:
    """Return the shape of a tensor, or the list of those of several.

    Of a dictionary, which no layer takes, `{name: shape}`.
    """
    if hasattr(inputs, "shape"):
        return tuple(inputs.shape)
    if isinstance(inputs, dict):
        return {name: shapes_of(x) for name, x in inputs.items()}
    return [shapes_of(x) for x in inputs] if isinstance(inputs, tuple | list) else inputs
