"""Nested choice: the settings of a fold, chosen on folds within its own training part.

Varma and Simon, "Bias in error estimation when using cross-validation for model selection", BMC Bioinformatics 7, 2006:
what is chosen on the clips that it is measured on looks better than it is.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from .. import metrics
from ..models.task import Expert
from ..splits.nested import inner_folds
from .config import Config, assign, from_dict
from .dataset import Part

Fit = Callable[[Config, Part, Part], Expert]


def candidates(config: Config) -> list[tuple[dict[str, Any], Config]]:
    """What is tried, in the order of the grid: the settings of each, and its configuration without a search.

    Raises:
        ConfigError: a bad value in the grid.
        UnknownNameError: a model in it that is not there.
    """
    search = config.training.search
    if search is None:
        return [({}, config)]
    plain = config.model_dump()
    plain["training"]["search"] = None
    found = []
    for values in product(*search.values.values()):
        chosen = dict(zip(search.values, values, strict=True))
        found.append((chosen, from_dict(assign(plain, chosen), "training.search.grid")))
    return found


def fit(
    config: Config, training: Part, validation: Part, classes: int, seed: int, fit_one: Fit
) -> tuple[Expert, dict[str, Any]]:
    """Choose the settings on inner folds of the training part, and fit the model with them on all of it.

    Args:
        config: with a search.
        training: what is learned from; the inner folds keep apart the groups that it names.
        validation: what early stopping looks at, in the inner folds as well; may be empty.
        classes: number of classes of the corpus.
        seed: of the fold.
        fit_one: `fit_one(config, training, validation)`, fits one model.

    Returns:
        the fitted model, and the settings that were chosen: the first of the grid among equals.
    """
    tried = candidates(config)
    search = config.training.search
    assert search is not None
    folds = inner_folds(training.labels, training.groups, search.folds, seed)
    scores = []
    for _, one in tried if len(tried) > 1 else ():
        held = np.zeros((len(training), classes))
        predicted = np.zeros(len(training), dtype="int64")
        for learned, out in folds:
            fitted, part = fit_one(one, training.take(learned), validation), training.take(out)
            held[out], predicted[out] = fitted.probabilities(part.arrays), fitted.predict(part.arrays)
        scores.append(_score(search.metric, training.labels, held, predicted, classes))
    best = int(np.argmax(scores)) if scores else 0
    chosen, one = tried[best]
    return fit_one(one, training, validation), chosen


def _score(metric: str, labels: np.ndarray, held: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """The figure of all held-out clips together, the larger the better."""
    names = [str(number) for number in range(classes)]
    figure = metrics.METRICS.get(metric)
    tested = metrics.tested_on(
        [names[label] for label in labels], [names[label] for label in predicted], held, tuple(names)
    )
    found = metrics.quick_value(figure, tested)
    return (found if figure.higher_is_better else -found) if np.isfinite(found) else -np.inf
