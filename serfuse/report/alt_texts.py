"""What each figure shows in words, for those who hear the page."""

from ..runs import sentences
from . import charts
from .runs import ReportedRun
from .sentences import interval, percent


def intervals(runs: list[ReportedRun]) -> str:
    """Of `charts.intervals`."""
    shown = "; ".join(
        f"{run.title} on {run.inputs}, {run.split}: {percent(run.metrics['pooled']['accuracy'])} "
        f"({interval(run.metrics['intervals']['accuracy'])})"
        for run in runs[:12]
    )
    more = f"; and {len(runs) - 12} more, in the table above" if len(runs) > 12 else ""
    return f"Accuracy of every run in per cent with its 95 % interval. {shown}{more}"


def confusion(run: ReportedRun) -> str:
    """Of `charts.confusion`: the share of each emotion that is found, and what it is most often taken for."""
    matrix = run.metrics["pooled"]["confusion"]
    parts = []
    for number, name in enumerate(run.classes):
        total = sum(matrix[number])
        if not total:
            continue
        others = {other: count for other, count in zip(run.classes, matrix[number], strict=True) if other != name}
        part = f"{name} is found in {matrix[number][number] / total:.0%}"
        if any(others.values()):
            part += f" and most often taken for {max(others, key=lambda other: others[other])}"
        parts.append(part)
    return f"Confusion matrix, each row in per cent of the true emotion: {'; '.join(parts)}"


def tsne(run: ReportedRun) -> str:
    """Of `charts.tsne` by emotion."""
    return f"t-SNE of the {run.shown}, {len(run.points)} test clips of one fold, coloured by emotion"


def tsne_by_speaker(run: ReportedRun) -> str:
    """Of `charts.tsne` by speaker."""
    if "speaker" in run.points and run.points["speaker"].nunique() == 1:
        return f"The same points coloured by {run.speaker_kind}: the fold that is drawn tests a single one"
    return f"The same points coloured by {run.speaker_kind}: clusters of one colour and shape show what leaks"


def curves(run: ReportedRun) -> str:
    """Of `charts.curves`."""
    if run.history.empty:
        return ""
    middle = run.history.groupby("epoch")["loss"].median()
    text = f"Cross-entropy per epoch and fold: in training the median falls from {middle.iloc[0]:.2f}"
    if middle.iloc[-1] > middle.iloc[0]:
        text = text.replace("falls", "goes")
    return f"{text} to {middle.iloc[-1]:.2f} within {len(middle)} epochs"


def layers(run: ReportedRun) -> str:
    """Of `charts.layers`."""
    return " ".join(sentences.layers(run.metrics))


def speakers(run: ReportedRun) -> str:
    """Of `charts.speakers`."""
    right = charts.per_speaker(run)
    if right.empty:
        return ""
    ends = [f"{100 * right['mean'].iloc[place]:.0f} % ({right.index[place]})" for place in (0, -1)]
    return f"Accuracy of each {run.speaker_kind}, from {ends[0]} to {ends[1]}"
