"""The figures of the page, as SVG text."""

import io
import re
import warnings
from typing import Any

import numpy as np
import pandas as pd

from ..runs.figures import COLOURS, draw_confusion, draw_layers, draw_tsne, new_figure, own_style, plain
from .runs import ReportedRun

# On a phone a figure is some 340 pixels wide: with a width of 4.8 inches a letter of 9 points has 9 pixels there.
_WIDTH = 4.8
_CURVES = (("loss", "training"), ("val_loss", "inner validation"))
_MOST_CLASSES = 40
_MOST_POINTS = 5000


@own_style()
def svg(figure: Any) -> str:
    """A matplotlib figure as SVG, the same text for the same figure, its letters as shapes."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.hashsalt": "serfuse", "svg.fonttype": "path"}), warnings.catch_warnings():
        # A name in letters that the font lacks is drawn as boxes; the page's text has it right.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        figure.savefig(out, format="svg", metadata={"Date": None})
    # The XML declaration and the document type have no place inside a page.
    return re.sub(r"\A.*?(?=<svg)", "", out.getvalue(), flags=re.DOTALL)


def apart(drawn: str, prefix: str) -> str:
    """The same SVG with a prefix before each of its ids, which must not meet those of another figure of a page."""
    drawn = re.sub(r'(\sid=")', rf"\g<1>{prefix}", drawn)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", drawn)


@own_style()
def intervals(runs: list[ReportedRun]) -> str:
    """Accuracy of every run with its interval, and the printed one as a cross; the names stand above the lines."""
    figure = new_figure(_WIDTH, 0.8 + 0.42 * len(runs))
    axes = figure.add_subplot()
    places = np.arange(len(runs))[::-1]
    for place, run in zip(places, runs, strict=True):
        value, bounds = run.metrics["pooled"]["accuracy"], run.metrics["intervals"]["accuracy"]
        if bounds["low"] is not None:
            axes.plot([100 * bounds["low"], 100 * bounds["high"]], [place, place], color=COLOURS[0], linewidth=2.5)
        axes.plot(100 * value, place, "o", color=COLOURS[0], markersize=6)
        chance = 100 / len(run.classes)  # corpora differ in their number of emotions
        axes.plot([chance, chance], [place - 0.3, place + 0.18], color="grey", linestyle=":", linewidth=1.2)
        for row in run.published:
            axes.plot(row.accuracy, place, "x", color=COLOURS[3], markersize=8, markeredgewidth=2)
        name = plain(f"{run.title}: {run.inputs} ({run.split})", 66)
        axes.text(0, place + 0.22, name, transform=axes.get_yaxis_transform(), ha="left", va="bottom", fontsize=9)
    axes.set_yticks([])
    axes.set_ylim(-0.6, len(runs) - 0.2)
    axes.set_xlim(0, 100)
    axes.set_xlabel("accuracy in per cent")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return svg(figure)


@own_style()
def confusion(run: ReportedRun) -> str | None:
    """Row-normalised confusion matrix; `None` where nobody could read it."""
    if len(run.classes) > _MOST_CLASSES:
        return None
    return svg(draw_confusion(run.predictions, run.classes, small=True))


@own_style()
def tsne(run: ReportedRun, by: str) -> str | None:
    """t-SNE of a fold's test clips, coloured by emotion ("label") or "speaker"; `None` where the run has no points."""
    if run.points.empty or by not in run.points or run.points[by].isna().all():
        return None
    points = run.points.dropna(subset=[by])
    points = points.iloc[:: -(-len(points) // _MOST_POINTS)]
    return svg(draw_tsne(points, run.classes, by=by, kind=run.speaker_kind if by == "speaker" else "", small=True))


@own_style()
def curves(run: ReportedRun) -> str | None:
    """Loss over epochs: thin lines per fold, the median of the folds still training in bold."""
    if run.history.empty:
        return None
    figure = new_figure(_WIDTH, 3.0)
    axes = figure.add_subplot()
    history = run.history
    for number, (column, label) in enumerate(_CURVES):
        if column not in history:
            continue
        # A late fusion of networks has several in a fold.
        for _, fold in history.groupby(["repeat", "fold", *(["network"] if "network" in history else [])]):
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


@own_style()
def layers(run: ReportedRun) -> str | None:
    """What the layers of an encoder weigh; `None` where no input has several."""
    weights = run.metrics.get("layer_weights")
    return svg(draw_layers(weights, small=True)) if weights else None


def per_speaker(run: ReportedRun) -> pd.DataFrame:
    """`mean`, the share of each speaker's clips that are right, and `size`, sorted; empty where no speaker is known."""
    table = run.predictions.dropna(subset=["speaker"])
    right = (table["label"] == table["predicted"]).groupby(table["speaker"].astype(str)).agg(["mean", "size"])
    return right.sort_values("mean", kind="stable")


@own_style()
def speakers(run: ReportedRun) -> str | None:
    """Accuracy of each speaker, sorted; the dashed line is the accuracy over all clips."""
    right = per_speaker(run)
    if right.empty:
        return None
    shown = right if len(right) <= 30 else pd.concat([right.head(15), right.tail(15)])
    figure = new_figure(_WIDTH, 1.0 + 0.2 * len(shown))
    axes = figure.add_subplot()
    axes.barh(range(len(shown)), 100 * shown["mean"], color=COLOURS[5], height=0.7)
    names = [f"{plain(name)} ({size})" for name, size in shown["size"].items()]
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.axvline(100 * run.metrics["pooled"]["accuracy"], color=COLOURS[3], linestyle="--", linewidth=1.5)
    axes.set_xlim(0, 100)
    more = "" if len(right) == len(shown) else f"\nthe 15 lowest and highest of {len(right)}"
    axes.set_xlabel(f"accuracy in per cent; in brackets: clips{more}")
    axes.spines[["top", "right"]].set_visible(False)
    return svg(figure)
