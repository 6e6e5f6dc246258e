"""The figures of the page, as SVG text."""

import io
import re
from typing import Any

import numpy as np
import pandas as pd

from ..figures import COLOURS, draw_confusion, draw_tsne, new_figure
from .runs import Run

_CURVES = (("loss", "loss", "training"), ("val_loss", "loss", "inner validation"))


def svg(figure: Any) -> str:
    """A matplotlib figure as SVG, the same text for the same figure, its letters as shapes."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.hashsalt": "serfuse", "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    # The XML declaration and the document type have no place inside a page.
    return re.sub(r"\A.*?(?=<svg)", "", out.getvalue(), flags=re.DOTALL)


def intervals(runs: list[Run]) -> str:
    """Accuracy of every run with its interval, and the printed one as a cross."""
    figure = new_figure(9.0, 0.9 + 0.36 * len(runs))
    axes = figure.add_subplot()
    places = np.arange(len(runs))[::-1]
    for place, run in zip(places, runs, strict=True):
        value, bounds = run.metrics["pooled"]["accuracy"], run.metrics["intervals"]["accuracy"]
        if bounds["low"] is not None:
            axes.plot([100 * bounds["low"], 100 * bounds["high"]], [place, place], color=COLOURS[0], linewidth=2.5)
        axes.plot(100 * value, place, "o", color=COLOURS[0], markersize=7)
        for row in run.published:
            axes.plot(row.accuracy, place, "x", color=COLOURS[3], markersize=8, markeredgewidth=2)
    axes.set_yticks(places, [f"{run.title}: {run.inputs} ({run.split})" for run in runs])
    axes.axvline(100 / len(runs[0].classes), color="grey", linestyle=":", linewidth=1)
    axes.set_xlabel("accuracy in per cent")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return svg(figure)


def confusion(run: Run) -> str:
    """Row-normalised confusion matrix."""
    return svg(draw_confusion(run.predictions, run.classes))


def tsne(run: Run, by: str) -> str | None:
    """The penultimate layer, coloured by emotion ("label") or "speaker"; `None` where the run has no points."""
    if run.points.empty or by not in run.points or run.points[by].isna().all():
        return None
    return svg(draw_tsne(run.points, run.classes, by=by))


def curves(run: Run) -> str | None:
    """Loss over epochs: thin lines per fold, the median of the folds still training in bold."""
    if run.history.empty or "loss" not in run.history:
        return None
    figure = new_figure(6.4, 3.6)
    axes = figure.add_subplot()
    history = run.history
    for number, (column, _, label) in enumerate(_CURVES):
        if column not in history:
            continue
        for _, fold in history.groupby(["repeat", "fold"]):
            axes.plot(fold["epoch"], fold[column], color=COLOURS[number], linewidth=0.8, alpha=0.45)
        middle = history.groupby("epoch")[column].median()
        style = "-" if number == 0 else "--"
        axes.plot(middle.index, middle, style, color=COLOURS[number], linewidth=2.5, label=f"{label} (median)")
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("cross-entropy")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return svg(figure)


def speakers(run: Run) -> str | None:
    """Accuracy of each speaker, sorted; the dashed line is the accuracy over all clips."""
    table = run.predictions.dropna(subset=["speaker"])
    if table.empty:
        return None
    right = (table["label"] == table["predicted"]).groupby(table["speaker"].astype(str)).agg(["mean", "size"])
    right = right.sort_values("mean")
    shown = right if len(right) <= 30 else pd.concat([right.head(15), right.tail(15)])
    figure = new_figure(6.4, 1.0 + 0.24 * len(shown))
    axes = figure.add_subplot()
    axes.barh(range(len(shown)), 100 * shown["mean"], color=COLOURS[5], height=0.7)
    axes.set_yticks(range(len(shown)), [f"{name} ({size})" for name, size in shown["size"].items()], fontsize=8)
    axes.axvline(100 * run.metrics["pooled"]["accuracy"], color=COLOURS[3], linestyle="--", linewidth=1.5)
    axes.set_xlim(0, 100)
    more = "" if len(right) == len(shown) else f"; the 15 lowest and highest of {len(right)}"
    axes.set_xlabel(f"accuracy in per cent ({run.speaker_kind}, clips{more})")
    axes.spines[["top", "right"]].set_visible(False)
    return svg(figure)
