"""Choosing among candidates inside each training part, and what the chosen ones say of the clips held out."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import metrics
from ..experiment.dataset import Dataset
from .candidates import Candidate
from .inner import Block, Pairs, inside

if TYPE_CHECKING:
    import pandas as pd


def scores(metric: metrics.Metric, dataset: Dataset, blocks: Sequence[Block], found: Pairs) -> np.ndarray:
    """The figure of one candidate inside the training part of each block, `(blocks,)`; higher is better.

    Args:
        metric: the figure.
        dataset: labels of the clips.
        blocks: of the folds.
        found: what the candidate says, for every pair of blocks.
    """
    classes, emotions = np.asarray(dataset.classes), dataset.clips["emotion"]
    values = []
    for place in range(len(blocks)):
        seen = inside(place, blocks, found)
        labels = emotions.iloc[dataset.rows(seen.clips)]
        tested = metrics.tested_on(labels, classes[seen.predicted], seen.probabilities, dataset.classes)
        values.append(metrics.quick_value(metric, tested))
    found_scores = np.asarray(values)
    # A figure that is not defined inside some part (NaN) never wins.
    return np.nan_to_num(found_scores if metric.higher_is_better else -found_scores, nan=-np.inf)


def choose(candidates: Sequence[Candidate], inner: Mapping[Candidate, np.ndarray]) -> list[Candidate]:
    """The best candidate inside the training part of each block; of equal ones the first, which is the simplest.

    Args:
        candidates: to choose from, the simplest first.
        inner: `scores` of each.
    """
    table = np.stack([inner[candidate] for candidate in candidates])
    return [candidates[place] for place in table.argmax(axis=0)]


def held_out(
    chosen: Sequence[Candidate], blocks: Sequence[Block], predictions: Mapping[Candidate, "pd.DataFrame"]
) -> "pd.DataFrame":
    """What the candidates that were chosen for each block say of its test clips, as one table of predictions.

    Args:
        chosen: for each block.
        blocks: of the folds.
        predictions: of each candidate's cross-validation, one row per clip, with its `fold`.
    """
    import pandas as pd

    parts = []
    for block, candidate in zip(blocks, chosen, strict=True):
        table = predictions[candidate]
        parts.append(table[table["fold"].isin(block.folds)])
    return pd.concat(parts, ignore_index=True)
