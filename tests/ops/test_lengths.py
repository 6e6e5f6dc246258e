"""Lengths of vectors and their gradients, against those that TensorFlow derives."""

import numpy as np
import pytest

from serfuse.experiment import backend

backend.set_up_backend()
import tensorflow as tf  # noqa: E402

from serfuse.ops import lengths  # noqa: E402


def plainly(x, largest):
    size = tf.stop_gradient(tf.reduce_max(tf.abs(x), axis=-1, keepdims=True))
    near = x * tf.where(size > largest, largest / size, tf.ones_like(size))
    return near, tf.reduce_sum(tf.square(near), axis=-1, keepdims=True)


@pytest.mark.parametrize("longest", [1.0, 50.0, 1e30], ids=["within", "one-beyond", "whose-square-overflows"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_vectors_within_reach_and_their_gradients(longest: float, compiled: bool) -> None:
    values = np.random.default_rng(0).normal(size=(4, 9)).astype("float32")
    values[1] *= longest
    x, weights = tf.constant(values), tf.constant(np.random.default_rng(1).normal(size=(4, 9)).astype("float32"))

    def told(way):
        with tf.GradientTape() as tape:
            tape.watch(x)
            near, square = way(x, 10.0)
            total = tf.reduce_sum(near * weights) + tf.reduce_sum(tf.sqrt(square))
        return near, square, tape.gradient(total, x)

    way = tf.function(told, autograph=False) if compiled else told
    for one, other in zip(way(lengths.within), told(plainly), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_the_gradient_of_a_squared_length_is_twice_the_vector() -> None:
    x = tf.constant([[3.0, 4.0], [0.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        square = lengths.squared(x)
    np.testing.assert_array_equal(square, [[25.0], [0.0]])
    np.testing.assert_array_equal(tape.gradient(square, x), 2 * x)
