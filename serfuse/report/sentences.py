"""What a reader should take from several runs, in sentences."""

from ..metrics import METRICS
from ..published import results
from .runs import ReportedRun

# How much a split asks for, least first.
_MEANING = {
    "random": "new utterances of known speakers saying known sentences",
    "text": "known speakers saying new sentences",
    "speaker": "new speakers",
    "loso": "new speakers",
    "loso-all": "new speakers",
    "speaker-text": "new speakers saying new sentences",
    "cremad-tfds": "new speakers",
}


def percent(value: float | None) -> str:
    """`0.8066` -> `80.7`, as wherever else a share is shown."""
    return METRICS.get("accuracy").shown(value)


def interval(low_high: dict[str, float | None]) -> str:
    """`76.1 to 84.7`, or a dash where there is none."""
    return METRICS.get("accuracy").shown_range(low_high.get("low"), low_high.get("high"))


def gaps(runs: list[ReportedRun]) -> list[str]:
    """For every experiment that was run under several splits: what each split estimates, and how far they lie apart."""
    sentences = []
    for experiment in dict.fromkeys(run.experiment for run in runs):
        same = [run for run in runs if run.experiment == experiment]
        by_split = {run.split: run for run in same}
        if len(by_split) < 2:
            continue
        ranked = sorted(by_split.values(), key=lambda run: run.metrics["mean"]["accuracy"], reverse=True)
        easiest, parts = ranked[0], []
        for run in ranked:
            accuracy = run.metrics["mean"]["accuracy"]
            meaning = _MEANING.get(run.split, "clips of this split")
            if run.speaker_kind != "speaker":
                meaning = meaning.replace("speaker", run.speaker_kind)
            part = f"{percent(accuracy)} % under {run.split} ({meaning})"
            if run is not easiest:
                part += f", {100 * (easiest.metrics['mean']['accuracy'] - accuracy):.1f} points less"
            parts.append(part)
        sentences.append(
            f"{same[0].title} on {same[0].inputs}, {same[0].corpus}: {'; '.join(parts)}. The figure to quote is the "
            "one whose clips are as new to the model as those it will meet."
        )
    return sentences


def data(runs: list[ReportedRun]) -> list[str]:
    """For every corpus whose runs were not made with the same data: which differ, and in what."""
    found = []
    for corpus in dict.fromkeys(run.corpus for run in runs):
        first, *others = [run for run in runs if run.corpus == corpus]
        for run in others:
            pairs = [
                (what, *(getattr(one.description.digests, what) for one in (first, run)))
                for what in ("clips", "labels", "speakers", "texts", "recordings")
            ]
            differ = [what for what, one, other in pairs if None not in (one, other) and one != other]
            if differ:
                # The digest of the ids is in all others.
                what = "clips" if "clips" in differ else " and ".join(differ)
                found.append(
                    f"{run.name} was not made with the {what} of {first.name}: the data of {corpus} changed "
                    "in between, and their figures are not about the same thing."
                )
    return found


def printed(run: ReportedRun) -> str:
    """What the papers print, accuracy and macro-F1: `83.18 / 81.02 (HYFuse, Table 1)`, or a dash."""
    papers = results.sources()
    rows = [
        f"{row.accuracy:.2f} / {row.macro_f1:.2f} ({papers[row.paper].name}, Table {row.table})"
        for row in run.published
    ]
    return "; ".join(rows) or "-"


def printed_note(runs: list[ReportedRun]) -> str:
    """What the printed figures are, empty where there are none."""
    if not any(run.published for run in runs):
        return ""
    return (
        "Printed: accuracy / macro-F1 in the paper, the average of five random folds that mix speakers; its folds, "
        "seeds and intervals are not published."
    )
