"""Large kernels of dense layers in blocks of rows, while TensorFlow trains: a gradient is used where it is made.

Of 75 million weights the gradient takes 300 MB, which are written and read again, and TensorFlow's Adam walks over
weights and moments in three passes. A block's gradient, moments and weights are still near the processor, in its last
cache if not in a closer one, from the product that makes the gradient to the last of these passes. The values are those
of one kernel, but for the order in which the product of the layer adds up.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .stacked_network import called

_FROM = 1 << 23  # weights of a kernel; smaller ones gain nothing
_WEIGHTS = 1 << 21  # of a block, 8 MB; products with smaller ones took longer, and more of them are to be traced


class Blocks:
    """The kernel of a dense layer as blocks of rows, which learn in its place.

    Args:
        layer: a `keras.layers.Dense`, see `large`.
        weights: of a block, about.
    """

    def __init__(self, layer: Any, weights: int) -> None:
        import keras

        self.layer = layer
        count, units = layer.kernel.shape
        rows = max(1, weights // units)
        kernel, begins = layer.kernel.value, range(0, count, rows)
        self.sizes = [min(rows, count - begin) for begin in begins]
        self.variables = [keras.Variable(kernel[begin : begin + rows], name="block") for begin in begins]

    def write_back(self) -> None:
        """Give the layer what its blocks have learned."""
        import tensorflow as tf

        self.layer.kernel.assign(tf.concat([block.value for block in self.variables], axis=0))

    def call(self, learn: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
        """What the layer computes, from blocks that learn as soon as the gradient of its result is known.

        Args:
            learn: `learn(gradient, block)`, a step of the optimizer as an operation.
        """
        import tensorflow as tf

        @tf.custom_gradient
        def product(inputs: Any, *kernels: Any) -> Any:
            parts = tf.split(inputs, self.sizes, axis=1)
            result = tf.add_n([part @ kernel for part, kernel in zip(parts, kernels, strict=True)])

            def backward(slope: Any) -> Any:
                before, slopes = [], []
                for part, kernel, block in zip(parts, kernels, self.variables, strict=True):
                    with tf.control_dependencies(before):  # one after the other: a gradient shall not wait for its step
                        slopes.append(tf.matmul(slope, kernel, transpose_b=True))
                        gradient = tf.matmul(part, slope, transpose_a=True)
                    with tf.control_dependencies(slopes[-1:]):  # what still reads a block would have it copied
                        before = [learn(gradient, block)]
                return tf.concat(slopes, axis=1), *[None] * len(kernels)

            return result, backward

        def call(inputs: Any, training: Any = None) -> Any:
            kernels = [tf.convert_to_tensor(block.value) for block in self.variables]
            biased = tf.nn.bias_add(product(inputs, *kernels), tf.convert_to_tensor(self.layer.bias))
            return self.layer.activation(biased)

        return call


def large(network: Any, least: int = _FROM, weights: int = _WEIGHTS) -> list[Blocks]:
    """The kernels of a network that learn faster in blocks.

    Args:
        network: a `keras.Model`, built. What a kernel is used for beside one product of vectors keeps it whole.
        least: weights of a kernel that is large.
        weights: of a block, about.
    """
    import keras

    def fits(layer: Any) -> bool:
        if type(layer) is not keras.layers.Dense or not (layer.trainable and layer.use_bias):
            return False
        alone = layer.kernel_regularizer is None and layer.kernel_constraint is None and layer.quantization_mode is None
        once = len(layer._inbound_nodes) == 1 and len(layer.input.shape) == 2
        return alone and once and layer.lora_rank is None and math.prod(layer.kernel.shape) >= least

    # Not those of a model inside, which may be used twice without their knowing.
    return [Blocks(layer, weights) for layer in network.layers if fits(layer)]


@contextmanager
def used(blocks: Sequence[Blocks], learn: Callable[[Any, Any], Any]) -> Iterator[None]:
    """Have layers compute with their blocks, while a graph is traced."""
    with called([(one.layer, one.call(learn)) for one in blocks]):
        yield
