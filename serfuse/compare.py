"""Is one run above another? Paired statistics over the predictions of several runs.

Three answers are given, because they answer different questions:

* the difference with a bootstrap over speakers: would it hold for other speakers like these, the trained models being
  what they are? This one decides.
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

from . import intervals, metrics
from .errors import RunError

if TYPE_CHECKING:
    import pandas as pd

METRICS = {"accuracy": "accuracy", "uar": "UAR", "macro_f1": "macro-F1", "weighted_f1": "weighted F1"}
"""Figures that runs can be compared by -> how they are called in sentences."""
_KEYS = ["repeat", "fold", "clip"]


@dataclass(frozen=True)
class RunScore:
    """One run's pooled figure with its interval."""

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


@dataclass(frozen=True)
class Comparison:
    """Several runs on the same clips and folds.

    Attributes:
        metric: a key of `METRICS`.
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

    def sentences(self) -> list[str]:
        """One plain sentence per pair, the better run first."""
        return [_sentence(pair, self) for pair in self.pairs]

    def to_dict(self) -> dict[str, Any]:
        """Everything, the sentences included, in types that JSON holds."""
        result = asdict(self)
        for key in ("runs", "pairs", "notes"):
            result[key] = list(result[key])
        result["sentences"] = self.sentences()
        return result


@dataclass(frozen=True)
class _Run:
    """Predictions sorted by repeat and clip; `parts` as in `folds.csv` where known."""

    name: str
    table: "pd.DataFrame"
    parts: "pd.DataFrame | None"
    classes: tuple[str, ...]
    speaker_kind: str


def compare(
    runs: Sequence["Path | str | pd.DataFrame"],
    *,
    metric: str = "accuracy",
    confidence: float = 0.95,
    names: Sequence[str] | None = None,
    speaker_kind: str | None = None,
    draws: int = intervals.DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compares runs that were tested on the same clips in the same folds.

    Args:
        runs: run folders, or tables of predictions (`clip`, `label`, `predicted`, and where known `speaker`, `fold`,
            `repeat`).
        metric: a key of `METRICS`.
        confidence: nominal coverage of the intervals; 1 - confidence is the level of the verdicts.
        names: what to call the runs; by default their folders' names.
        speaker_kind: what the speaker column holds; by default what the first run folder's configuration says.
        draws: bootstrap draws.
        seed: of the bootstrap.

    Raises:
        RunError: fewer than two runs, a run that cannot be read, or runs that were not tested on the same clips
            and folds; the message says which clip and which fold.
    """
    if metric not in METRICS:
        raise RunError(f"Unknown metric {metric!r}. Choose one of: {', '.join(METRICS)}.")
    if not 0 < confidence < 1:
        raise RunError(f"The confidence is {confidence}; expected a number between 0 and 1, such as 0.95.")
    if len(runs) < 2:
        raise RunError(f"{len(runs)} run given; a comparison needs at least two.")
    read = _named([_read(run, i) for i, run in enumerate(runs)], names)
    for other in read[1:]:
        _check_paired(read[0], other)

    first = read[0].table
    kind = speaker_kind or read[0].speaker_kind
    speakers = [None if value == "" else value for value in first["speaker"]]
    clusters = intervals.Clusters.of(speakers, first["clip"].tolist(), kind)
    size, classes = first["clip"].nunique(), read[0].classes
    weights = intervals.resample(clusters.number, draws, seed) if clusters.number > 1 else np.ones((2, 1))
    values, drawn = [], []
    for run in read:
        matrices = metrics.confusion_by_cluster(run.table["label"], run.table["predicted"], classes, clusters)
        values.append(float(metrics.scores(matrices.sum(axis=0))[metric]))
        flat = weights @ matrices.reshape(clusters.number, -1)
        drawn.append(metrics.scores(flat.reshape(len(weights), len(classes), len(classes)))[metric])

    scores = []
    for run, value, draw in zip(read, values, drawn, strict=True):
        low, high = intervals.bounded(value, draw, clusters.number, size, confidence)
        scores.append(RunScore(run.name, value, _defined(low), _defined(high)))
    pairs = []
    for i, j in combinations(range(len(read)), 2):
        a, b = read[i], read[j]
        low, high, p = intervals.difference(values[i] - values[j], drawn[i] - drawn[j], clusters.number, confidence)
        only_a, only_b = _discordant(a.table, b.table)
        t, rounds, p_t = _resampled_t(a, b, metric)
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
                p_mcnemar=mcnemar(only_a, only_b),
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


# --- reading and checking -----------------------------------------------------------------------------------


def _read(run: "Path | str | pd.DataFrame", place: int) -> _Run:
    import pandas as pd

    if isinstance(run, pd.DataFrame):
        return _run(f"run {place + 1}", run, None, "speaker", f"run {place + 1}")
    folder = Path(run)
    if folder.is_file():
        folder = folder.parent
    file = folder / "predictions.csv"
    if not file.is_file():
        raise RunError(
            f"{folder} is no finished run: it has no predictions.csv. Give a folder that `serfuse cv` wrote."
        )
    parts_file = folder / "folds.csv"
    parts = _csv(parts_file) if parts_file.is_file() else None
    if parts is not None:
        _need(parts, ["repeat", "fold", "clip", "part"], str(parts_file))
        for column in ("repeat", "fold"):
            parts[column] = _whole(parts[column], column, str(parts_file))
    return _run(folder.name, _csv(file), parts, _speaker_kind(folder), str(file))


def _csv(path: Path) -> "pd.DataFrame":
    """A table of strings: speaker "03" must not become 3, nor a clip called "NA" missing."""
    import pandas as pd

    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' own errors of reading are ValueErrors
        raise RunError(f"{path} cannot be read: {error}") from error


def _speaker_kind(folder: Path) -> str:
    import yaml

    try:
        found = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        return str(found["corpus"]["speaker_kind"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return "speaker"


def _need(table: "pd.DataFrame", columns: Sequence[str], where: str) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise RunError(f"{where} has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.")


def _whole(column: "pd.Series", name: str, where: str) -> "pd.Series":
    try:
        return column.astype(float).astype(int)
    except ValueError as error:
        raise RunError(f"{where}: the column {name!r} holds something that is no number ({error}).") from error


def _run(name: str, table: "pd.DataFrame", parts: "pd.DataFrame | None", kind: str, where: str) -> _Run:
    _need(table, ["clip", "label", "predicted"], where)
    if table.empty:
        raise RunError(f"{where} holds no predictions.")
    clean = table[["clip", "label", "predicted"]].astype(str)
    for column in ("repeat", "fold"):
        clean[column] = _whole(table[column], column, where) if column in table.columns else 0
    if "speaker" in table.columns:
        clean["speaker"] = table["speaker"].astype(object).where(table["speaker"].notna(), "").astype(str)
    else:
        clean["speaker"] = ""
    clean = clean.sort_values(["repeat", "clip"], kind="stable").reset_index(drop=True)
    twice = clean.duplicated(["repeat", "clip"])
    if twice.any():
        clip = clean.loc[twice.idxmax(), "clip"]
        raise RunError(f"{where}: clip {clip!r} is predicted more than once in one repeat; expected once.")
    named = [str(c)[2:] for c in table.columns if str(c).startswith("p_")]
    classes = tuple(sorted({*named, *clean["label"], *clean["predicted"]}))
    return _Run(name, clean, parts, classes, kind)


def _named(runs: list[_Run], names: Sequence[str] | None) -> list[_Run]:
    chosen = [run.name for run in runs] if names is None else list(names)
    if len(chosen) != len(runs):
        raise RunError(f"{len(chosen)} names for {len(runs)} runs; expected one for each.")
    if len(set(chosen)) < len(chosen):
        chosen = [f"{name} ({i + 1})" if chosen.count(name) > 1 else name for i, name in enumerate(chosen)]
    return [_Run(name, r.table, r.parts, r.classes, r.speaker_kind) for name, r in zip(chosen, runs, strict=True)]


_SAME = "Run both with the same corpus, --split, --folds and --seed."


def _check_paired(a: _Run, b: _Run) -> None:
    """Refuses two runs that were not tested on the same clips in the same folds, saying where they part."""
    keys = ["repeat", "clip"]
    both = a.table.merge(b.table, on=keys, how="outer", indicator=True, suffixes=("_a", "_b"), sort=True)
    alone = both[both["_merge"] != "both"]
    if len(alone):
        row = alone.iloc[0]
        where, other = (a, b) if row["_merge"] == "left_only" else (b, a)
        fold = int(row["fold_a"] if row["_merge"] == "left_only" else row["fold_b"])
        raise RunError(
            f"The runs were not tested on the same clips: {row['clip']!r} (repeat {row['repeat']}, fold {fold}) is "
            f"tested in {where.name!r} but not in {other.name!r}; so are {len(alone)} predictions in all. {_SAME}"
        )
    moved = both[both["fold_a"] != both["fold_b"]]
    if len(moved):
        row = moved.iloc[0]
        raise RunError(
            f"The runs were not tested in the same folds: clip {row['clip']!r} (repeat {row['repeat']}) is tested in "
            f"fold {int(row['fold_a'])} of {a.name!r} and in fold {int(row['fold_b'])} of {b.name!r}; {len(moved)} of "
            f"{len(both)} predictions differ so. {_SAME}"
        )
    for column, what in (("label", "label"), ("speaker", "speaker")):
        differ = both[both[f"{column}_a"] != both[f"{column}_b"]]
        if len(differ):
            row = differ.iloc[0]
            raise RunError(
                f"The runs disagree on the {what} of {len(differ)} clips: {row['clip']!r} is {row[f'{column}_a']!r} in "
                f"{a.name!r} and {row[f'{column}_b']!r} in {b.name!r}. {_SAME}"
            )
    if a.classes != b.classes:
        raise RunError(
            f"The runs do not know the same classes: {', '.join(a.classes)} in {a.name!r}, {', '.join(b.classes)} in "
            f"{b.name!r}."
        )
    if a.parts is not None and b.parts is not None:
        _check_training(a, b)


def _check_training(a: _Run, b: _Run) -> None:
    """Training and validation together must be the same: how they share it is the model's affair."""
    fit = [run.parts.loc[run.parts["part"] != "test", _KEYS] for run in (a, b)]
    both = fit[0].merge(fit[1], on=_KEYS, how="outer", indicator=True, sort=True)
    alone = both[both["_merge"] != "both"]
    if len(alone):
        row = alone.iloc[0]
        where, other = (a, b) if row["_merge"] == "left_only" else (b, a)
        raise RunError(
            f"The runs were not trained on the same clips: in fold {row['fold']} (repeat {row['repeat']}) clip "
            f"{row['clip']!r} is in the training part of {where.name!r} but not of {other.name!r}; {len(alone)} places "
            f"differ so. {_SAME}"
        )


# --- tests --------------------------------------------------------------------------------------------------


def mcnemar(only_a: int, only_b: int) -> float:
    """p of McNemar's exact test for clips that only one of two runs gets right."""
    from statsmodels.stats.contingency_tables import mcnemar as exact

    # The agreeing cells do not enter the exact test.
    return min(float(exact([[0, only_a], [only_b, 0]], exact=True).pvalue), 1.0)


def corrected_resampled_t(differences: Sequence[float], ratio: float) -> tuple[float | None, float | None]:
    """(t, p) of the corrected resampled t-test (Nadeau and Bengio 2003).

    The variance of the mean of J differences is (1 / J + n_test / n_train) times their variance, since the training
    sets of the rounds overlap; plain 1 / J finds differences far too often.

    Args:
        differences: one per round (fold of a repeat).
        ratio: n_test / n_train.

    Returns:
        `(None, None)` for fewer than two rounds, or for equal differences that are not 0; `(0, 1)` where all are 0.
    """
    from scipy import stats

    values = np.asarray(differences, dtype=float)
    rounds = len(values)
    if rounds < 2:
        return None, None
    spread = float(np.var(values, ddof=1))
    if spread < 1e-24:
        return (0.0, 1.0) if abs(values.mean()) < 1e-12 else (None, None)
    t = float(values.mean() / np.sqrt((1 / rounds + ratio) * spread))
    return t, 2 * float(stats.t.sf(abs(t), rounds - 1))


def _resampled_t(a: _Run, b: _Run, metric: str) -> tuple[float | None, int, float | None]:
    """(t, rounds, p) over the folds of all repeats.

    Repeats that test the very same folds again (leave one speaker out) are no further rounds; they are averaged.
    """
    rounds: dict[frozenset[str], list[float]] = {}
    tests, trains = [], []
    sizes = _training_sizes(a)
    for (repeat, fold), part in a.table.groupby(["repeat", "fold"], sort=True):
        other = b.table.loc[part.index]
        value = _score(part, a.classes, metric) - _score(other, a.classes, metric)
        rounds.setdefault(frozenset(part["clip"]), []).append(value)
        tests.append(len(part))
        trains.append(sizes[repeat, fold])
    if min(trains) == 0:
        return None, len(rounds), None
    t, p = corrected_resampled_t([float(np.mean(v)) for v in rounds.values()], float(np.mean(tests) / np.mean(trains)))
    return t, len(rounds), p


def _training_sizes(run: _Run) -> Mapping[tuple[int, int], int]:
    if run.parts is not None:
        train = run.parts[run.parts["part"] == "train"]
        return train.groupby(["repeat", "fold"]).size().to_dict()
    tested = run.table.groupby(["repeat", "fold"]).size()
    whole = run.table.groupby("repeat").size()
    return {key: int(whole[key[0]] - number) for key, number in tested.items()}


def _score(table: "pd.DataFrame", classes: Sequence[str], metric: str) -> float:
    one = intervals.Clusters(np.zeros(len(table), dtype=int), 1, "fold")
    matrix = metrics.confusion_by_cluster(table["label"], table["predicted"], classes, one)[0]
    return float(metrics.scores(matrix)[metric])


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
    if pair.same == 1:
        return f"{pair.a} and {pair.b} give the same predictions for all {whole.clips} clips."
    above, below, sign = (pair.a, pair.b, 1) if pair.difference >= 0 else (pair.b, pair.a, -1)
    relation = "is level with" if pair.difference == 0 else "is above"
    points = f" by {100 * abs(pair.difference):.1f} points" if pair.difference else ""
    if pair.p is None or pair.low is None or pair.high is None:
        return f"{above} {relation} {below}{points} of {METRICS[whole.metric]}; one cluster gives no interval."
    low, high = sorted((sign * pair.low, sign * pair.high))
    interval = f"({100 * whole.confidence:g} % interval {100 * low:.1f} to {100 * high:.1f})"
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
    return f"{above} {relation} {below}{points} {interval}: {verdict}."


def _notes(
    runs: Sequence[_Run],
    pairs: Sequence[Pair],
    clusters: intervals.Clusters,
    confidence: float,
    kind: str,
    repeats: int,
) -> list[str]:
    notes = [metrics.interval_note(clusters, confidence, kind)]
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


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
