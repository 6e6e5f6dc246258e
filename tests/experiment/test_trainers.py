"""Every trainer gives what `keras.Model.fit` gives, to rounding."""

import gc
import weakref

import numpy as np
import pytest

from serfuse.errors import ConfigError, UnknownNameError
from serfuse.experiment import backend, cross_validation, fitting, rows, trainers
from serfuse.experiment import config as configs
from serfuse.experiment.dataset import Part, load_dataset
from serfuse.experiment.trainers import keras_fit, tensorflow_blocks, tensorflow_layers, tensorflow_shared
from serfuse.experiment.trainers.base import Lesson

backend.set_up_backend()


def clips(count: int, seed: int, noise: float = 1.0) -> Part:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    centres = np.random.default_rng(0).normal(size=(3, 14))
    a = (centres[labels] + noise * rng.normal(size=(count, 14))).astype("float32")
    return Part({"a": a[:, :6], "b": a[:, 6:]}, labels, np.arange(count))


def trained(trainer: str, model: str, training: Part, validation: Part, changes: dict, epochs: int) -> object:
    inputs = list(training.arrays)
    config = configs.configure(model, changes, inputs=inputs, epochs=epochs, trainer=trainer)
    return fitting.fit(config, training, validation, 3, 0)


EXTRAS = {
    "training.weight_decay": 0.01,
    "training.schedule": "cosine",
    "training.loss": "focal",
    "training.label_smoothing": 0.1,
    "training.class_weights": "balanced",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("hyfuse", {}),
        ("fcn", EXTRAS),
        ("fcn", {"training.mixup": 0.4}),
        ("experts", {"options.members": 2, "options.hidden": 8}),
    ],
    ids=["hyfuse", "extras", "mixup", "experts"],
)
def test_twenty_steps_are_those_of_plain_fit(model: str, changes: dict) -> None:
    """The last batch is a short one; clips come in the same order and dropout falls on the same values.

    A weight moves by about the learning rate, 1e-3, with each step, whatever the size of its gradient. So where a
    gradient is rounding itself, two right answers may lie a few learning rates apart; a hundredth of one is close.
    """
    training, validation = clips(75, 1), clips(12, 2)
    if model == "fcn":
        training, validation = training.only("a"), validation.only("a")
    changes = {"training.patience": None, **changes}
    plain, fast = (trained(name, model, training, validation, changes, 7) for name in ("keras", "tensorflow"))
    for one, other in zip(plain.model.get_weights(), fast.model.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)
    for one, other in zip(plain.history, fast.history, strict=True):
        assert other == pytest.approx(one, rel=1e-4)
    assert fast.parameters == plain.parameters


@pytest.mark.slow
def test_folds_share_their_graphs_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another fold with another scale, other input statistics, another number of steps and other weights."""
    import tensorflow as tf

    traced, function = [], tf.function

    def counting(body=None, **settings):
        if getattr(body, "__module__", "").startswith("serfuse."):
            traced.append(body)
        return function(body, **settings)

    training, validation = clips(75, 1), clips(12, 2)
    changes = {"training.patience": None, "training.schedule": "cosine"}
    plain = trained("keras", "hyfuse", training, validation, changes, 3)
    monkeypatch.setattr(tf, "function", counting)
    first = trained("tensorflow", "hyfuse", clips(50, 3, noise=3.0), clips(12, 4), changes, 3)
    said = first.probabilities(validation.arrays)
    assert len(traced) == 3
    second = trained("tensorflow", "hyfuse", training, validation, changes, 3)
    for one, other in zip(plain.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)
    answers = second.model(dict(validation.arrays), training=False)
    np.testing.assert_allclose(second.probabilities(validation.arrays), answers, atol=1e-6)
    np.testing.assert_array_equal(first.probabilities(validation.arrays), said)
    assert len(traced) == 3


def test_a_function_of_another_package_is_not_taken_for_one_of_the_same_name() -> None:
    """Keras writes down the name of a function, and not what it closes over: here, a number of the training part."""
    import keras

    def network(divisor: float) -> keras.Model:
        def scaled(x):
            return x / divisor

        tensor = keras.Input((3,), name="a")
        answer = keras.layers.Activation("softmax", name="emotion")(keras.layers.Lambda(scaled, name="scale")(tensor))
        return keras.Model({"a": tensor}, answer, name="scaled")

    clip = {"a": np.array([[1.0, 2.0, 4.0]], "float32")}
    for divisor in (1.0, 8.0):
        expected = np.exp(clip["a"] / divisor) / np.exp(clip["a"] / divisor).sum()
        found = fitting.probabilities(network(divisor), clip, compiled=True)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_shared_graph_reaches_what_its_scale_is_made_for() -> None:
    """The scale of a fold is chosen by the length of its vectors, and tiny where embeddings are enormous."""
    import keras

    from serfuse.layers import ExpMap0

    for kappa in (1e-12, 0.5):
        tensor = keras.Input((2,), name="a")
        network = keras.Model({"a": tensor}, ExpMap0(kappa, name="exp")(tensor), name="mapped")
        said = tensorflow_shared.asked(network)({"a": np.array([[3.0, 4.0]], "float32") * 0.1 / kappa})[""]
        np.testing.assert_allclose(said, np.tanh(0.5) * np.array([[0.6, 0.8]]), rtol=1e-5)


def test_networks_that_nobody_needs_lie_until_they_are_large() -> None:
    """Each is a circle of objects, so that only the collection of garbage ends it, which takes a third of a second."""

    def made(size: int) -> weakref.ref:
        part = Part({"a": np.eye(3, size, dtype="float32")}, np.arange(3), np.arange(3))
        config = configs.configure("fcn", {"options.standardize": False}, a="hubert")
        return weakref.ref(keras_fit.seeded_network(Lesson(config, part, part.take(np.arange(0)), 3, 0)))

    gc.disable()
    try:
        large = made(120_000)
        small = made(4)
        assert large() is None
        another = made(4)
        assert small() is not None
        assert another() is not None
    finally:
        gc.enable()
        gc.collect()


def test_a_layer_of_a_model_inside_which_is_used_twice_keeps_its_kernel_whole() -> None:
    import keras

    each = keras.Input((6,))
    tower = keras.Model(each, keras.layers.Dense(4)(each))
    inputs, last = [keras.Input((6,)), keras.Input((6,))], keras.layers.Dense(3)
    network = keras.Model(inputs, last(keras.layers.Concatenate()([tower(one) for one in inputs])))
    assert [one.layer for one in tensorflow_blocks.large(network, least=1)] == [last]


@pytest.mark.parametrize("length", [9, None])
def test_convolutions_in_their_lean_form_are_those_of_keras(length: int | None) -> None:
    """Of one channel and of several; and those that have no such form, beside them."""
    import keras
    import tensorflow as tf

    layers = [
        keras.layers.Conv1D(4, 3, activation="tanh", bias_initializer="normal"),
        keras.layers.Conv1D(5, 2, activation="relu", bias_initializer="normal"),
        keras.layers.Conv1D(3, 2, padding="same"),
        keras.layers.Conv1D(2, 3, use_bias=False),
        keras.layers.GlobalAveragePooling1D(),
    ]
    network = keras.Sequential([keras.Input((length, 1)), *layers])
    clips = tf.constant(np.random.default_rng(0).normal(size=(6, 9, 1)).astype("float32"))

    def answers() -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            tape.watch(clips)
            said = network(clips)
        weights = [variable.value for variable in network.trainable_variables]
        return [said, *tape.gradient(said, [clips, *weights])]

    plain = answers()
    with tensorflow_layers.lean(network):
        own = [layer for layer in layers if "call" in vars(layer)]
        lean = answers()
    assert own == layers[:2]
    assert not any("call" in vars(layer) for layer in layers)
    for one, other in zip(plain, lean, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def test_a_kernel_in_blocks_learns_what_it_learns_as_a_whole() -> None:
    """The last block is smaller. A kernel that is small, penalised or used twice stays whole."""
    import keras
    import tensorflow as tf

    clip, dense = keras.Input((11,), name="a"), keras.layers.Dense
    wide, twice = dense(6, "tanh", bias_initializer="normal", name="wide"), dense(6, name="twice")
    penalised, small = dense(6, kernel_regularizer="l2", name="penalised"), dense(2, name="small")
    network = keras.Model(clip, small(penalised(twice(twice(wide(clip))))))
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 11)).astype("float32"))

    def slopes() -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            said = network(x)
        return [said, *tape.gradient(said, [x, wide.bias.value])]

    plain = slopes()
    with tf.GradientTape() as tape:
        said = network(x)
    kernel = wide.kernel.numpy()
    expected = kernel - 0.1 * tape.gradient(said, wide.kernel.value)

    [blocks] = tensorflow_blocks.large(network, least=30, weights=4 * 6)
    assert blocks.layer is wide
    with tensorflow_blocks.used([blocks], lambda slope, block: block.value.assign_sub(0.1 * slope)):
        found = slopes()
    for one, other in zip(plain, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)
    assert [block.shape[0] for block in blocks.variables] == [4, 4, 3]
    np.testing.assert_array_equal(wide.kernel, kernel)
    blocks.write_back()
    np.testing.assert_allclose(wide.kernel, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_network_with_a_large_kernel_is_trained_as_by_plain_fit() -> None:
    """Of 8.4 million weights, in blocks; validated after each epoch. The gradients of a few are rounding themselves."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(count, 66_000)).astype("float32") for count in (40, 6)]
    training, validation = (Part({"a": array}, np.arange(len(array)) % 3, np.arange(len(array))) for array in arrays)
    changes = {"training.patience": None, "options.standardize": False}
    plain, fast = (trained(name, "fcn", training, validation, changes, 2) for name in ("keras", "tensorflow"))
    for one, other in zip(plain.model.get_weights(), fast.model.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-4)
    for one, other in zip(plain.history, fast.history, strict=True):
        assert other == pytest.approx(one, rel=1e-4)


@pytest.mark.slow
def test_early_stopping_ends_where_plain_fit_ends_with_the_same_weights() -> None:
    training, validation = (clips(48, 1).only("a"), clips(24, 2).only("a"))
    changes = {"training.patience": 3, "training.learning_rate": 0.003}
    plain, fast = (trained(name, "fcn", training, validation, changes, 60) for name in ("keras", "tensorflow"))
    assert 4 < len(fast.history) == len(plain.history) < 60
    losses = [row["val_loss"] for row in fast.history]
    assert int(np.argmin(losses)) == len(losses) - 4
    for one, other in zip(plain.model.get_weights(), fast.model.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-4)
    again = trained("tensorflow", "fcn", training, validation, changes, 60)
    for one, other in zip(again.model.get_weights(), fast.model.get_weights(), strict=True):
        np.testing.assert_array_equal(other, one)


def test_the_trainer_is_chosen_by_what_can_train_and_by_name() -> None:
    config = configs.configure("fcn", a="hubert")
    assert trainers.choose(config).name == fitting.trainer(config) == "tensorflow"
    assert fitting.trainer(configs.configure("fcn", a="hubert", trainer="keras")) == "keras"
    assert fitting.trainer(configs.configure("svm", a="hubert")) == ""
    with pytest.raises(UnknownNameError, match=r"trainer 'kears'.*auto, tensorflow, stacked, keras"):
        configs.configure("fcn", a="hubert", trainer="kears")
    cannot = trainers.Trainer("cannot", "", lambda config: "there is no abacus", keras_fit.train)
    trainers.TRAINERS.register("cannot", cannot)
    try:
        with pytest.raises(ConfigError, match="there is no abacus"):
            trainers.choose(configs.configure("fcn", a="hubert", trainer="cannot"))
    finally:
        trainers.TRAINERS.unregister("cannot")


@pytest.mark.slow
def test_a_trainer_of_many_gets_all_folds_that_are_not_there_yet(standin_store) -> None:
    given: list[int] = []

    def train(lessons, observer):
        given.append(len(lessons))
        return keras_fit.train(lessons, observer)

    trainers.TRAINERS.register("many", trainers.Trainer("many", "", lambda config: "", train, together=True))
    try:
        config, plain = (
            configs.configure("fcn", a="hubert", folds=3, epochs=1, trainer=name) for name in ("many", "keras")
        )
        dataset = load_dataset(config, standin_store)
        first, *_ = expected = cross_validation.cross_validate(plain, dataset).folds
        found = cross_validation.cross_validate(
            config, dataset, recall=lambda fold: first if fold.index == 0 else None
        ).folds
        assert given == [2]
        for one, other in zip(expected, found, strict=True):
            assert one.fold.index == other.fold.index
            assert one.predictions.equals(other.predictions)
    finally:
        trainers.TRAINERS.unregister("many")


class Watched(np.ndarray):
    """A stand-in for a mapped file, which remembers how many rows were read at once."""

    most = 0

    def __getitem__(self, which):
        found = np.asarray(super().__getitem__(which))
        Watched.most = max(Watched.most, len(found))
        return found


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["tensorflow", "keras"])
def test_clips_of_a_mapped_file_are_read_batch_by_batch(trainer: str) -> None:
    """Training, validation and answers; with the numbers of clips that lie in memory, where the order is Keras'."""
    training, validation = clips(75, 1), clips(12, 2)

    def mapped(part: Part) -> Part:
        arrays = {name: rows.Rows(array.view(Watched), np.arange(len(part))) for name, array in part.arrays.items()}
        return Part(arrays, part.labels, part.ids)

    changes = {"training.patience": None, "options.standardize": False, "options.kappa": 0.1}
    plain = trained(trainer, "hyfuse", training, validation, changes, 4)
    Watched.most = 0
    lazy = trained(trainer, "hyfuse", mapped(training), mapped(validation), changes, 4)
    assert 12 <= Watched.most <= 32
    assert [row["epoch"] for row in lazy.history] == [1, 2, 3, 4]
    assert lazy.history[-1]["val_loss"] < lazy.history[0]["val_loss"]
    np.testing.assert_array_equal(lazy.predict(mapped(training).arrays), lazy.predict(training.arrays))
    if trainer == "tensorflow":
        assert lazy.history == [pytest.approx(row, rel=1e-5) for row in plain.history]
