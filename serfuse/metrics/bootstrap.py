"""A figure of many draws of the same predictions, and the interval that follows from them."""

import logging
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..registry import OWN
from . import intervals
from .base import Counts, Metric, Tested
from .confusion import tally
from .table import METRICS

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SINGLE_DRAWS = 500
"""Draws of a metric that has no form for many draws at once; their standard error is known to 3 %."""

_ROWS = 20_000_000  # measured in all for such a metric; more clips mean fewer draws
_LEAST = 100
_KEPT = 1 << 22  # numbers: 32 MB

_log = logging.getLogger(__name__)


def value(metric: Metric, tested: Tested) -> float:
    """Measure the figure; NaN where it is not defined, needs probabilities that are not there, or fails.

    A metric of another package that fails is a warning and no error: the other figures of a long run are worth more.
    """
    given, classes = tested.predicted, [name for name in tested.classes if (tested.labels == name).any()]
    if metric.needs == "probabilities":
        if tested.probabilities is None:
            return float("nan")
        given, classes = tested.probabilities, list(tested.classes)
    if metric.name in METRICS.own_names() and METRICS.origin(metric.name) == OWN:
        return metric.measure(tested.labels, given, classes)
    try:
        return float(metric.measure(tested.labels, given, classes))
    except Exception as error:
        _log.warning("The metric %r failed: %s: %s", metric.name, type(error).__name__, error)
        return float("nan")


def quick_value(metric: Metric, tested: Tested) -> float:
    """Measure by the form for many draws where there is one: what is compared is measured as its draws are."""
    if metric.of_counts is None:
        return value(metric, tested)
    one = intervals.Clusters(np.zeros(len(tested.labels), dtype=int), 1, "all")
    sums = tally(tested.labels, tested.predicted, tested.classes, one)
    return float(metric.of_counts(Counts.of_sums(np.asarray(sums)[0])))


class Bootstrap:
    """Draws of whole clusters from one set of predictions. Equal clusters, draws and seed are the same draws.

    Args:
        tested: the predictions.
        clusters: of its clips.
        draws: how many.
        seed: of the draws.
    """

    def __init__(
        self, tested: Tested, clusters: intervals.Clusters, draws: int = intervals.DRAWS, seed: int = 0
    ) -> None:
        self.tested, self.clusters, self.draws, self.seed = tested, clusters, draws, seed

    @cached_property
    def _tally(self) -> "np.ndarray | csr_matrix":
        return tally(self.tested.labels, self.tested.predicted, self.tested.classes, self.clusters)

    @cached_property
    def _kept(self) -> list[np.ndarray] | None:
        """All draws, where they are few enough to be kept for the next metric."""
        small = self.draws * self._tally.shape[1] <= _KEPT
        return list(intervals.pieces(self._tally, self.draws, self.seed)) if small else None

    def counts(self) -> Iterator[Counts]:
        """What the confusion matrices of the draws count, some draws at a time, in the same order at every call."""
        for sums in self._kept or intervals.pieces(self._tally, self.draws, self.seed):
            yield Counts.of_sums(sums)

    def of(self, metric: Metric) -> np.ndarray | None:
        """(B,) the figure in each draw; `None` where it gets no interval, has none here, or would take too long."""
        if not metric.interval or self.clusters.number < 2:
            return None
        if metric.needs == "probabilities" and self.tested.probabilities is None:
            return None
        if metric.of_counts is not None:
            return np.concatenate([metric.of_counts(counts) for counts in self.counts()])
        if metric.terms is not None:
            return self._of_terms(metric)
        return self._one_by_one(metric)

    def _of_terms(self, metric: Metric) -> np.ndarray:
        terms = metric.terms(self.tested.labels, self.tested.probabilities, list(self.tested.classes))
        held = np.bincount(self.clusters.codes, weights=terms, minlength=self.clusters.number)
        sums = intervals.sums(held[:, None], self.draws, self.seed)[:, 0]
        return sums / np.concatenate([counts.total for counts in self.counts()])

    def _one_by_one(self, metric: Metric) -> np.ndarray | None:
        number = min(self.draws, SINGLE_DRAWS, _ROWS // len(self.tested.labels))
        if number < _LEAST:
            return None
        found, places = np.full(number, np.nan), np.arange(len(self.tested.labels))
        for draw, times in enumerate(intervals.resample(self.clusters.number, number, self.seed)):
            found[draw] = value(metric, self.tested.rows(np.repeat(places, times[self.clusters.codes].astype(int))))
            if draw + 1 == _LEAST and np.isnan(found[:_LEAST]).mean() > 0.5:
                return None  # undefined in most draws
        return found

    def interval(self, metric: Metric, estimate: float | None, size: int, confidence: float) -> tuple[float, float]:
        """(low, high) of the figure, NaN where there is none.

        Args:
            metric: the figure.
            estimate: its value on all clips.
            size: distinct clips.
            confidence: nominal coverage.
        """
        drawn = None if estimate is None else self.of(metric)
        if drawn is None:
            return float("nan"), float("nan")
        return _interval_of(metric, estimate, drawn, (self.clusters.number, size), confidence)


def _interval_of(
    metric: Metric, estimate: float, drawn: np.ndarray, counts: tuple[int, int], confidence: float
) -> tuple[float, float]:
    """(low, high) from draws: on the log-odds scale for a share, the log scale for a mean of positive terms.

    `counts`: of clusters, and of clips.
    """
    clusters, size = counts
    if metric.terms is not None:
        return intervals.positive(estimate, drawn, clusters, confidence)
    drawn = drawn[np.isfinite(drawn)]
    if metric.unit == "percent" and len(drawn) and min(estimate, drawn.min()) >= 0 and max(estimate, drawn.max()) <= 1:
        return intervals.bounded(estimate, drawn, clusters, size, confidence)
    return intervals.unbounded(estimate, drawn, clusters, confidence)
