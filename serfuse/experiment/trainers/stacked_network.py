"""One network that stands for many of its form: their constants in its place, and operations that stack well."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

COMPILING = {"xla_gpu_enable_triton_gemm": False, "xla_gpu_autotune_level": 0}
"""Options of XLA. Forms of a product are not tried out: which is fastest can change from run to run, and with it the
last digits; in full float32 none was faster than what cuBLAS takes by itself."""

_SPLIT_FROM = 8192
_MOST_SPLITS, _LEAST_OF_A_SPLIT = 64, 256


def holders(network: Any, optimizer: Any = None) -> list[Any]:
    """What may hold constants of its own in one of many like networks: layers, the schedule of the learning rate."""
    found = list(network._flatten_layers(include_self=False))
    schedule = getattr(optimizer, "_learning_rate", None)
    return [*found, schedule] if hasattr(schedule, "decay_steps") else found


def with_features(network: Any) -> Any:
    """The same layers as a network that answers `{"": its answer, "penultimate": (N, F)}`."""
    import keras

    asked = {"": network.outputs[0]}
    asked |= {layer.name: layer.output for layer in network.layers if layer.name == "penultimate"}
    return keras.Model({tensor.name: tensor for tensor in network.inputs}, asked)


def differing(many: Sequence[list[Any]]) -> tuple[tuple[int, str], ...]:
    """Where networks of one form hold different constants: scales and input statistics from their training parts.

    Args:
        many: the `holders` of each.

    Returns:
        Number of the holder and name of its attribute, for each such constant.
    """
    places = []
    for number, first in enumerate(many[0]):
        for name, value in _constants(first).items():
            if not all(np.array_equal(vars(other[number])[name], value) for other in many[1:]):
                places.append((number, name))
    return tuple(places)


def _constants(holder: Any) -> dict[str, Any]:
    import jax

    steps = {"decay_steps": holder.decay_steps} if hasattr(holder, "decay_steps") else {}
    return {name: value for name, value in vars(holder).items() if isinstance(value, float | jax.Array)} | steps


def constants(held: list[Any], places: Sequence[tuple[int, str]]) -> list[np.ndarray]:
    """What is held at those places, float32."""
    return [np.asarray(vars(held[number])[name], dtype="float32") for number, name in places]


@contextmanager
def holding(held: list[Any], places: Sequence[tuple[int, str]], values: Any) -> Iterator[None]:
    """Hold other constants for a moment, while a program is traced.

    Args:
        held: `holders`.
        places: see `differing`.
        values: one for each place.
    """
    before = [vars(held[number])[name] for number, name in places]
    try:
        for (number, name), value in zip(places, values, strict=True):
            vars(held[number])[name] = value
        yield
    finally:
        for (number, name), value in zip(places, before, strict=True):
            vars(held[number])[name] = value


@contextmanager
def stackable(network: Any, splits: bool) -> Iterator[None]:
    """Have convolutions and wide dense layers compute as matrix products that stack well, while a program is traced.

    A stack of convolutions with a kernel each is one in groups, for which libraries have no fast kernels; a stack of
    products over a hundred thousand features keeps a handful of a GPU's processors busy.

    Args:
        network: whose layers it concerns.
        splits: whether wide products are cut into parts that are summed at the end.
    """
    import keras

    calls = []
    for layer in network._flatten_layers(include_self=False):
        if is_plain_convolution(layer):
            calls.append((layer, _conv(layer)))
        elif splits and type(layer) is keras.layers.Dense and parts_of(layer.kernel.shape[0]) > 1:
            calls.append((layer, _dense(layer)))
    with called(calls):
        yield


@contextmanager
def called(calls: Sequence[tuple[Any, Callable[..., Any]]]) -> Iterator[None]:
    """Layers that compute by other functions than their own `call`, within this."""
    for layer, call in calls:
        vars(layer)["call"] = call
    try:
        yield
    finally:
        for layer, _ in calls:
            del vars(layer)["call"]


def is_plain_convolution(layer: Any) -> bool:
    """Whether a layer is Keras' `Conv1D` of channels that come last, without strides, padding, dilation or groups."""
    import keras

    if type(layer) is not keras.layers.Conv1D:
        return False
    plain = layer.strides == (1,) and layer.dilation_rate == (1,) and layer.groups == 1
    return plain and layer.padding == "valid" and layer.data_format == "channels_last"


def unfolded(inputs: Any, kernel: Any) -> Any:
    """Convolve `(B, T, C)` with a kernel `(k, C, F)`, valid, as one product: `(B, T - k + 1, F)`."""
    from keras import ops

    size, channels, filters = kernel.shape
    steps = inputs.shape[1] - size + 1
    windows = ops.concatenate([inputs[:, start : start + steps] for start in range(size)], axis=-1)
    return _product()(windows, ops.reshape(kernel, (size * channels, filters)))


@cache
def _product() -> Callable[[Any, Any], Any]:
    """`(B, T, K)` times `(K, F)`; the slope of the second is summed up clip by clip.

    As one sum over all windows of a batch that slope has so few numbers that most of a GPU's processors have none.
    """
    import jax
    from jax import numpy as jnp

    @jax.custom_vjp
    def product(windows: Any, kernel: Any) -> Any:
        return jnp.matmul(windows, kernel)

    def forward(windows: Any, kernel: Any) -> tuple[Any, tuple[Any, Any]]:
        return product(windows, kernel), (windows, kernel)

    def backward(kept: tuple[Any, Any], slope: Any) -> tuple[Any, Any]:
        windows, kernel = kept
        return jnp.matmul(slope, kernel.T), jnp.einsum("btk,btf->bkf", windows, slope).sum(axis=0)

    product.defvjp(forward, backward)
    return product


def parts_of(features: int) -> int:
    """In how many equal parts a product over so many features is computed."""
    if features < _SPLIT_FROM:
        return 1
    found = [n for n in range(2, _MOST_SPLITS + 1) if features % n == 0 and features // n >= _LEAST_OF_A_SPLIT]
    return max(found, default=1)


def split_product(inputs: Any, kernel: Any, parts: int) -> Any:
    """`(B, D)` times `(D, U)` as the sum of that many products."""
    from keras import ops

    features, units = kernel.shape
    left = ops.reshape(inputs, (-1, parts, features // parts))
    right = ops.reshape(kernel, (parts, features // parts, units))
    return ops.sum(ops.einsum("bpd,pdu->pbu", left, right), axis=0)


def _conv(layer: Any) -> Any:
    return lambda inputs: _finished(layer, unfolded(inputs, layer.kernel))


def _dense(layer: Any) -> Any:
    from keras import ops

    def call(inputs: Any, training: Any = None) -> Any:
        if len(inputs.shape) == 2:
            return _finished(layer, split_product(inputs, layer.kernel, parts_of(layer.kernel.shape[0])))
        return _finished(layer, ops.matmul(inputs, layer.kernel))

    return call


def _finished(layer: Any, tensor: Any) -> Any:
    """What a convolution or a dense layer does behind its product."""
    if layer.bias is not None:
        tensor = tensor + layer.bias
    return tensor if layer.activation is None else layer.activation(tensor)
