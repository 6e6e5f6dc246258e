"""What follows from the candidates' runs: standings of the families, a winner, and one sentence."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..runs.compare import Comparison, Pair, compare
from ..store import EmbeddingStore
from . import choice
from .candidates import CONCATENATION, SINGLE, Candidate
from .study import Study

if TYPE_CHECKING:
    import pandas as pd

ANY = "any"
"""The family of every candidate: what this function does."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Standing:
    """How one family does on held-out clips when its member is chosen inside each training part.

    Attributes:
        family: "single", "concatenation", "late" ..., or "any".
        value: the pooled figure.
        low: lower end of its interval, `None` where there is none.
        high: upper end.
        chosen: how many of the choices fell on which candidate, the most frequent first.
        against_single: this family minus the best single representation, chosen alike; `None` for that itself.
        against_concatenation: this family minus concatenation; `None` for that itself, and where it was not tried.
    """

    family: str
    value: float
    low: float | None
    high: float | None
    chosen: dict[str, int]
    against_single: Pair | None
    against_concatenation: Pair | None


@dataclass(frozen=True)
class Tried:
    """One candidate's own cross-validation: unbiased by itself, too good for the best of many.

    Attributes:
        candidate: what was run.
        value: the pooled figure of its held-out predictions.
        run: its run folder.
        seconds: what it took now, 0 where it was there.
    """

    candidate: Candidate
    value: float
    run: Path
    seconds: float


@dataclass(frozen=True)
class Recommendation:
    """What to use, and why.

    Attributes:
        corpus: name in the store.
        metric: name of the figure.
        standings: of the families, the best first.
        tried: the candidates, the best first.
        unfinished: names of candidates for which the stated time was too short.
        failed: names of candidates that could not be trained, with the reason.
        winner: what to use.
        gain: whether choosing among all candidates is above choosing among single representations, at 5 %.
        clips: distinct tested clips.
        clusters: how many speakers (or clips, where speakers are unknown) the intervals rest on.
        unit: what a cluster is.
        blocks: how many choices were made.
        command: the `serfuse cv` command of the winner.
        sentence: all of it in one sentence.
        notes: what a reader must know.
    """

    corpus: str
    metric: str
    standings: tuple[Standing, ...]
    tried: tuple[Tried, ...]
    unfinished: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    winner: Candidate
    gain: bool
    clips: int
    clusters: int
    unit: str
    blocks: int
    command: str
    sentence: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON holds."""
        found = asdict(self)
        found["winner"] = {**asdict(self.winner), "name": self.winner.name}
        found["tried"] = [
            {"name": item.candidate.name, "value": item.value, "run": str(item.run), "seconds": round(item.seconds, 3)}
            for item in self.tried
        ]
        found["failed"] = [{"name": name, "reason": reason} for name, reason in self.failed]
        return found


def conclude(
    study: Study, listed: Sequence[Candidate], figure: metrics.Metric, store: EmbeddingStore
) -> Recommendation:
    """Choose inside each training part, compare what follows, and word it.

    Args:
        study: after its run.
        listed: the candidates, the simplest first.
        figure: what is chosen by.
        store: where the embeddings are.
    """
    ran = [candidate for candidate in listed if candidate in study.runs]
    scores = {item: choice.scores(figure, study.dataset, study.blocks, study.inside[item]) for item in ran}
    predictions = {item: study.runs[item].predictions for item in ran}
    families: dict[str, list[Candidate]] = {}
    for item in ran:
        families.setdefault(item.family, []).append(item)
    families[ANY] = ran
    chosen = {family: choice.choose(members, scores) for family, members in families.items()}
    tables = {family: choice.held_out(picks, study.blocks, predictions) for family, picks in chosen.items()}
    against = [family for family in (SINGLE, CONCATENATION) if family in tables]
    comparison = compare(
        list(tables.values()),
        metric=figure.name,
        confidence=CONFIDENCE,
        names=list(tables),
        against=against,
        speaker_kind=study.dataset.speaker_kind,
    )
    standings = _standings(comparison, chosen, figure)
    values = {item: _value(predictions[item], study.dataset.classes, figure) for item in ran}
    by_value = sorted(ran, key=lambda item: values[item], reverse=figure.higher_is_better)
    best = next(standing for standing in standings if standing.family == ANY)
    gain = _is_gain(best.against_single, figure)
    winner = next(item for item in by_value if (item.family != SINGLE) == gain)
    return Recommendation(
        corpus=study.dataset.corpus,
        metric=figure.name,
        standings=tuple(standings),
        tried=tuple(Tried(item, values[item], study.runs[item].folder, study.seconds[item]) for item in by_value),
        unfinished=tuple(item.name for item in study.unfinished),
        failed=tuple((item.name, reason) for item, reason in study.failed),
        winner=winner,
        gain=gain,
        clips=comparison.clips,
        clusters=comparison.clusters,
        unit=comparison.unit,
        blocks=len(study.blocks),
        command=winner.command(study.dataset.corpus, study.settings, store),
        sentence=_sentence(winner, best, gain, figure),
        notes=tuple(_notes(study, comparison)),
    )


def _value(table: "pd.DataFrame", classes: Sequence[str], figure: metrics.Metric) -> float:
    probabilities = metrics.probability_columns(table, classes)
    return metrics.quick_value(
        figure, metrics.tested_on(table["label"], table["predicted"], probabilities, list(classes))
    )


def _standings(
    comparison: Comparison, chosen: Mapping[str, Sequence[Candidate]], figure: metrics.Metric
) -> list[Standing]:
    """The families, the best first."""
    found = []
    for score in comparison.runs:
        counts = Counter(item.name for item in chosen[score.name])
        found.append(
            Standing(
                score.name,
                score.value,
                score.low,
                score.high,
                dict(counts.most_common()),
                _pair(comparison, score.name, SINGLE),
                _pair(comparison, score.name, CONCATENATION),
            )
        )
    return sorted(found, key=lambda standing: standing.value, reverse=figure.higher_is_better)


def _pair(comparison: Comparison, family: str, other: str) -> Pair | None:
    """The family minus the other, whichever way the comparison has it."""
    for pair in comparison.pairs:
        if (pair.a, pair.b) == (family, other):
            return pair
        if (pair.b, pair.a) == (family, other):
            return _turned(pair)
    return None


def _turned(pair: Pair) -> Pair:
    ends = [None if end is None else 0.0 - end for end in (pair.high, pair.low)]  # 0.0 - 0.0 has no sign
    return replace(
        pair,
        a=pair.b,
        b=pair.a,
        difference=0.0 - pair.difference,
        low=ends[0],
        high=ends[1],
        only_a=pair.only_b,
        only_b=pair.only_a,
        t=None if pair.t is None else 0.0 - pair.t,
    )


def _is_gain(pair: Pair | None, figure: metrics.Metric) -> bool:
    """Whether a difference is for the better, and both tests tell it from none."""
    if pair is None or not pair.confirmed(1 - CONFIDENCE):
        return False
    return pair.difference > 0 if figure.higher_is_better else pair.difference < 0


def _sentence(winner: Candidate, best: Standing, gain: bool, figure: metrics.Metric) -> str:
    unit = " points" if figure.unit == "percent" else ""
    pair = best.against_single
    of = f"{figure.title} {figure.shown(best.value)}{' %' if figure.unit == 'percent' else ''}"
    by = "" if pair is None else figure.shown(pair.difference, sign=True) + unit
    if pair is not None and pair.low is not None:
        by += f" ({100 * CONFIDENCE:g} % interval {figure.shown_range(pair.low, pair.high)})"
    if gain:
        return (
            f"Use {winner.name}: choosing like this inside each training part gives {of} on clips that the choice "
            f"never saw, {by} against the best single representation chosen alike."
        )
    if pair is None or not best.chosen or pair.low is None:
        return f"Use {winner.name}: there is no interval that could show that a fusion is better."
    why = ""
    if pair.p is not None and pair.p < 1 - CONFIDENCE:
        why = "; the interval leaves out 0, but the corrected t-test over folds does not confirm it"
    return (
        f"Use {winner.name}: no fusion is shown to be better than the best single representation here. Choosing among "
        f"all candidates inside each training part gives {of}, {by} against choosing among single ones{why}."
    )


def _notes(study: Study, comparison: Comparison) -> list[str]:
    several = any(len(block.folds) > 1 for block in study.blocks)
    notes = [
        f"Standings: for each of {len(study.blocks)} "
        + ("groups of folds" if several else "folds")
        + " the member of a family was chosen by predictions for that part's training clips, made by models that saw "
        "none of it; what it says of the test clips is counted. 'any' is the best of all candidates, chosen alike.",
        "Candidates: each one's own cross-validation. The best of many looks better there than it is.",
    ]
    if study.dataset.left_out:
        clips = len({item["clip"] for item in study.dataset.left_out})
        notes.append(f"{clips} clips lack one of the representations and are left out of all candidates.")
    # What the comparison says of the other two tests is about figures that are not shown.
    return [*notes, *(note for note in comparison.notes if note.startswith(("WARNING", f"{100 * CONFIDENCE:g} %")))]
