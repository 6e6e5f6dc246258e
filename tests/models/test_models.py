"""The papers' models: shapes, parameter counts, bad input, and predictions that stand alone."""

import numpy as np
import pytest

from serfuse import models
from serfuse.errors import ConfigError, UnknownNameError
from serfuse.experiment import backend, fitting
from serfuse.experiment import config as configs
from serfuse.experiment.dataset import Part
from serfuse.models import branch

backend.set_up_backend()
import keras  # noqa: E402 - the backend is chosen above

KERAS_MODELS = [name for name in models.names() if models.get(name).library == "keras"]
PAIRS = [name for name in KERAS_MODELS if models.get(name).inputs == 2]


def arrays(*sizes: int, rows: int = 40, scale: float = 1.0, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    drawn = (scale * rng.normal(size=(rows, size)) for size in sizes)
    return {name: values.astype("float32") for name, values in zip("ab", drawn, strict=False)}


def build(name: str, data: dict[str, np.ndarray], classes: int = 4, seed: int = 0, **options):
    keras.utils.set_random_seed(seed)
    model = models.get(name)
    return model.build(data, classes, model.options(**options), seed)


def trainable(network) -> int:
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)


# --- the architectures -----------------------------------------------------------------------------------------------


def conv_parameters() -> int:
    return (3 * 1 * 64 + 64) + (3 * 64 * 128 + 128)


@pytest.mark.parametrize("size", [5, 52, 128])
def test_fcn_counts(size: int) -> None:
    assert trainable(build("fcn", arrays(size))) == size * 128 + 128 + 128 * 4 + 4


def test_svm_is_scikit_learns_with_its_defaults() -> None:
    from sklearn.svm import SVC

    scaler, svc = build("svm", arrays(5))
    assert type(scaler).__name__ == "StandardScaler" and type(svc) is SVC
    assert svc.get_params() == SVC().get_params()
    assert (
        build("svm", arrays(5), class_weight="balanced")[-1].get_params() == SVC(class_weight="balanced").get_params()
    )


@pytest.mark.parametrize(("name", "pooled"), [("cnn", False), ("cnn-pooled", True)])
def test_cnn_counts(name: str, pooled: bool) -> None:
    steps = ((50 - 2) // 2 - 2) // 2 if pooled else 50 - 4
    dense = steps * 128 * 128 + 128 + 128 * 4 + 4
    assert trainable(build(name, arrays(50))) == conv_parameters() + dense
    assert branch.branch_steps(50, pooled) == steps


@pytest.mark.parametrize(("longer", "printed"), [(512, 8.3e6), (768, 12.6e6)])
def test_hyfuse_has_the_printed_number_of_parameters(longer: int, printed: float) -> None:
    """HYFuse, section 4.1: "8 to 13 million". One fused vector as long as the longer branch gives just that."""
    network = build("hyfuse", arrays(longer, 250, rows=4), classes=6)
    assert trainable(network) == pytest.approx(printed, rel=0.01)


def test_parrot_projects_to_120_and_fuses_five_vectors() -> None:
    network = build("parrot", arrays(40, 30))
    steps = [branch.branch_steps(size, True) * 128 for size in (40, 30)]
    expected = 2 * conv_parameters() + sum(size * 120 + 120 for size in steps)
    expected += 5 * 120 * 128 + 128 + 128 * 4 + 4  # Hadamard, R_p->q, R_q, R_q->p, R_p
    assert trainable(network) == expected
    assert network.get_layer("fused").output.shape == (None, 600)


def test_parrot_counts_do_not_depend_on_what_is_transported() -> None:
    counts = {
        trainable(build("parrot", arrays(40, 30), points=points)) for points in ("features", "reference", "batch")
    }
    assert len(counts) == 1, "a reference set is not trained"


def test_concat_is_parrot_without_its_two_branches() -> None:
    difference = trainable(build("parrot", arrays(40, 30))) - trainable(build("concat-pooled", arrays(40, 30)))
    assert difference == 3 * 120 * 128


@pytest.mark.parametrize("name", KERAS_MODELS)
def test_outputs_are_probabilities_and_the_penultimate_layer_is_named(name: str) -> None:
    data = arrays(*(30, 20)[: models.get(name).inputs])
    network = build(name, data, classes=5)
    found = keras.ops.convert_to_numpy(network(data, training=False))
    assert found.shape == (40, 5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    # 4 members of 3 experts, who give 5 probabilities each; a dense layer of 128 in all others.
    assert network.get_layer("penultimate").output.shape == (None, 60 if name == "experts" else 128)
    assert len(network.inputs) == models.get(name).inputs


@pytest.mark.parametrize("name", [name for name in KERAS_MODELS if name not in ("fcn", "experts")])
def test_an_embedding_too_short_for_the_convolutions_is_refused(name: str) -> None:
    pooled = "pooled" in name or name == "parrot"
    least = next(size for size in range(1, 50) if branch.branch_steps(size, pooled) >= 1)
    sizes = [least, 30][: models.get(name).inputs]
    build(name, arrays(*sizes))
    with pytest.raises(ConfigError, match=f"at least {least}"):
        build(name, arrays(least - 1, *sizes[1:]))


OPERATORS = ("concat", "hadamard", "hyperbolic", "transport", "none")


@pytest.mark.parametrize("operator", OPERATORS)
def test_experts_are_pooled_within_members_and_members_averaged(operator: str) -> None:
    data = {**arrays(9, 7), "c": arrays(5)["a"]}
    network = build("experts", data, classes=3, operator=operator, members=2, hidden=6)
    names = ("opinion_a", "opinion_b", "opinion_c", *(() if operator == "none" else ("opinion_all",)))
    outputs = [network.get_layer(name).output for name in (*names, "experts", "members", "emotion")]
    *said, experts, members, answer = (
        keras.ops.convert_to_numpy(x) for x in keras.Model(network.inputs, outputs)(data, training=False)
    )
    assert experts.shape == (40, 2, len(names), 3)
    product = np.exp(np.mean([np.log(x.astype("float64")) for x in said], axis=0))
    product /= product.sum(axis=-1, keepdims=True)
    # The rows of `said` lie member by member, so that no expert is pooled with one of another member.
    np.testing.assert_allclose(members, product, atol=1e-6)
    np.testing.assert_allclose(answer, product.mean(axis=1), atol=1e-6)


def test_experts_take_eight_inputs_and_listen_to_each() -> None:
    data = {name: arrays(4)["a"] for name in models.INPUTS}
    network = build("experts", data, members=1, hidden=4)
    before = keras.ops.convert_to_numpy(network(data, training=False))
    for name in models.INPUTS:
        changed = {**data, name: data[name][::-1].copy()}
        assert np.abs(keras.ops.convert_to_numpy(network(changed, training=False)) - before).max() > 1e-5, name


def test_an_unknown_model_lists_the_choices() -> None:
    with pytest.raises(UnknownNameError, match="hyfuse-symmetric"):
        models.get("hyperfuse")


# --- input statistics ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fcn", "hyfuse", "parrot"])
def test_the_scale_of_an_embedding_does_not_matter(name: str) -> None:
    """Every value is z-scored with the training part's statistics, which are kept in the model."""
    count = models.get(name).inputs
    plain, scaled = arrays(*(30, 20)[:count]), arrays(*(30, 20)[:count])
    for key in scaled:
        scaled[key] = scaled[key] * np.float32(64) + np.float32(256)
    one = keras.ops.convert_to_numpy(build(name, plain)(plain, training=False))
    two = keras.ops.convert_to_numpy(build(name, scaled)(scaled, training=False))
    np.testing.assert_allclose(one, two, atol=2e-4)


# --- hyfuse: inside the ball, both inputs used -----------------------------------------------------------------------


def test_kappa_is_chosen_so_that_the_median_norm_starts_at_the_radius() -> None:
    data = arrays(60, 40, scale=10.0, rows=64)
    for radius in (0.5, 1.0):
        network = build("hyfuse", data, radius=radius)
        for side, layer in (("a", "exp_a"), ("b", "exp_b")):
            inner = keras.Model(network.inputs, network.get_layer(layer.replace("exp", "flatten")).output)
            norms = np.linalg.norm(keras.ops.convert_to_numpy(inner(data, training=False)), axis=1)
            kappa = network.get_layer(layer).kappa
            assert np.median(norms) * kappa == pytest.approx(radius, rel=1e-3), side


@pytest.mark.parametrize("name", ["hyfuse", "hyfuse-symmetric"])
def test_features_stay_in_the_useful_range_whatever_training_does(name: str) -> None:
    """Weights a hundred times as large move nothing to the edge of the ball."""
    data = arrays(40, 30, rows=32)
    network = build(name, data)
    for layer in network.layers:
        if layer.name.startswith("conv"):
            layer.set_weights([100 * weight for weight in layer.get_weights()])
    points = keras.Model(network.inputs, [network.get_layer(f"exp_{side}").output for side in "ab"])(data)
    for point in points:
        norms = np.linalg.norm(keras.ops.convert_to_numpy(point), axis=1)
        np.testing.assert_allclose(norms, np.tanh(1.0), rtol=1e-4)


def test_the_literal_kappa_is_kept_as_given_and_never_bounded() -> None:
    network = build("hyfuse", arrays(30, 20), kappa=1.0)
    assert network.get_layer("exp_a").kappa == network.get_layer("exp_b").kappa == 1.0
    assert not [layer for layer in network.layers if layer.name.startswith("bound")]


def test_a_bound_below_the_radius_is_refused() -> None:
    with pytest.raises(ValueError, match="at least the radius"):
        models.get("hyfuse").options(radius=1.0, bound=0.5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hyfuse", {"kappa": float("nan")}),
        ("hyfuse", {"kappa": float("inf")}),
        ("hyfuse", {"kappa": -1.0}),
        ("hyfuse", {"bound": float("nan")}),
        ("hyfuse", {"bound": float("inf")}),
        ("hyfuse", {"radius": float("nan")}),
        ("hyfuse-symmetric", {"log_scale": float("nan")}),
        ("hyfuse-symmetric", {"log_scale": 0.0}),
        ("parrot", {"epsilon": 1e-9}),
        ("parrot", {"epsilon": float("nan")}),
        ("parrot", {"iterations": 10**6}),
    ],
    ids=str,
)
def test_options_that_a_layer_would_refuse_are_refused_before_anything_is_trained(name: str, options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        models.get(name).options(**options)


def _gradient_shares(**options) -> float:
    """How much the fused vector moves with input b, as a share of how much it moves with a."""
    name = options.pop("name", "hyfuse")
    data = arrays(60, 60, scale=1.0, rows=32)
    network = build(name, data, **options)
    fused = network.get_layer("penultimate").input
    inner = keras.Model(network.inputs, fused)
    base = keras.ops.convert_to_numpy(inner(data, training=False))
    moves = {}
    for side in "ab":
        moved = {**data, side: np.roll(data[side], 1, axis=0)}
        moves[side] = np.linalg.norm(keras.ops.convert_to_numpy(inner(moved, training=False)) - base, axis=1).mean()
    return float(moves["b"] / moves["a"])


def test_the_default_does_not_saturate_and_the_symmetric_form_weighs_both_alike() -> None:
    literal, default = _gradient_shares(kappa=10.0), _gradient_shares()
    symmetric = _gradient_shares(name="hyfuse-symmetric")
    assert literal < 0.35, "with a large kappa the ball's boundary swallows the second input"
    assert default > 1.5 * literal
    assert 0.8 < symmetric < 1.25


@pytest.mark.parametrize("form", ["both-orders", "midpoint"])
def test_symmetric_forms_do_not_care_for_the_order(form: str) -> None:
    """Swapping the inputs together with their branches' weights leaves the prediction as it is."""
    data = arrays(30, 30)
    one = build("hyfuse-symmetric", data, form=form, kappa=0.1)
    two = build("hyfuse-symmetric", {"a": data["b"], "b": data["a"]}, form=form, kappa=0.1)
    swap = {"a": "b", "b": "a"}
    for layer in one.layers:
        weights = layer.get_weights()
        if weights:
            stem, _, side = layer.name.rpartition("_")
            two.get_layer(f"{stem}_{swap[side]}" if side in swap else layer.name).set_weights(weights)
    swapped = two({"a": data["b"], "b": data["a"]}, training=False)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(one(data, training=False)), keras.ops.convert_to_numpy(swapped), atol=1e-6
    )


def test_unequal_lengths_padded_or_projected() -> None:
    padded = build("hyfuse", arrays(40, 20))
    assert padded.get_layer("exp_a").output.shape == padded.get_layer("exp_b").output.shape == (None, 36 * 128)
    projected = build("hyfuse", arrays(40, 20), align="project", projection=32)
    assert projected.get_layer("exp_b").output.shape == (None, 32)


def test_the_inverse_log_scale() -> None:
    network = build("hyfuse", arrays(30, 20), log_scale="inverse", kappa=0.25)
    assert network.get_layer("log").scale == pytest.approx(4.0)


# --- predictions that stand alone ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in KERAS_MODELS]
    + [
        ("hyfuse-symmetric", {"form": "midpoint"}),
        ("parrot", {"points": "reference"}),
        ("parrot", {"points": "reference", "map": "literal"}),
        ("parrot", {"points": "features", "map": "literal"}),
    ],
)
def test_alone_equals_in_any_batch(name: str, options: dict) -> None:
    """The defaults of every model, after a few steps of training."""
    data = arrays(*(24, 18)[: models.get(name).inputs])
    network = build(name, data, classes=3, **options)
    network.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)  # to trace two steps takes longer
    network.fit(data, np.arange(40) % 3, epochs=1, batch_size=20, verbose=0)
    whole = keras.ops.convert_to_numpy(network(data, training=False))
    for rows in (slice(0, 1), slice(7, 12), np.array([3, 39, 0, 3])):
        part = keras.ops.convert_to_numpy(network({key: value[rows] for key, value in data.items()}, training=False))
        np.testing.assert_allclose(part, whole[rows], atol=1e-5)


def test_the_literal_reading_of_parrot_depends_on_its_batch_and_says_so() -> None:
    data = arrays(24, 18)
    network = build("parrot", data, points="batch", map="literal")
    whole = keras.ops.convert_to_numpy(network(data, training=False))
    alone = keras.ops.convert_to_numpy(network({key: value[:1] for key, value in data.items()}, training=False))
    assert np.abs(whole[:1] - alone).max() > 1e-4
    model = models.get("parrot")
    assert model.batch_dependent(model.options(points="batch"))
    assert not model.batch_dependent(model.options())


def test_the_reference_set_is_drawn_from_the_training_part_alone_and_the_same_for_both_inputs() -> None:
    data = arrays(24, 18, rows=100)
    data["b"][:, 0] = data["a"][:, 0]  # a mark by which clips are known again
    network = build("parrot", data, points="reference", references=16)
    kept = {side: network.get_layer(f"reference_{side}").get_weights()[0] for side in "ab"}
    assert kept["a"].shape == (16, 24) and kept["b"].shape == (16, 18)
    np.testing.assert_array_equal(kept["a"][:, 0], kept["b"][:, 0])
    assert set(kept["a"][:, 0]) <= set(data["a"][:, 0])


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in KERAS_MODELS]
    + [
        ("parrot", {"points": "reference"}),
        ("hyfuse-symmetric", {"form": "midpoint"}),
        ("hyfuse", {"align": "project"}),
        ("experts", {"operator": "hyperbolic", "members": 2, "hidden": 8}),
        ("experts", {"operator": "transport", "members": 2, "hidden": 8, "input_dropout": 0}),
    ],
)
def test_a_saved_model_predicts_the_same(name: str, options: dict, tmp_path) -> None:
    data = arrays(*(24, 18)[: models.get(name).inputs])
    network = build(name, data, **options)
    network.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(network(data, training=False)),
        keras.ops.convert_to_numpy(again(data, training=False)),
        atol=1e-7,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_every_fusion_learns_something_that_needs_both_inputs(name: str) -> None:
    """The class is the sign of a product across the inputs: neither input alone says anything about it."""
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], size=(400, 2))
    data = {
        side: (signs[:, [column]] * np.ones(16) + 0.3 * rng.normal(size=(400, 16))).astype("float32")
        for column, side in enumerate("ab")
    }
    labels = (signs.prod(axis=1) > 0).astype("int64")
    values = configs.assign(configs.shipped(name), {"training.epochs": 12, "training.learning_rate": 1e-3})
    if name == "parrot":  # twenty are traced as twenty, which takes most of the time
        values = configs.assign(values, {"options.iterations": 5})
    rest = {side: array[300:] for side, array in data.items()}
    training, none = (
        Part({side: array[:count] for side, array in data.items()}, labels[:count], np.arange(count).astype(str))
        for count in (300, 0)
    )
    fitted = fitting.fit(configs.from_dict(values), training, none, 2, 0)
    assert (fitted.predict(rest) == labels[300:]).mean() > 0.9
