"""The parts that every neural model of both papers shares: input statistics, Conv1D branch, classification head."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ConfigError

KERNEL = 3
FILTERS = (64, 128)
# Larger than this in float64, statistics are taken block by block.
_CONVERTED_BYTES, _BLOCK_BYTES = 1 << 30, 1 << 24


def branch_steps(size: int, pooled: bool) -> int:
    """Compute the length of the time axis that leaves the Conv1D branch for an embedding of `size` values."""
    for _ in FILTERS:
        size = size - KERNEL + 1
        if pooled:
            size //= 2
    return size


def check_size(name: str, size: int, pooled: bool) -> None:
    """Refuse an embedding that the two valid convolutions would reduce to nothing.

    Raises:
        ConfigError: with the smallest size that works.
    """
    if branch_steps(size, pooled) < 1:
        least = next(n for n in range(1, 100) if branch_steps(n, pooled) >= 1)
        raise ConfigError(
            f"Input {name!r} has {size} values; the Conv1D branch needs at least {least}. Use an embedding with more "
            "values, or the model 'fcn' or 'svm'."
        )


def inputs(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Make one Keras input `(B, D)` per array, or `(B, L, D)` where it holds the layers of an encoder."""
    import keras

    return {name: keras.Input(array.shape[1:], name=name) for name, array in arrays.items()}


def layer_weights_name(name: str) -> str:
    """Name of the layer that sums the layers of an input."""
    return f"layers_{name}"


def standardizer(training: np.ndarray, name: str, enabled: bool) -> list[Any]:
    """Make the layer that z-scores an input with the statistics of the training part, kept in the model.

    Of the layers of an encoder, each is z-scored by itself, and behind that stands their weighted sum.

    Values that do not vary in the training part are only centred: dividing by a standard deviation of nearly zero
    would turn a rounding difference of a test clip into an enormous value.

    Args:
        training: `(N, D)` or `(N, L, D)`, the training part of this input.
        name: of the input; the layer is called `standardize_<name>`, that of the sum `layers_<name>`.
        enabled: False returns no such layer.
    """
    summed = []
    if training.ndim == 3:
        from ..layers import LayerWeights

        summed = [LayerWeights(name=layer_weights_name(name))]
    if not enabled:
        return summed
    import keras

    mean, std = statistics(training)
    std = np.where(std < 1e-6 * (1.0 + np.abs(mean)), 1.0, std)
    axis = -1 if training.ndim == 2 else (1, 2)
    layer = keras.layers.Normalization(axis=axis, name=f"standardize_{name}")
    layer.adapt(np.stack([mean - std, mean + std]).astype("float32"))  # two rows with exactly these statistics
    return [layer, *summed]


def statistics(training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, float64, `(D,)` (or `(L, D)`) each, in bounded memory.

    Of what is too large to be converted at once, those of blocks are brought together: Chan, Golub and LeVeque,
    "Updating formulae and a pairwise algorithm for computing sample variances", 1979.

    Args:
        training: `(N, D)` or `(N, L, D)`, an array or what gives arrays of its rows.
    """
    count, size = len(training), math.prod(training.shape[1:])
    if isinstance(training, np.ndarray) and 8 * count * size <= _CONVERTED_BYTES:
        values = training.astype("float64")
        return values.mean(axis=0), values.std(axis=0)
    step = max(1, _BLOCK_BYTES // (8 * size))
    mean, squares = np.zeros(training.shape[1:]), np.zeros(training.shape[1:])
    for start in range(0, count, step):
        values = np.asarray(training[start : start + step]).astype("float64")
        of, whole = len(values), start + len(values)
        away = values.mean(axis=0) - mean
        squares += ((values - values.mean(axis=0)) ** 2).sum(axis=0) + away**2 * (start * of / whole)
        mean += away * (of / whole)
    return mean, np.sqrt(squares / count)


def conv_layers(name: str, pooled: bool) -> list[Any]:
    """Make the Conv1D branch, layer by layer, so that it can be applied to more than one tensor.

    HYFuse section 3: two Conv1D of 64 and 128 filters, kernel 3, relu. PARROT section 3 adds a max-pooling after
    each; its size is not printed, 2 is the usual one.
    """
    import keras

    layers: list[Any] = [keras.layers.Reshape((-1, 1), name=f"channel_{name}")]
    for number, filters in enumerate(FILTERS, start=1):
        layers.append(keras.layers.Conv1D(filters, KERNEL, activation="relu", name=f"conv{number}_{name}"))
        if pooled:
            layers.append(keras.layers.MaxPooling1D(2, name=f"pool{number}_{name}"))
    return layers


def apply(layers: list[Any], tensor: Any) -> Any:
    """Run `tensor` through the layers in order."""
    for layer in layers:
        tensor = layer(tensor)
    return tensor


def head(tensor: Any, classes: int, dropout: float) -> Any:
    """Add Dense(128, relu), dropout, softmax: the "FCN block" of both papers. The dense layer is "penultimate".

    The softmax is computed in float32 under any mixed precision policy.
    """
    import keras

    tensor = keras.layers.Dense(128, activation="relu", name="penultimate")(tensor)
    if dropout:
        tensor = keras.layers.Dropout(dropout, name="dropout")(tensor)
    return keras.layers.Dense(classes, activation="softmax", name="emotion", dtype="float32")(tensor)
