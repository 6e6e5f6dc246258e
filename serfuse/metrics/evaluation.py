"""Figures of one set of predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import RunError
from . import bootstrap
from .base import Tested
from .probabilities import checked
from .table import measured

_MOST_LETTERS = 1 << 28  # a gigabyte


def evaluate(
    labels: Sequence[str],
    predicted: Sequence[str],
    probabilities: np.ndarray | None,
    classes: Sequence[str],
    further: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure one set of predictions.

    Args:
        labels: (N,) true classes.
        predicted: (N,) predicted classes.
        probabilities: (N, C), columns as `classes`; `None` where the model gives none.
        classes: all classes, also those without a clip here.
        further: metrics of other packages, by name, beside those of `serfuse.metrics.measured`.

    Returns:
        `clips`; every figure by its name; `per_class`: class -> `support`, `recall`,
        `precision`, `f1`; `confusion`: C x C counts, rows are true classes; `absent`: classes without a clip. What is
        not defined is `None`.

    Raises:
        RunError: no clips, lengths that differ, a label that is no class, probabilities that are none.
    """
    from sklearn import metrics as sk

    tested = tested_on(labels, predicted, probabilities, classes)
    labels, predicted, classes = tested.labels, tested.predicted, tested.classes
    present = [name for name in classes if (labels == name).any()]
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=np.nan
    )
    found: dict[str, Any] = {"clips": len(labels)}
    found.update({metric.name: defined(bootstrap.value(metric, tested)) for metric in measured(further)})
    found["per_class"] = {
        name: {
            "support": int(support[i]),
            "recall": defined(recall[i]),
            "precision": defined(precision[i]),
            # F1 = 2 TP / (2 TP + FP + FN): by this definition 0 for a class that was tested and never found.
            "f1": defined(f1[i]) if name in present else None,
        }
        for i, name in enumerate(classes)
    }
    found["confusion"] = sk.confusion_matrix(labels, predicted, labels=classes).tolist()
    found["absent"] = [name for name in classes if name not in present]
    return found


def tested_on(
    labels: Sequence[str], predicted: Sequence[str], probabilities: np.ndarray | None, classes: Sequence[str]
) -> Tested:
    """Check predictions. Arguments and errors as for `evaluate`."""
    names = tuple(str(name) for name in classes)
    longest = max(map(len, map(str, names)), default=0)
    if longest * max(len(labels), len(predicted)) > _MOST_LETTERS:  # an array takes as much for each as for the longest
        raise RunError(f"A class has a name of {longest} letters, too many for {len(labels)} predictions. Shorten it.")
    strangers = sorted({*map(str, labels), *map(str, predicted)} - set(names))
    if strangers:
        raise RunError(f"{', '.join(strangers[:9])[:300]} is not among the classes {', '.join(names)[:300]}.")
    labels, predicted = np.asarray(labels, str), np.asarray(predicted, str)
    _check(labels, predicted)
    rows = None if probabilities is None else checked(probabilities, len(labels), len(names))
    return Tested(labels, predicted, rows, names)


def _check(labels: np.ndarray, predicted: np.ndarray) -> None:
    if len(labels) == 0:
        raise RunError("There are no predictions to evaluate.")
    if len(labels) != len(predicted):
        raise RunError(f"{len(predicted)} predictions for {len(labels)} labels; expected one for each.")


def defined(value: float) -> float | None:
    """Give the value, or `None` where it is not finite."""
    return float(value) if np.isfinite(value) else None
