"""What `Model.fit` is given: the training part of a fold, and heads fitted as runs of their own would fit them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..models.task import Expert
from ..splits.nested import inner_folds
from .config import Config, DataConfig
from .dataset import Part


@dataclass(frozen=True)
class FitTask:
    """See `serfuse.models.task.Task`.

    Attributes:
        config: of the whole experiment, without a search.
        training: the clips to learn from.
        validation: clips that early stopping may look at; may be empty.
        classes: number of classes of the corpus.
        seed: of the fold.
        fit: `fit(config, training, validation)`, what fits one model.
    """

    config: Config
    training: Part
    validation: Part
    classes: int
    seed: int
    fit: Callable[[Config, Part, Part], Expert]

    @property
    def options(self) -> Any:
        return self.config.model_options()

    def head(self, side: str, model: str, options: Mapping[str, Any], rows: np.ndarray | None = None) -> Expert:
        data = DataConfig(corpus=self.config.data.corpus, a=getattr(self.config.data, side))
        alone = self.config.model_copy(update={"model": model, "options": dict(options), "data": data})
        training = self.training.only(side)
        return self.fit(alone, training if rows is None else training.take(rows), self.validation.only(side))

    def inner_folds(self, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return inner_folds(self.training.labels, self.training.groups, count, self.seed)
