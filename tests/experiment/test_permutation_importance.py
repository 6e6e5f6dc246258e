"""Permutation importance and batch dependence, on models whose answer is known."""

import numpy as np
import pytest

from serfuse.experiment import permutation_importance
from serfuse.experiment.dataset import Part


class Rule:
    """A fitted model made of a function of the two inputs."""

    parameters = 0
    history: list = []  # noqa: RUF012

    def __init__(self, function) -> None:
        self.function = function
        self.asked: list[int] = []

    def predict(self, arrays, batch_size=None):
        count = len(arrays["a"])
        size = batch_size or count
        self.asked.append(size)
        parts = []
        for start in range(0, count, size):
            parts.append(self.function(*(arrays[name][start : start + size] for name in "ab")))
        return np.concatenate(parts)


@pytest.fixture
def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"a": rng.normal(size=(600, 3)), "b": rng.normal(size=(600, 2))}


def part(data: dict[str, np.ndarray], labels: np.ndarray) -> Part:
    return Part(data, labels, np.arange(len(labels)).astype(str))


def measure(rule, data, seed=0):
    model = Rule(rule)
    predicted = model.predict(data)
    return permutation_importance.permutation_importance(model, part(data, predicted), predicted, seed)


def test_an_ignored_input_changes_nothing_and_a_used_one_half(data) -> None:
    found = measure(lambda a, b: (a[:, 0] > 0).astype(int), data)
    assert found["b"] == {"changed": 0.0, "accuracy_drop": 0.0}
    # Two independent fair signs differ half of the time: within four standard errors of 5 x 600 draws.
    assert found["a"]["changed"] == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(600))
    assert found["a"]["accuracy_drop"] == pytest.approx(found["a"]["changed"])


def test_both_inputs_of_a_product_matter_alike(data) -> None:
    found = measure(lambda a, b: (a[:, 0] * b[:, 0] > 0).astype(int), data)
    assert found["a"]["changed"] == pytest.approx(found["b"]["changed"], abs=0.08)
    assert found["a"]["changed"] > 0.4


def test_an_input_that_only_does_harm_has_a_negative_drop(data) -> None:
    labels = (data["b"][:, 0] <= 0).astype(int)
    model = Rule(lambda a, b: (b[:, 0] > 0).astype(int))  # wrong on every clip, right on half of them by chance
    found = permutation_importance.permutation_importance(model, part(data, labels), model.predict(data), 0)
    assert found["b"]["accuracy_drop"] == pytest.approx(-0.5, abs=0.1) and found["b"]["changed"] > 0.4
    assert found["a"]["accuracy_drop"] == 0


def test_the_seed_decides(data) -> None:
    def rule(a, b):
        return (a[:, 0] + b[:, 0] > 0).astype(int)

    assert measure(rule, data, 1) == measure(rule, data, 1) != measure(rule, data, 2)


def test_neighbours(data) -> None:
    labels = (data["a"][:, 0] > 0).astype(int)
    test = part(data, labels)
    alone = permutation_importance.batch_dependence(Rule(lambda a, b: (a[:, 0] > 0).astype(int)), test)
    assert all(found == {"accuracy": 1.0, "changed_from_alone": 0.0} for found in alone.values())
    # Compared with the batch's mean: a clip alone is its own mean, so nothing is ever above it.
    above = permutation_importance.batch_dependence(Rule(lambda a, b: (a[:, 0] > a[:, 0].mean()).astype(int)), test)
    assert above["alone"]["accuracy"] == pytest.approx(np.mean(labels == 0))
    assert above["fold"]["accuracy"] > 0.9 and above["fold"]["changed_from_alone"] > 0.4
    assert above["alone"]["accuracy"] < above["32"]["accuracy"] <= above["fold"]["accuracy"]


def test_neighbours_are_none_then_31_then_the_whole_fold(data) -> None:
    model = Rule(lambda a, b: (a[:, 0] > 0).astype(int))
    found = permutation_importance.batch_dependence(model, part(data, np.zeros(600, int)))
    assert list(found) == ["alone", "32", "fold"] and model.asked == [1, 32, 600]


def test_each_input_is_shuffled_five_times_in_the_batches_that_were_asked_for(data) -> None:
    model = Rule(lambda a, b: (a[:, 0] > 0).astype(int))
    labels = model.predict(data)
    model.asked.clear()
    permutation_importance.permutation_importance(model, part(data, labels), labels, 0, 32)
    assert model.asked == [32] * 2 * permutation_importance.SHUFFLES
