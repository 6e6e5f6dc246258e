"""Predictions that a choice may rest on: of models that saw neither of two folds.

The choice for a fold may look at nothing of that fold. For each pair of folds one model is trained on the clips that
are in the training parts of both; what it predicts for the clips of the one serves the choice for the other. So each
choice rests on predictions for all of its training clips, kept apart by speaker or text as the split keeps them, from
K (K - 1) / 2 trainings for K folds. Many folds (one per speaker of a large corpus) are taken together into ten.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ..errors import SplitError
from ..experiment import fitting
from ..experiment.config import Config
from ..experiment.cross_validation import fold_seed, learned_from
from ..experiment.dataset import Dataset
from ..splits.folds import Fold

MOST_BLOCKS = 10
_REPEAT = 3  # which decides the seeds beside the number of the pair, and is none that the folds of a run have
_LEAST_BLOCKS = 3  # with two, the training parts of both folds have no clip in common


@dataclass(frozen=True, eq=False)
class Block:
    """One fold, or some folds taken together, for which one choice is made.

    Attributes:
        folds: `index` of each fold.
        learned: clip ids that are in the training or validation part of every one of them, sorted.
        validation: those of them that are in some fold's validation part, sorted.
        tested: clip ids of their test parts, sorted.
        apart: what the split keeps apart, see `Fold`.
    """

    folds: tuple[int, ...]
    learned: np.ndarray
    validation: np.ndarray
    tested: np.ndarray
    apart: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of clips that it did not see.

    Attributes:
        clips: `(N,)` clip ids, sorted.
        predicted: `(N,)` class numbers.
        probabilities: `(N, classes)`.
    """

    clips: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray

    def of(self, clips: np.ndarray) -> "Predictions":
        """Those of some of the clips."""
        rows = np.isin(self.clips, clips)
        return Predictions(self.clips[rows], self.predicted[rows], self.probabilities[rows])


Pairs = Mapping[tuple[int, int], Predictions]


def blocks(folds: Sequence[Fold]) -> list[Block]:
    """The folds, taken together where there are more than ten.

    Args:
        folds: of one repeat.

    Raises:
        SplitError: fewer than three, or several repeats.
    """
    if len(folds) < _LEAST_BLOCKS or any(fold.repeat for fold in folds):
        raise SplitError(
            f"The split gives {len(folds)} folds{' in several repeats' if len(folds) >= _LEAST_BLOCKS else ''}; a "
            "choice inside each training part needs at least three folds of one repeat. Use another split, such as "
            "loso or speaker."
        )
    found = []
    for places in np.array_split(np.arange(len(folds)), min(len(folds), MOST_BLOCKS)):
        some = [folds[place] for place in places]
        learned = np.unique(np.concatenate([some[0].train, some[0].validation]))
        for fold in some[1:]:
            learned = np.intersect1d(learned, np.concatenate([fold.train, fold.validation]))
        validation = np.intersect1d(learned, np.concatenate([fold.validation for fold in some]))
        tested = np.unique(np.concatenate([fold.test for fold in some]))
        found.append(Block(tuple(fold.index for fold in some), learned, validation, tested, some[0].apart))
    return found


def pairs(number: int) -> list[tuple[int, int]]:
    """Every pair of `number` blocks."""
    return list(combinations(range(number), 2))


def between(one: Block, other: Block, index: int) -> Fold:
    """The clips that both blocks learn from, and those of either that the other learns from, to be predicted.

    Args:
        one: a block.
        other: another block.
        index: of the fold that is returned; decides the seed.
    """
    learned = np.intersect1d(one.learned, other.learned)
    validation = np.intersect1d(learned, np.union1d(one.validation, other.validation))
    tested = np.union1d(np.intersect1d(one.tested, other.learned), np.intersect1d(other.tested, one.learned))
    train = np.setdiff1d(learned, validation)
    if not len(train):
        train, validation = learned, learned[:0]
    return Fold(_REPEAT, index, train, validation, np.setdiff1d(tested, learned), one.apart)


def predict(config: Config, dataset: Dataset, fold: Fold) -> Predictions:
    """Train the model of a configuration on a fold and predict its test part.

    Raises:
        RunError: the model cannot be trained on these clips.
    """
    training, validation = (dataset.part(ids, fold.apart) for ids in learned_from(config, fold))
    test = dataset.part(fold.test)
    fitted: Any = fitting.fit(config, training, validation, len(dataset.classes), fold_seed(config, fold))
    return Predictions(test.ids, fitted.predict(test.arrays), fitted.probabilities(test.arrays))


def inside(place: int, blocks: Sequence[Block], found: Pairs) -> Predictions:
    """The predictions that the choice for a block may rest on: of its training clips, by models that saw no clip of it.

    Args:
        place: of the block.
        blocks: all of them.
        found: predictions of every pair of blocks.
    """
    parts = [predictions.of(blocks[place].learned) for pair, predictions in sorted(found.items()) if place in pair]
    return Predictions(
        np.concatenate([part.clips for part in parts]),
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
    )
