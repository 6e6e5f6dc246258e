"""Losses, class weights, mixup and weight decay are what their formulas say."""

import numpy as np
import pytest

from serfuse.experiment import backend, fitting
from serfuse.experiment import config as configs
from serfuse.experiment.dataset import Part
from serfuse.experiment.trainers import keras_fit

backend.set_up_backend()
import keras  # noqa: E402 - the backend is chosen above

from serfuse.experiment import objective  # noqa: E402

SAID = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]], "float32")
TARGETS = np.eye(3, dtype="float32")[[0, 2, 2]]


def value(loss: objective.Objective, targets: np.ndarray = TARGETS, said: np.ndarray = SAID, **kwargs: object) -> float:
    return float(keras.ops.convert_to_numpy(loss(targets, said, **kwargs)))


def test_the_loss_by_hand() -> None:
    right = np.array([0.7, 0.3, 0.5])
    assert value(objective.Objective()) == pytest.approx(-np.log(right).mean(), rel=1e-5)
    focal = -((1 - right) ** 2 * np.log(right)).mean()
    assert value(objective.Objective(gamma=2.0)) == pytest.approx(focal, rel=1e-5)
    target = 0.9 * TARGETS + 0.1 / 3
    smoothed = -(target * np.log(SAID.astype("float64"))).sum(axis=1).mean()
    assert value(objective.Objective(label_smoothing=0.1)) == pytest.approx(smoothed, rel=1e-5)
    weighted = -(np.array([1.0, 2.0, 0.5]) * np.log(right)).mean()
    weights = np.array([1.0, 2.0, 0.5], "float32")
    assert value(objective.Objective(), sample_weight=weights) == pytest.approx(weighted, rel=1e-5)


def test_without_more_it_is_keras_own_cross_entropy() -> None:
    ours = value(objective.Objective())
    theirs = float(keras.losses.SparseCategoricalCrossentropy()(np.array([0, 2, 2]), SAID))
    smooth = float(keras.losses.CategoricalCrossentropy(label_smoothing=0.2)(TARGETS, SAID))
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert value(objective.Objective(label_smoothing=0.2)) == pytest.approx(smooth, rel=1e-6)


def test_experts_are_what_is_trained_and_the_answer_what_is_measured() -> None:
    wrong = np.roll(SAID, 1, axis=1)
    rows = np.stack([SAID, wrong, SAID], axis=1)  # the answer, then two experts
    expected = (value(objective.Objective(), said=wrong) + value(objective.Objective())) / 2
    assert value(objective.Objective(), said=rows) == pytest.approx(expected, rel=1e-5)
    for said in (rows, SAID):
        metric = objective.accuracy()
        metric.update_state(TARGETS, said)
        assert float(metric.result()) == pytest.approx(2 / 3)


def test_balanced_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 3], [5, 2, 11])
    found = objective.class_weights(labels, 4, "balanced")
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    np.testing.assert_allclose(found[[0, 1, 3]], expected, rtol=1e-6)
    assert found[2] == 1 and found[labels].mean() == pytest.approx(1)
    np.testing.assert_array_equal(objective.class_weights(labels, 4, "none"), np.ones(4))


def test_mixed_clips_lie_between_two_of_one_batch_in_all_inputs_alike() -> None:
    count = 10
    x = {"a": np.eye(count, dtype="float32"), "b": np.arange(count, dtype="float32")[:, None]}
    y, weights = np.eye(count, dtype="float32"), np.arange(count, dtype="float32")
    batches = objective.mixed(x, y, weights, batch_size=4, alpha=0.4, seed=3)
    epoch = [next(batches) for _ in range(3)]
    assert [len(targets) for _, targets, _ in epoch] == [4, 4, 2]
    heard = set()
    for arrays, targets, weight in epoch:
        # An embedding that marks its clip must come out as its target does: the same pair in the same parts.
        np.testing.assert_array_equal(arrays["a"], targets)
        np.testing.assert_allclose(arrays["b"][:, 0], targets @ np.arange(count), rtol=1e-5)
        np.testing.assert_allclose(weight, targets @ weights, rtol=1e-5)
        np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
        together = set(np.flatnonzero(targets.sum(axis=0)))
        assert len(together) == len(targets) and not heard & together, "each clip once an epoch, mixed in its batch"
        heard |= together
    assert len(heard) == count
    again = objective.mixed(x, y, weights, batch_size=4, alpha=0.4, seed=3)
    np.testing.assert_array_equal(next(again)[1], epoch[0][1])
    assert not np.array_equal(next(batches)[1], epoch[0][1]), "another order in the next epoch"


def clips(count: int = 30) -> tuple[Part, Part]:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    arrays = {"a": (rng.normal(size=(count, 6)) + 3 * np.eye(3)[labels].repeat(2, axis=1)).astype("float32")}
    none = Part({"a": arrays["a"][:0]}, labels[:0], labels[:0])
    return Part(arrays, labels, np.arange(count)), none


def kernels(**training: object) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of the last layer after training `fcn`."""
    changes = {f"training.{name}": value for name, value in {"patience": None, **training}.items()}
    config = configs.configure("fcn", {"options.dropout": 0, **changes})
    return tuple(fitting.fit(config, *clips(), 3, 0).model.get_layer("emotion").get_weights())


def test_a_step_of_weight_decay_takes_its_part_off_kernels_and_nothing_off_biases() -> None:
    """AdamW's step is Adam's and, from the kernel as it was before, learning rate times decay of it."""
    one_step = {"epochs": 1, "batch_size": 64, "learning_rate": 0.01}
    before, _ = kernels(**{**one_step, "learning_rate": 1e-30})
    plain, plain_bias = kernels(**one_step)
    decayed, decayed_bias = kernels(**one_step, weight_decay=2.0)
    np.testing.assert_allclose(decayed, plain - 0.01 * 2.0 * before, atol=1e-6)
    np.testing.assert_array_equal(decayed_bias, plain_bias)
    assert np.abs(plain_bias).max() > 1e-3


def test_the_cosine_brings_the_learning_rate_to_zero() -> None:
    settings = configs.configure("fcn", {"training.schedule": "cosine"}, epochs=4)
    rate = keras_fit.optimizer(settings, 30)._learning_rate
    found = [float(keras.ops.convert_to_numpy(rate(step))) for step in range(5)]
    np.testing.assert_allclose(found, 0.5e-3 * (1 + np.cos(np.pi * np.arange(5) / 4)), atol=1e-9)


@pytest.mark.parametrize(
    "setting",
    [{"loss": "focal"}, {"label_smoothing": 0.2}, {"class_weights": "balanced"}, {"mixup": 0.4}],
    ids=str,
)
def test_each_setting_learns_and_changes_the_result(setting: dict) -> None:
    training, none = clips()
    if "class_weights" in setting:
        rows = np.flatnonzero((training.labels != 2) | (training.ids < 9))
        training = Part({"a": training.arrays["a"][rows]}, training.labels[rows], training.ids[rows])
    changes = {f"training.{name}": value for name, value in {"patience": None, **setting}.items()}
    plain = configs.configure("fcn", {"training.patience": None}, epochs=15)
    changed = configs.configure("fcn", changes, epochs=15)
    first, other = (fitting.fit(config, training, none, 3, 0) for config in (changed, plain))
    assert np.abs(first.probabilities(training.arrays) - other.probabilities(training.arrays)).max() > 1e-4
    assert (first.predict(training.arrays) == training.labels).mean() > 0.9
    assert set(first.history[0]) == {"epoch", "loss", "accuracy"}


def test_early_stopping_watches_the_same_loss() -> None:
    training, _ = clips()
    config = configs.configure("experts", {"training.patience": 1, "options.members": 2, "options.hidden": 8}, epochs=2)
    pair = Part({"a": training.arrays["a"], "b": training.arrays["a"][:, :3]}, training.labels, training.ids)
    history = fitting.fit(config, pair, pair, 3, 0).history
    assert set(history[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}
    assert 0.2 < history[-1]["val_loss"] < 3
