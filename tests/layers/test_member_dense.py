"""MemberDense: each member is a dense layer by itself."""

import numpy as np
import pytest

from serfuse.experiment import backend

backend.set_up_backend()
import keras  # noqa: E402 - the backend is chosen above

from serfuse.layers import MemberDense  # noqa: E402


@pytest.mark.parametrize("activation", ["linear", "relu", "softmax"])
def test_each_member_is_a_dense_layer_of_its_own_weights(activation: str) -> None:
    x = np.random.default_rng(0).normal(size=(5, 3, 4)).astype("float32")
    layer = MemberDense(2, activation)
    found = keras.ops.convert_to_numpy(layer(x))
    layer.set_weights([layer.get_weights()[0], np.arange(6, dtype="float32").reshape(3, 2)])
    found = keras.ops.convert_to_numpy(layer(x))
    kernel, bias = layer.get_weights()
    for member in range(3):
        dense = keras.layers.Dense(2, activation=activation)
        dense.build((None, 4))
        dense.set_weights([kernel[member], bias[member]])
        np.testing.assert_allclose(
            found[:, member], keras.ops.convert_to_numpy(dense(x[:, member])), rtol=1e-5, atol=1e-6
        )


def test_kernels_start_as_glorots_for_each_member_and_differ() -> None:
    layer = MemberDense(100)
    layer.build((None, 4, 200))
    kernel, bias = layer.get_weights()
    limit = np.sqrt(6 / 300)
    assert not bias.any()
    for member in kernel:
        assert 0.99 * limit < np.abs(member).max() <= limit
        assert member.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)
    assert np.abs(np.corrcoef(kernel.reshape(4, -1)) - np.eye(4)).max() < 0.05


def test_half_precision_is_computed_in_single() -> None:
    x = np.full((1, 1, 4096), 8.0, "float16")  # the products sum to 4096 * 64, beyond float16
    layer = MemberDense(2, "softmax", dtype="mixed_float16")
    layer.build(x.shape)
    layer.set_weights([np.stack([np.full((4096,), 8.0), np.full((4096,), 8.0)], -1)[None], np.log([[3.0, 1.0]])])
    found = layer(x)
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), [[[0.75, 0.25]]], atol=0.02)


@pytest.mark.parametrize(("arguments", "says"), [({"units": 0}, "units"), ({"units": 2, "activation": "tanh"}, "relu")])
def test_arguments_out_of_range(arguments: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MemberDense(**arguments)


@pytest.mark.parametrize("shape", [(2, 3), (2, None, 3), (2, 3, None), (2, 3, 4, 5), [(2, 3, 4), (2, 3, 4)]])
def test_other_shapes_are_named(shape: object) -> None:
    with pytest.raises(ValueError, match="members, features"):
        MemberDense(2).compute_output_shape(shape)


def test_a_built_layer_refuses_another_number_of_features() -> None:
    layer = MemberDense(2)
    layer(np.zeros((1, 3, 4), "float32"))
    with pytest.raises(ValueError, match="built for 3 members of 4 features"):
        layer(np.zeros((1, 3, 5), "float32"))


def test_a_file_restores_it(tmp_path) -> None:
    inputs = keras.Input((3, 4))
    network = keras.Model(inputs, MemberDense(2, "relu", name="dense")(inputs))
    network.save(tmp_path / "dense.keras")
    again = keras.saving.load_model(tmp_path / "dense.keras")
    x = np.random.default_rng(0).normal(size=(5, 3, 4)).astype("float32")
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(model(x)) for model in (network, again)))
    assert again.get_layer("dense").get_config() == network.get_layer("dense").get_config()
