"""Is one run above another? Paired statistics over the predictions of several runs.

Three answers are given, because they answer different questions:

* the difference with a bootstrap over speakers: would it hold for other speakers like these, the trained models being
  what they are? This one is the verdict, which says where the third does not confirm it.
* McNemar's exact test over clips: as if every clip were independent. It is what the field reports; where models
  differ from speaker to speaker it finds differences too often.
* the corrected resampled t-test over folds and repeats (Nadeau and Bengio 2003): would it hold for other training sets
  and seeds?
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import metrics
from ..errors import RunError
from ..metrics import intervals, paired_tests
from . import paired_runs
from .paired_runs import PairedRun
from .run import Run

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunScore:
    """One run's pooled figure with its interval: those of its `metrics.json`, where it is a run that has them."""

    name: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Pair:
    """One run against another; differences are `a` minus `b`, between -1 and 1.

    Attributes:
        a: name of the one run.
        b: name of the other.
        difference: of the pooled figure.
        low: lower end of its interval.
        high: upper end.
        p: of the bootstrap over speakers; below 1 - confidence exactly where the interval leaves out 0. `None`
            with one cluster only.
        only_a: clips (of the first repeat) that only `a` gets right.
        only_b: clips (of the first repeat) that only `b` gets right.
        same: share of the predictions that are the same in both.
        p_mcnemar: exact McNemar test of `only_a` against `only_b`.
        t: statistic of the corrected resampled t-test; `None` with fewer than two folds, or folds that do not differ.
        rounds: number of differences that go into it.
        p_t: its p.
        holm: the three p adjusted for the number of pairs: "p", "p_mcnemar", "p_t".
    """

    a: str
    b: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    only_a: int
    only_b: int
    same: float
    p_mcnemar: float
    t: float | None
    rounds: int
    p_t: float | None
    holm: dict[str, float | None]

    def confirmed(self, level: float) -> bool:
        """Whether both tests tell the runs apart, the bootstrap over speakers and the corrected t-test over folds.

        The bootstrap takes the trained models as they are. Those of several folds share most of their training clips,
        so that their errors hang together: between two models that know nothing, the bootstrap alone finds differences
        more often than its level says (`benchmarks/noise.py`; Bengio and Grandvalet, "No unbiased estimator of the
        variance of K-fold cross-validation", JMLR 5, 2004). The t-test allows for that. A claim needs both.

        Args:
            level: of each test, such as 0.05.
        """
        return all(p is not None and p < level for p in (self.p, self.p_t))


@dataclass(frozen=True)
class Comparison:
    """Several runs on the same clips and folds.

    Attributes:
        metric: a name of `serfuse.metrics.METRICS`.
        confidence: nominal coverage of the intervals.
        runs: in the order given.
        pairs: every run with every later one.
        clips: distinct tested clips.
        repeats: how often each is tested.
        clusters: how many clusters were drawn from.
        unit: what a cluster is: "speaker", "voice type", or "clip" where speakers are unknown.
        notes: what a reader must know.
    """

    metric: str
    confidence: float
    runs: tuple[RunScore, ...]
    pairs: tuple[Pair, ...]
    clips: int
    repeats: int
    clusters: int
    unit: str
    notes: tuple[str, ...]

    @property
    def best(self) -> str:
        """The name of the run with the best figure, the first of equals."""
        sign = 1 if metrics.METRICS.get(self.metric).higher_is_better else -1
        return max(self.runs, key=lambda run: sign * run.value).name

    def pairs_of(self, name: str) -> list[Pair]:
        """The pairs that a run is in."""
        return [pair for pair in self.pairs if name in (pair.a, pair.b)]

    def sentences(self, pairs: Sequence[Pair] | None = None) -> list[str]:
        """One plain sentence per pair (by default of all), the better run first."""
        return [_sentence(pair, self) for pair in (self.pairs if pairs is None else pairs)]

    def to_dict(self) -> dict[str, Any]:
        """Everything, the sentences included, in types that JSON holds."""
        result = asdict(self)
        for key in ("runs", "pairs", "notes"):
            result[key] = list(result[key])
        result["sentences"] = self.sentences()
        return result


def compare(
    runs: Sequence["Run | Path | str | pd.DataFrame"],
    *,
    metric: str = "accuracy",
    confidence: float = 0.95,
    names: Sequence[str] | None = None,
    against: Sequence[str | Path] | None = None,
    speaker_kind: str | None = None,
    draws: int = intervals.DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compares runs that were tested on the same clips in the same folds.

    Args:
        runs: runs, their folders, or tables of predictions (`clip`, `label`, `predicted`, and where known `speaker`,
            `fold`, `repeat`).
        metric: a name of `serfuse.metrics.METRICS`.
        confidence: nominal coverage of the intervals; 1 - confidence is the level of the verdicts.
        names: what to call the runs; by default their folders' names.
        against: runs that the others are compared with, by name or by their folder; by default every run with every
            other.
        speaker_kind: what the speaker column holds; by default what the first run folder's configuration says.
        draws: bootstrap draws.
        seed: of the bootstrap.

    Raises:
        RunError: fewer than two runs, a run that cannot be read, or runs that were not tested on the same clips
            and folds, or did not hear the same recordings; the message says which clip and which fold.
    """
    figure = metrics.METRICS.get(metric)
    if not figure.interval:
        raise RunError(f"{figure.title} has no interval, so runs cannot be compared by it. Choose another metric.")
    if not 0 < confidence < 1:
        raise RunError(f"The confidence is {confidence}; expected a number between 0 and 1, such as 0.95.")
    if len(runs) < 2:
        raise RunError(f"{len(runs)} run given; a comparison needs at least two.")
    read = paired_runs.named([paired_runs.read(run, i) for i, run in enumerate(runs)], names)
    others = None if against is None else {_named(one, read) for one in against}
    for later in read[1:]:
        paired_runs.check(read[0], later)

    first = read[0].table
    kind = speaker_kind or read[0].speaker_kind
    speakers = [None if value == "" else value for value in first["speaker"]]
    clusters = intervals.Clusters.of(speakers, first["clip"].tolist(), kind)
    size = first["clip"].nunique()
    boots = [metrics.Bootstrap(_tested(run, run.table, figure), clusters, draws, seed) for run in read]
    values = [_value(figure, run, boot.tested) for run, boot in zip(read, boots, strict=True)]
    # The same draws for every run; `None` where the figure of so many clips would take too long.
    drawn = [boot.of(figure) for boot in boots]

    scores = []
    for run, value, boot in zip(read, values, boots, strict=True):
        low, high = _own_interval(figure, run, confidence) or boot.interval(figure, value, size, confidence)
        scores.append(RunScore(run.name, value, _defined(low), _defined(high)))
    pairs = []
    for i, j in combinations(range(len(read)), 2):
        a, b = read[i], read[j]
        if others is not None and not {a.name, b.name} & others:
            continue
        low, high, p = _difference(figure, values[i] - values[j], drawn[i], drawn[j], clusters.number, confidence)
        only_a, only_b = _discordant(a.table, b.table)
        t, rounds, p_t = _resampled_t(a, b, figure)
        pairs.append(
            Pair(
                a=a.name,
                b=b.name,
                difference=values[i] - values[j],
                low=_defined(low),
                high=_defined(high),
                p=_defined(p),
                only_a=only_a,
                only_b=only_b,
                same=float((a.table["predicted"].to_numpy() == b.table["predicted"].to_numpy()).mean()),
                p_mcnemar=paired_tests.mcnemar(only_a, only_b),
                t=t,
                rounds=rounds,
                p_t=p_t,
                holm={},
            )
        )
    pairs = _holm(pairs)
    repeats = int(first["repeat"].nunique())
    return Comparison(
        metric=metric,
        confidence=confidence,
        runs=tuple(scores),
        pairs=tuple(pairs),
        clips=size,
        repeats=repeats,
        clusters=clusters.number,
        unit=clusters.unit,
        notes=tuple(_notes(read, pairs, clusters, confidence, kind, repeats)),
    )


def _named(wanted: str | Path, runs: Sequence[PairedRun]) -> str:
    """The name of a run that is meant by its name or its folder.

    Raises:
        RunError: there is none.
    """
    names = [run.name for run in runs]
    if str(wanted) in names:
        return str(wanted)
    place = Path(wanted).resolve()
    for run in runs:
        if run.run is not None and run.run.folder.resolve() == place:
            return run.name
    raise RunError(f"There is no run {str(wanted)!r} to compare with. The runs are: {', '.join(names)}.")


def _tested(run: PairedRun, table: "pd.DataFrame", metric: metrics.Metric) -> metrics.Tested:
    """Predictions of a run, or of a part of it; probabilities only where the metric needs them.

    Raises:
        RunError: it needs some and the run has none.
    """
    rows = None
    if metric.needs == "probabilities":
        rows = metrics.probability_columns(table, run.classes)
        if rows is None:
            raise RunError(f"{metric.title} needs probabilities, and the predictions of {run.name} hold none.")
    return metrics.tested_on(table["label"], table["predicted"], rows, run.classes)


def _value(metric: metrics.Metric, run: PairedRun, tested: metrics.Tested) -> float:
    """The pooled figure, as the run's own file has it where there is one: printed twice, it is the same number.

    Raises:
        RunError: it is not defined, or the file says something else than the predictions.
    """
    found = metrics.value(metric, tested)
    if not np.isfinite(found):
        raise RunError(f"{metric.title} is not defined for the predictions of {run.name}.")
    kept = None if run.run is None else run.run.metrics["pooled"].get(metric.name)
    if kept is None:
        return found
    if abs(kept - found) > 1e-9 * max(1.0, abs(found)):
        raise RunError(
            f"{run.run.folder} is not a whole run folder: the {metric.title} of predictions.csv is {found}, "
            f"metrics.json says {kept}. Run it again."
        )
    return kept


def _own_interval(metric: metrics.Metric, run: PairedRun, confidence: float) -> tuple[float, float] | None:
    """The interval that the run's own file has, `None` where it has none of this confidence."""
    if run.run is None or run.run.metrics["interval"].get("confidence") != confidence:
        return None
    ends = run.run.metrics["intervals"].get(metric.name)
    if ends is None or metric.name not in run.run.metrics["pooled"]:
        return None
    return tuple(float("nan") if ends[end] is None else ends[end] for end in ("low", "high"))


def _difference(
    metric: metrics.Metric,
    estimate: float,
    a: np.ndarray | None,
    b: np.ndarray | None,
    clusters: int,
    confidence: float,
) -> tuple[float, float, float]:
    """(low, high, p); NaN where there are no draws."""
    if a is None or b is None:
        return float("nan"), float("nan"), float("nan")
    draws = a - b
    largest = 1.0 if metric.unit == "percent" else np.inf
    return intervals.difference(estimate, draws[np.isfinite(draws)], clusters, confidence, largest)


# --- tests --------------------------------------------------------------------------------------------------


def _resampled_t(a: PairedRun, b: PairedRun, metric: metrics.Metric) -> tuple[float | None, int, float | None]:
    """(t, rounds, p) over the folds of all repeats.

    Repeats that test the very same folds again (leave one speaker out) are no further rounds; they are averaged.
    """
    rounds: dict[frozenset[str], list[float]] = {}
    tests, trains = [], []
    sizes, others = _training_sizes(a), _training_sizes(b)
    for (repeat, fold), part in a.table.groupby(["repeat", "fold"], sort=True):
        other = b.table.loc[part.index]
        value = metrics.quick_value(metric, _tested(a, part, metric)) - metrics.quick_value(
            metric, _tested(b, other, metric)
        )
        if not np.isfinite(value):
            continue  # not defined for a fold that lacks classes
        rounds.setdefault(frozenset(part["clip"]), []).append(value)
        tests.append(len(part))
        # Their inner validation parts may differ; the smaller training part makes the more careful test.
        trains.append(min(sizes.get((repeat, fold), 0), others.get((repeat, fold), 0)))
    if min(trains, default=0) == 0:
        return None, len(rounds), None
    t, p = paired_tests.corrected_resampled_t(
        [float(np.mean(v)) for v in rounds.values()], float(np.mean(tests) / np.mean(trains))
    )
    return t, len(rounds), p


def _training_sizes(run: PairedRun) -> Mapping[tuple[int, int], int]:
    if run.parts is not None:
        train = run.parts[run.parts["part"] == "train"]
        return train.groupby(["repeat", "fold"]).size().to_dict()
    tested = run.table.groupby(["repeat", "fold"]).size()
    whole = run.table.groupby("repeat").size()
    return {key: int(whole[key[0]] - number) for key, number in tested.items()}


def _discordant(a: "pd.DataFrame", b: "pd.DataFrame") -> tuple[int, int]:
    """Clips of the first repeat that only the one, only the other gets right."""
    first = (a["repeat"] == a["repeat"].min()).to_numpy()
    right_a = (a["predicted"] == a["label"]).to_numpy()[first]
    right_b = (b["predicted"] == b["label"]).to_numpy()[first]
    return int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())


def _holm(pairs: list[Pair]) -> list[Pair]:
    from statsmodels.stats.multitest import multipletests

    adjusted: list[dict[str, float | None]] = [{} for _ in pairs]
    for name in ("p", "p_mcnemar", "p_t"):
        known = [i for i, pair in enumerate(pairs) if getattr(pair, name) is not None]
        found = [getattr(pairs[i], name) for i in known]
        # One pair needs no adjustment. With many, statsmodels collects garbage, which takes a large process a second.
        if len(found) > 1:
            found = multipletests(found, method="holm")[1]
        for place in adjusted:
            place[name] = None
        for i, value in zip(known, found, strict=True):
            adjusted[i][name] = float(value)
    return [Pair(**{**asdict(pair), "holm": holm}) for pair, holm in zip(pairs, adjusted, strict=True)]


# --- sentences ----------------------------------------------------------------------------------------------


def _sentence(pair: Pair, whole: Comparison) -> str:
    level = f"{100 * (1 - whole.confidence):.3g} %"
    metric = metrics.METRICS.get(whole.metric)
    if pair.same == 1 and metric.needs == "predictions":
        return f"{pair.a} and {pair.b} give the same predictions for all {whole.clips} clips."
    # The better run first.
    ahead = pair.difference >= 0 if metric.higher_is_better else pair.difference <= 0
    better, other, sign = (pair.a, pair.b, 1) if ahead else (pair.b, pair.a, -1)
    relation = "is above" if metric.higher_is_better else "is below"
    if pair.difference == 0:
        relation = "is level with"
    unit = " points" if metric.unit == "percent" else ""
    by = f" by {metric.shown(abs(pair.difference))}{unit}" if pair.difference else ""
    if pair.p is None or pair.low is None or pair.high is None:
        of = f" {'of' if metric.unit == 'percent' else 'in'} {metric.title}"
        why = "one cluster gives no interval" if metric.of_counts or whole.clusters < 2 else "there is no interval"
        return f"{better} {relation} {other}{by}{of}; {why}."
    direction = sign if metric.higher_is_better else -sign
    low, high = sorted((direction * pair.low, direction * pair.high))
    interval = f"({100 * whole.confidence:g} % interval {metric.shown_range(low, high)})"
    adjusted = pair.holm["p"]
    alpha = 1 - whole.confidence
    if adjusted is not None and adjusted < alpha:
        verdict = f"distinguishable at {level}"
        if len(whole.pairs) > 1:
            verdict += f", also after Holm's correction for {len(whole.pairs)} pairs"
    elif pair.p < alpha:
        verdict = f"distinguishable at {level} alone, but not after Holm's correction for {len(whole.pairs)} pairs"
    else:
        verdict = f"not distinguishable at {level}"
    if pair.p < alpha and not pair.confirmed(alpha):
        verdict += "; the corrected t-test, which knows that the folds' training parts overlap, does not confirm it"
    return f"{better} {relation} {other}{by} {interval}: {verdict}."


def _notes(
    runs: Sequence[PairedRun],
    pairs: Sequence[Pair],
    clusters: intervals.Clusters,
    confidence: float,
    kind: str,
    repeats: int,
) -> list[str]:
    notes = [f"WARNING: {text}" for text in [*_warnings(runs), *paired_runs.heard(runs)]]
    notes.append(metrics.interval_note(clusters, confidence, kind))
    if clusters.unit != "clip":
        notes.append(
            f"McNemar's test counts clips as independent; where the runs differ from {kind} to {kind} it finds "
            f"differences too often. The verdict is the interval's."
        )
    if repeats > 1:
        notes.append(f"McNemar's test uses the first of {repeats} repeats.")
    if any(pair.p_t is None for pair in pairs):
        notes.append("The corrected resampled t-test needs at least two folds whose differences are not all alike.")
    elif runs[0].parts is None:
        notes.append("No folds.csv: the t-test takes every clip outside a fold as its training clip.")
    return notes


def _warnings(runs: Sequence[PairedRun]) -> list[str]:
    """What holds for all runs once, anything else with the names of the runs before it."""
    names: dict[str, list[str]] = {}
    for paired in runs:
        for text in paired.run.warnings() if paired.run else []:
            names.setdefault(text, []).append(paired.name)
    return [text if len(of) == len(runs) else f"{', '.join(of)}: {text}" for text, of in names.items()]


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
