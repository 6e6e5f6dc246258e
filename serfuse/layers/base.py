"""What the layers share: precision that does not follow the policy, and checks of what comes in."""

from functools import reduce
from typing import Any, ClassVar

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


class MergeLayer(PreciseLayer):
    """A map of tensors of one shape `(..., D)` to one tensor of that shape; a subclass says which in `merged`.

    Attributes:
        most: how many tensors it takes at most; it needs two.
    """

    most: ClassVar[int | None] = None

    def build(self, input_shape: Any) -> None:
        self._merged(input_shape)

    def call(self, inputs: Any) -> Any:
        self._merged(shapes_of(inputs))  # after the first call, too: the operations themselves would broadcast
        return self.returned(self.merged(*(self.precise(x) for x in inputs)))

    def merged(self, *tensors: Any) -> Any:
        """Merge the tensors, in float32 or float64."""
        raise NotImplementedError

    def _merged(self, shapes: Any) -> tuple[int | None, ...]:
        name, number = type(self).__name__, "two" if self.most == 2 else "two or more"
        listed = isinstance(shapes, tuple | list) and not _is_shape(shapes)
        count = len(shapes) if listed else 0
        if count < 2 or (self.most and count > self.most) or not all(_is_shape(shape) for shape in shapes):
            raise ValueError(
                f"{name} expects a list of {number} tensors of the same shape. Received: input_shape={shapes}"
            )
        ranks_agree = len({len(shape) for shape in shapes}) == 1 and len(shapes[0]) >= 2
        if not ranks_agree or any(len({*sizes} - {None}) > 1 for sizes in zip(*shapes, strict=True)):
            raise ValueError(
                f"{name} expects a list of {number} tensors of the same shape (batch, ..., features). "
                f"Received: input_shape={shapes}. Bring them to one length first (zero padding or a Dense layer)."
            )
        if not all(shape[-1] for shape in shapes):
            raise ValueError(f"{name} expects a known number of features, at least 1. Received: input_shape={shapes}")
        return tuple(next((n for n in sizes if n is not None), None) for sizes in zip(*shapes, strict=True))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return the common shape of the inputs.

        Raises:
            ValueError: the inputs are not tensors of the same shape, or not as many as the layer takes.
        """
        return self._merged(input_shape)

    def compute_output_spec(self, inputs: Any, **_kwargs: Any) -> keras.KerasTensor:
        """Return the shape of the inputs and the compute dtype of the policy."""
        return keras.KerasTensor(self.compute_output_shape(shapes_of(inputs)), dtype=self.compute_dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Let a position count where it counts in every input."""
        masks = [mask for mask in (previous_mask or []) if mask is not None]
        return reduce(ops.logical_and, masks) if masks else None


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
