"""ClipNorm: short vectors unchanged, long ones scaled to the bound, gradients finite everywhere."""

import numpy as np
import pytest

from serfuse.experiment import backend

backend.set_up_backend()
import keras  # noqa: E402 - the backend is chosen above

from serfuse.layers import ClipNorm  # noqa: E402


def test_short_vectors_pass_and_long_ones_keep_their_direction() -> None:
    x = np.array([[0.3, 0.4], [3.0, 4.0], [0.0, 0.0], [3e18, 4e18]], "float32")
    found = keras.ops.convert_to_numpy(ClipNorm(1.0)(x))
    np.testing.assert_allclose(found, [[0.3, 0.4], [0.6, 0.8], [0.0, 0.0], [0.6, 0.8]], rtol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="differentiates with TensorFlow")
def test_gradients_are_finite_at_zero_and_far_away() -> None:
    import tensorflow as tf

    x = tf.Variable([[0.0, 0.0], [1.0, 0.0], [1e6, -1e6]])
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(ClipNorm(1.0)(x) * tf.constant([1.0, 2.0]))
    assert np.isfinite(tape.gradient(y, x).numpy()).all()


def test_half_precision_is_computed_in_single() -> None:
    x = np.full((2, 400), 30.0, "float16")  # the squares sum to 360,000, beyond float16
    found = keras.ops.convert_to_numpy(ClipNorm(2.0, dtype="mixed_float16")(x))
    assert found.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(found.astype("float64"), axis=1), 2.0, rtol=1e-3)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf"), float("nan")])
def test_a_bound_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="max_norm"):
        ClipNorm(bad)


def test_config_round_trip() -> None:
    layer = ClipNorm(0.7, name="bound")
    again = ClipNorm.from_config(layer.get_config())
    assert (again.max_norm, again.name) == (0.7, "bound")
