"""The reference set: vectors that are weights, come back from a file without the array, and are never trained."""

import numpy as np
import pytest

from serfuse.experiment import backend

backend.set_up_backend()
import keras  # noqa: E402 - the backend is chosen above

from serfuse.layers import ReferenceSet  # noqa: E402

VALUES = np.arange(12, dtype="float64").reshape(3, 4)


def test_it_returns_its_values_whatever_comes_in():
    layer = ReferenceSet(VALUES)
    for given in (np.ones((2, 9)), np.zeros((5, 1, 1))):
        found = layer(given.astype("float32"))
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(found), VALUES)
    assert layer.compute_output_shape((None, 9)) == (3, 4)


def test_its_values_are_weights_that_are_not_trained():
    layer = ReferenceSet(VALUES)
    assert len(layer.non_trainable_weights) == 1 and not layer.trainable_weights
    layer.trainable = True
    assert not layer.trainable_weights


def test_the_configuration_holds_the_shape_only():
    config = ReferenceSet(VALUES).get_config()
    assert config["shape"] == [3, 4] and "values" not in config
    empty = ReferenceSet.from_config(config)
    assert not keras.ops.convert_to_numpy(empty(np.ones((1, 2), "float32"))).any()


def test_a_file_brings_the_values_back(tmp_path):
    given = keras.Input((4,))
    network = keras.Model(given, keras.ops.matmul(given, keras.ops.transpose(ReferenceSet(VALUES)(given))))
    network.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(restored(rows)), rows @ VALUES.T, rtol=1e-5)


def test_half_precision_stores_float32():
    layer = ReferenceSet(VALUES + 0.1234567, dtype="mixed_float16")
    assert layer.variable_dtype == "float32"
    np.testing.assert_array_equal(layer.get_weights()[0], (VALUES + 0.1234567).astype("float32"))
    found = layer(np.ones((1, 2), "float16"))
    assert keras.backend.standardize_dtype(found.dtype) == "float16"


def test_one_vector_is_a_set():
    np.testing.assert_array_equal(ReferenceSet(VALUES[:1]).get_weights()[0], VALUES[:1])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "needs `values`"),
        ({"values": [[1.0, np.nan]]}, "must be finite"),
        ({"values": VALUES, "shape": (4, 3)}, r"shape \(3, 4\) and shape=\(4, 3\), which differ"),
        ({"values": VALUES[0]}, r"Received shape: \(4,\)"),
        ({"shape": (0, 4)}, r"Received shape: \(0, 4\)"),
    ],
)
def test_what_is_no_set_of_vectors(arguments, says):
    with pytest.raises(ValueError, match=says):
        ReferenceSet(**arguments)
