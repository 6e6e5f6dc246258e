"""Permutation importance of a fusion's inputs, and the dependence of its predictions on their batch."""

from collections.abc import Callable, Mapping

import numpy as np

from .dataset import Part
from .fitting import Fitted
from .rows import take

SHUFFLES = 5
Arrays = Mapping[str, np.ndarray]


def permutation_importance(
    fitted: Fitted, test: Part, predicted: np.ndarray, seed: int, batch_size: int | None = None
) -> dict[str, dict[str, float]]:
    """Measure what happens when one input at a time is shuffled over the test clips.

    Breiman, "Random Forests", Machine Learning 45, 2001, section 10, with a whole representation in the place of a
    variable.

    Args:
        fitted: a trained fusion.
        test: N clips, with all its inputs.
        predicted: `(N,)` class numbers predicted from the unshuffled inputs.
        seed: of the permutations.
        batch_size: as in the predictions themselves.

    Returns:
        For each input the mean over `SHUFFLES` permutations of `changed`, the share of predictions that differ, and
        `accuracy_drop`, the accuracy lost, both as fractions.
    """
    if batch_size is None and hasattr(fitted, "opinions"):
        # What an input says of a clip is the same wherever it stands: it need not be asked again.
        return importance_of(fitted.opinions(test.arrays), fitted.decide, test.labels, predicted, seed)
    return importance_of(test.arrays, lambda arrays: fitted.predict(arrays, batch_size), test.labels, predicted, seed)


def importance_of(
    inputs: Arrays, predict: Callable[[Arrays], np.ndarray], labels: np.ndarray, predicted: np.ndarray, seed: int
) -> dict[str, dict[str, float]]:
    """As `permutation_importance`, of whatever is predicted from.

    Args:
        inputs: by name, `(N, ...)`.
        predict: from such inputs to class numbers `(N,)`.
        labels: `(N,)` class numbers.
        predicted: `(N,)` class numbers predicted from the unshuffled inputs.
        seed: of the permutations.
    """
    rng = np.random.default_rng(seed)
    accuracy = float(np.mean(predicted == labels))
    found = {}
    for name, values in inputs.items():
        changed, drops = [], []
        for _ in range(SHUFFLES):
            order = rng.permutation(len(labels))
            again = predict({**inputs, name: take(values, order)})
            changed.append(np.mean(again != predicted))
            drops.append(accuracy - np.mean(again == labels))
        found[name] = {"changed": float(np.mean(changed)), "accuracy_drop": float(np.mean(drops))}
    return found


def batch_dependence(fitted: Fitted, test: Part) -> dict[str, dict[str, float]]:
    """Measure accuracy and changed predictions when the same clips are predicted alone, by 32, or all together.

    Args:
        fitted: a trained fusion.
        test: the test clips.

    Returns:
        `{"alone": {...}, "32": {...}, "fold": {...}}`, each with `accuracy` and
        `changed_from_alone`, the share of predictions that differ, both as fractions.
    """
    alone = fitted.predict(test.arrays, 1)
    found = {}
    for name, size in (("alone", 1), ("32", 32), ("fold", len(test))):
        predicted = alone if size == 1 else fitted.predict(test.arrays, size)
        found[name] = {
            "accuracy": float(np.mean(predicted == test.labels)),
            "changed_from_alone": float(np.mean(predicted != alone)),
        }
    return found
