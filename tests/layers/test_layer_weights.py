"""LayerWeights: the weighted sum over layers, by hand."""

import numpy as np
import pytest

from serfuse.experiment import backend

backend.set_up_backend()
import keras  # noqa: E402 - the backend is chosen above

from serfuse.layers import LayerWeights  # noqa: E402

STACK = np.random.default_rng(0).normal(size=(5, 3, 4)).astype("float32")


def test_it_begins_as_the_mean_and_is_the_softmax_weighted_sum() -> None:
    layer = LayerWeights(rate=4.0)
    found = keras.ops.convert_to_numpy(layer(STACK))
    np.testing.assert_allclose(found, STACK.mean(axis=1), atol=1e-6)
    logits = np.array([0.125, -0.25, 0.5], "float32")
    layer.logits.assign(logits)
    weights = np.exp(4 * logits) / np.exp(4 * logits).sum()
    np.testing.assert_allclose(layer.weights_of_layers(), weights, rtol=1e-6)
    found = keras.ops.convert_to_numpy(layer(STACK))
    np.testing.assert_allclose(found, np.einsum("bld,l->bd", STACK, weights), atol=1e-6)


def test_half_precision_is_computed_in_single() -> None:
    stack = (60 * STACK).astype("float16")
    layer = LayerWeights(dtype="mixed_float16")
    found = layer(stack)
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    exact = keras.ops.convert_to_numpy(LayerWeights()(stack.astype("float32")))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(found), exact.astype("float16"))


@pytest.mark.parametrize("shape", [(2, 3), (2, None, 3), (2, 0, 3), (2, 3, None), (2, 3, 4, 5), [(2, 3, 4)] * 2])
def test_other_shapes_are_named(shape: object) -> None:
    with pytest.raises(ValueError, match="batch, layers, features"):
        LayerWeights().compute_output_shape(shape)


def test_another_number_of_layers_is_refused() -> None:
    layer = LayerWeights()
    layer(STACK)
    with pytest.raises(ValueError, match=r"built for 3 layers"):
        layer(STACK[:, :2])


def test_a_file_restores_it(tmp_path) -> None:
    inputs = keras.Input((3, 4))
    network = keras.Model(inputs, LayerWeights(3.0, name="layers_a")(inputs))
    network.get_layer("layers_a").logits.assign([0.1, 0.2, -3.0])
    network.save(tmp_path / "layers.keras")
    again = keras.saving.load_model(tmp_path / "layers.keras")
    assert again.get_layer("layers_a").rate == 3.0
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(model(STACK)) for model in (network, again)))
    assert keras.saving.get_registered_name(LayerWeights) == "serfuse>LayerWeights"
