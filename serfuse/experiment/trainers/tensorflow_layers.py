"""Convolutions in the form that trains fastest on TensorFlow, with the same weights and the same values to rounding.

`keras.layers.Conv1D` adds its bias to a tensor from which a dimension was taken again, which keeps TensorFlow from
computing convolution, bias and activation in one operation; and for a single channel, whose windows hold three values
a filter, its convolutions hand their work from thread to thread for longer than a matrix product takes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .stacked_network import called, is_plain_convolution


@contextmanager
def lean(network: Any) -> Iterator[None]:
    """Have the convolutions of a network compute in that form, while a graph is traced.

    Args:
        network: a `keras.Model`, built. Convolutions with strides, padding, dilation or groups, and those without a
            bias, stay as they are.
    """
    layers = [layer for layer in network._flatten_layers(include_self=False) if is_plain_convolution(layer)]
    forms = ((layer, _of_one_channel if layer.kernel.shape[1] == 1 else _of_channels) for layer in layers)
    with called([(layer, form(layer)) for layer, form in forms if layer.use_bias]):
        yield


def _of_channels(layer: Any) -> Callable[[Any], Any]:
    import tensorflow as tf

    def call(inputs: Any) -> Any:
        kernel, bias = tf.convert_to_tensor(layer.kernel), tf.convert_to_tensor(layer.bias)
        # Not by indexing, whose gradient copies.
        image = tf.nn.conv2d(tf.expand_dims(inputs, 1), tf.expand_dims(kernel, 0), strides=1, padding="VALID")
        return tf.squeeze(layer.activation(tf.nn.bias_add(image, bias)), 1)

    return call


def _of_one_channel(layer: Any) -> Callable[[Any], Any]:
    """As one product of all windows; the gradient of the kernel is one, too."""
    import tensorflow as tf

    def call(inputs: Any) -> Any:
        if inputs.shape[1] is None:
            return type(layer).call(layer, inputs)
        kernel, bias = tf.convert_to_tensor(layer.kernel), tf.convert_to_tensor(layer.bias)
        size, _, filters = kernel.shape
        steps = inputs.shape[1] - size + 1
        windows = tf.stack([inputs[:, start : start + steps, 0] for start in range(size)], axis=-1)
        product = tf.matmul(tf.reshape(windows, (-1, size)), tf.squeeze(kernel, 1))
        return tf.reshape(layer.activation(tf.nn.bias_add(product, bias)), (-1, steps, filters))

    return call
