"""Fusions of two representations are what they were; of more, they are made of the same layers."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from serfuse import models
from serfuse.errors import ConfigError
from serfuse.experiment import backend
from serfuse.prediction import keras_file

backend.set_up_backend()
import keras  # noqa: E402 - the backend is chosen above

from serfuse.layers import FeatureTransport, GyroMidpoint, LogMap0, MobiusAdd, ReferenceTransport  # noqa: E402

# Layers, weights (path, shape, sum of absolute values), probabilities of two clips, as the version before had them.
BEFORE = json.loads(Path(__file__).with_name("two_inputs.json").read_text("utf-8"))
OPTIONS = {
    "concat": {},
    "concat-pooled": {},
    "hyfuse": {},
    "hyfuse, project": {"align": "project", "projection": 16},
    "hyfuse, literal": {"kappa": 1.0},
    "hyfuse, inverse": {"log_scale": "inverse"},
    "hyfuse-symmetric": {},
    "hyfuse-symmetric, midpoint": {"form": "midpoint"},
    "parrot": {},
    "parrot, reference": {"points": "reference", "references": 8},
    "parrot, batch": {"points": "batch", "map": "literal"},
}


def arrays(*sizes: int, rows: int = 12, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=(rows, size)).astype("float32") for name, size in zip(models.INPUTS, sizes, strict=False)
    }


def build(name: str, data: dict[str, np.ndarray], seed: int = 3, **options: object) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = models.get(name)
    return model.build(data, 3, model.options(**options), seed)


def outputs(network: keras.Model, data: dict[str, np.ndarray], *layers: str) -> list[np.ndarray]:
    inner = keras.Model(network.inputs, [network.get_layer(name).output for name in layers])
    return [keras.ops.convert_to_numpy(x) for x in inner(data, training=False)]


def fused(network: keras.Model, data: dict[str, np.ndarray]) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.Model(network.inputs, network.get_layer("penultimate").input)(data))


@pytest.mark.parametrize("case", OPTIONS)
def test_two_inputs_make_the_network_that_they_made(case: str) -> None:
    data = arrays(24, 18)
    network = build(case.partition(",")[0], data, **OPTIONS[case])
    assert [layer.name for layer in network.layers] == BEFORE[case]["layers"]
    values = network.get_weights()
    assert [[one.path, list(one.shape)] for one in network.weights] == [row[:2] for row in BEFORE[case]["weights"]]
    sums = [np.abs(value.astype("float64")).sum() for value in values]
    np.testing.assert_allclose(sums, [row[2] for row in BEFORE[case]["weights"]], atol=6e-5)
    found = keras.ops.convert_to_numpy(network(data, training=False))[:2]
    np.testing.assert_allclose(found, BEFORE[case]["probabilities"], atol=1e-6)


def test_hyfuse_of_three_is_its_layers_one_after_the_other() -> None:
    data = arrays(24, 18, 30)
    network = build("hyfuse", data)
    x, y, z, found = outputs(network, data, "exp_a", "exp_b", "exp_c", "log")
    assert len({network.get_layer(f"exp_{side}").kappa for side in "abc"}) == 3, "each branch has its own scale"
    add = MobiusAdd()
    expected = keras.ops.convert_to_numpy(LogMap0(2.0)(add([add([x, y]), z])))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_inverse_log_scale_of_three_is_the_geometric_mean() -> None:
    network = build("hyfuse", arrays(24, 18, 30), log_scale="inverse")
    scales = [1 / network.get_layer(f"exp_{side}").kappa for side in "abc"]
    assert network.get_layer("log").scale == pytest.approx(np.prod(scales) ** (1 / 3), rel=1e-6)


def test_the_symmetric_sum_of_three_is_twice_the_mean_over_all_orders() -> None:
    data = arrays(24, 24, 24)
    network = build("hyfuse-symmetric", data, log_scale=1.0)
    *points, found = outputs(network, data, "exp_a", "exp_b", "exp_c", "all_orders")
    add, log = MobiusAdd(), LogMap0(1.0)
    logs = [keras.ops.convert_to_numpy(log(add(list(order)))) for order in itertools.permutations(points)]
    np.testing.assert_allclose(found, 2 * np.mean(logs, axis=0), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "options"),
    [
        (3, {}),
        (4, {}),
        (3, {"form": "midpoint"}),
        (5, {"form": "midpoint"}),
        (3, {"form": "midpoint", "weights": "learned"}),
    ],
    ids=str,
)
def test_symmetric_forms_do_not_care_for_the_order_of_any_number(count: int, options: dict) -> None:
    """The fused vector of permuted inputs, whose branches have the permuted weights."""
    data = arrays(*[18] * count)
    moved = dict(zip(data, reversed(data), strict=True))  # for three no cyclic order
    one = build("hyfuse-symmetric", data, kappa=0.1, **options)
    permuted = {name: data[moved[name]] for name in data}
    two = build("hyfuse-symmetric", permuted, kappa=0.1, **options)
    for layer in two.layers:
        stem, _, side = layer.name.rpartition("_")
        if layer.get_weights():
            layer.set_weights(one.get_layer(f"{stem}_{moved[side]}" if side in moved else layer.name).get_weights())
    expected = fused(one, data)
    np.testing.assert_allclose(fused(two, permuted), expected, atol=2e-6 * np.abs(expected).max())


def test_weights_of_the_midpoint_reach_the_layer() -> None:
    data = arrays(18, 18, 18)
    network = build("hyfuse-symmetric", data, form="midpoint", weights=[1.0, 2.0, 0.5], log_scale=1.0)
    *points, found = outputs(network, data, "exp_a", "exp_b", "exp_c", "log")
    expected = keras.ops.convert_to_numpy(LogMap0(1.0)(GyroMidpoint([1.0, 2.0, 0.5])(points)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_a_symmetric_form_cannot_be_made_of_is_said() -> None:
    with pytest.raises(ConfigError, match=r"5 inputs would add them in 120 orders.*options.form=midpoint"):
        build("hyfuse-symmetric", arrays(*[18] * 5))
    with pytest.raises(ConfigError, match="3 numbers for 2 inputs"):
        build("hyfuse-symmetric", arrays(18, 18), form="midpoint", weights=[1, 2, 3])
    with pytest.raises(ValueError, match="weights are for form='midpoint'"):
        models.get("hyfuse-symmetric").options(weights="learned")


def test_options_of_two_inputs_are_written_as_they_were() -> None:
    options = models.get("hyfuse-symmetric").options
    assert "weights" not in options().model_dump() and options(form="midpoint", weights=[1, 2]).model_dump()["weights"]


@pytest.mark.parametrize("points", ["features", "reference"])
def test_parrot_of_three_is_its_pairs(points: str) -> None:
    data = arrays(40, 30, 35)
    options = {"points": points, "references": 6, "projection": 20}
    network = build("parrot", data, **options)
    names = [f"project_{side}" for side in "abc"]
    *vectors, found = outputs(network, data, *names, "fused")
    assert found.shape == (12, 20 * (3 + 3 * 3))
    vectors = dict(zip("abc", vectors, strict=True))
    layer = FeatureTransport() if points == "features" else ReferenceTransport()
    kept = {}
    if points == "reference":  # the projections of the reference clips, which each branch sees as well
        rows = {side: network.get_layer(f"reference_{side}").get_weights()[0] for side in "abc"}
        kept = dict(zip("abc", outputs(network, rows, *names), strict=True))
    parts = []
    for (p, q), there in zip(("ab", "ac", "bc"), ("", "a", "abc"), strict=True):
        sent = layer([vectors[p], vectors[q], *(kept[side] for side in (p, q) if kept)])
        parts.append(vectors[p] * vectors[q])
        parts += [sent.p_to_q, *([] if q in there else [vectors[q]])]
        parts += [sent.q_to_p, *([] if p in there else [vectors[p]])]
    expected = np.concatenate([keras.ops.convert_to_numpy(part) for part in parts], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("concat", {}),
        ("concat-pooled", {}),
        ("hyfuse", {"align": "project"}),
        ("hyfuse-symmetric", {}),
        ("hyfuse-symmetric", {"form": "midpoint", "weights": "learned"}),
        ("hyfuse-symmetric", {"form": "midpoint", "weights": [1.0, 2.0, 3.0]}),
        ("parrot", {}),
        ("parrot", {"points": "reference", "references": 4}),
    ],
    ids=str,
)
def test_a_fusion_of_three_comes_back_from_its_file(name: str, options: dict, tmp_path: Path) -> None:
    data = arrays(24, 18, 20)
    network = build(name, data, **options)
    expected = keras.ops.convert_to_numpy(network(data, training=False))
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-6)
    network.save(tmp_path / "model.keras")
    again = keras_file.load(tmp_path / "model.keras")
    assert [tensor.name for tensor in again.inputs] == ["a", "b", "c"]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(again(data, training=False)), expected, atol=1e-7)


@pytest.mark.slow
def test_the_most_inputs_that_there_are() -> None:
    data = arrays(*[12] * models.MAX_INPUTS)
    for name, options in (
        ("concat-pooled", {}),
        ("hyfuse", {}),
        ("hyfuse-symmetric", {"form": "midpoint"}),
        ("parrot", {}),
    ):
        assert models.get(name).most_inputs == models.MAX_INPUTS
        assert keras.ops.convert_to_numpy(build(name, data, **options)(data, training=False)).shape == (12, 3)
