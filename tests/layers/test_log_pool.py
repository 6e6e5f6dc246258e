"""LogPool: the normalised geometric mean, by hand."""

import numpy as np
import pytest

from serfuse.experiment import backend

backend.set_up_backend()
import keras  # noqa: E402 - the backend is chosen above

from serfuse.layers import LogPool  # noqa: E402


def test_it_is_the_normalised_geometric_mean() -> None:
    said = np.array([[[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]]], "float32")
    product = np.array([0.8 * 0.5 * 0.1, 0.2 * 0.5 * 0.9]) ** (1 / 3)
    found = keras.ops.convert_to_numpy(LogPool()(said))
    np.testing.assert_allclose(found, [product / product.sum()], rtol=1e-6)


def test_an_expert_that_rules_a_class_out_is_heard_as_far_as_1e_7() -> None:
    found = keras.ops.convert_to_numpy(LogPool()(np.array([[[1.0, 0.0], [0.5, 0.5]]], "float32")))
    weight = np.sqrt([0.5, 0.5e-7])
    np.testing.assert_allclose(found, [weight / weight.sum()], rtol=1e-5)


def test_half_precision_is_computed_in_single() -> None:
    said = np.array([[[0.999, 0.001], [1e-3, 0.999], [0.75, 0.25]]], "float16")
    found = LogPool(dtype="mixed_float16")(said)
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    exact = keras.ops.convert_to_numpy(LogPool()(said.astype("float32")))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(found), exact.astype("float16"))


@pytest.mark.parametrize("shape", [(2, 3), (2, None, 3), (2, 0, 3), (2, 3, None), [(2, 3, 4), (2, 3, 4)]])
def test_other_shapes_are_named(shape: object) -> None:
    with pytest.raises(ValueError, match="experts, classes"):
        LogPool().compute_output_shape(shape)


def test_a_file_restores_it(tmp_path) -> None:
    inputs = keras.Input((3, 2))
    network = keras.Model(inputs, LogPool(name="pool")(inputs))
    network.save(tmp_path / "pool.keras")
    again = keras.saving.load_model(tmp_path / "pool.keras")
    said = np.full((1, 3, 2), 0.5, "float32")
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(model(said)) for model in (network, again)))
    assert keras.saving.get_registered_name(LogPool) == "serfuse>LogPool"
