"""The papers' two figures: row-normalised confusion matrices and t-SNE of what a model makes of the clips."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# Okabe and Ito's palette, told apart by colour-blind readers, with a marker per class so that print works too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LEGEND = 24  # values that a legend has room for
_NAME = 24  # letters of a name that a figure has room for
_SHARED_OUT = 300  # points of a t-SNE that are worth more than one thread; the coordinates are the same


def plain(name: Any, longest: int = _NAME) -> str:
    """A name as matplotlib shows it: one line of bounded length, in which "$" and a leading "_" mean nothing."""
    text = " ".join(str(name).split())
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    text = text.replace("$", r"\$")  # else two of them make a formula, or an error
    return f" {text}" if text.startswith("_") else text  # else it is left out of legends


@contextmanager
def own_style() -> Iterator[None]:
    """matplotlib's own settings for as long as something is drawn or saved, whatever the user's `matplotlibrc` says.

    A figure depends on what it shows and on nothing else; `text.usetex` would need programs that are not there. It
    serves as a decorator too. The user's settings are as before afterwards.
    """
    logger = logging.getLogger("matplotlib")  # of a cache folder that cannot be written, and the like
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        matplotlib = _matplotlib()
        own = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", matplotlib.MatplotlibDeprecationWarning)
            with matplotlib.rc_context(own):
                yield
    finally:
        logger.setLevel(level)


def _matplotlib() -> Any:
    """The package. It does not import under a `MPLBACKEND` that is unknown, which no figure here needs."""
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = backend
    return matplotlib


def new_figure(width: float, height: float) -> Any:
    """A figure on the Agg canvas: no display, no global pyplot state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@own_style()
def confusion(predictions: pd.DataFrame, classes: list[str], title: str, path: Path) -> None:
    """Write the figure of `draw_confusion` to a file."""
    draw_confusion(predictions, classes, title).savefig(path, dpi=130)


@own_style()
def draw_confusion(predictions: pd.DataFrame, classes: list[str], title: str = "", *, small: bool = False) -> Any:
    """Confusion matrix of all held-out clips, each row (true class) normalised to 100 %; counts in small print.

    `small`: for a page that is read on a phone as well, whose letters must not shrink below legibility.
    """
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(predictions["label"], predictions["predicted"], labels=classes)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    names = [plain(name) for name in classes]
    size = 1.3 + 0.5 * len(classes) if small else 2.4 + 0.75 * len(classes)
    size += 0.07 * max(0, max(map(len, names)) - 10)
    figure = new_figure(size + (0.0 if small else 0.8), size)
    axes = figure.add_subplot()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for row in range(len(classes)):
        for column in range(len(classes)):
            colour = "white" if shares[row, column] > 0.55 else "black"
            text = f"{100 * shares[row, column]:.0f}\n"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=11)
            axes.text(column, row, f"\n\n{counts[row, column]}", ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(range(len(classes)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if title:
        axes.set_title(title, fontsize=10, wrap=True, parse_math=False)
    if not small:  # the cells hold the figures
        bar = figure.colorbar(image, ax=axes, shrink=0.8)
        bar.set_label("share of the true class")
    return figure


@own_style()
def layers(weights: Mapping[str, Mapping[str, Any]], title: str, path: Path) -> None:
    """Write the figure of `draw_layers` to a file."""
    draw_layers(weights, title).savefig(path, dpi=130)


@own_style()
def draw_layers(weights: Mapping[str, Mapping[str, Any]], title: str = "", *, small: bool = False) -> Any:
    """What the layers of each encoder weigh: a bar for the mean over the folds, a dot for each fold.

    Args:
        weights: `layer_weights` of `metrics.json`.
        title: above all.
        small: as in `draw_confusion`.
    """
    figure = new_figure(4.8 if small else 6.4, (2.6 if small else 3.0) * len(weights) + 0.3)
    panels = np.atleast_1d(figure.subplots(len(weights)))
    for axes, (side, found) in zip(panels, weights.items(), strict=True):
        places = np.arange(len(found["layers"]))
        axes.bar(places, 100 * np.array(found["mean"]), color=COLOURS[5], width=0.75)
        for fold in found["folds"]:
            axes.plot(places, 100 * np.array(fold), ".", color=COLOURS[6], markersize=4, alpha=0.6)
        axes.axhline(100 / len(places), color=COLOURS[3], linestyle="--", linewidth=1.2)
        step = 1 + len(places) // 26
        axes.set_xticks(places[::step], found["layers"][::step])
        axes.set_xlabel(
            f"layer of {plain(found['encoder'])} (input {side}); dots: folds; dashed: all alike", fontsize=9
        )
        axes.set_ylabel("weight in per cent")
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    if title:
        panels[0].set_title(title, fontsize=10, wrap=True, parse_math=False)
    return figure


@own_style()
def layer_scores(study: Any, path: Path) -> None:
    """Write a figure of each layer with its interval, and a line for what an honest choice gives.

    Args:
        study: a `LayerStudy`.
        path: of the picture.
    """
    from ..metrics import METRICS

    metric = METRICS.get(study.metric)
    times = 100 if metric.unit == "percent" else 1
    figure = new_figure(6.4, 4.0)
    axes = figure.add_subplot()
    for score in study.scores:
        if score.low is not None and score.high is not None:
            axes.plot([score.layer] * 2, [times * score.low, times * score.high], color=COLOURS[5], linewidth=2)
    places = [score.layer for score in study.scores]
    axes.plot(places, [times * score.value for score in study.scores], "o-", color=COLOURS[0], linewidth=1)
    if study.nested is not None:
        axes.axhline(times * study.nested.value, color=COLOURS[3], linestyle="--", linewidth=1.2)
    axes.xaxis.get_major_locator().set_params(integer=True)
    dashed = "; dashed: chosen inside each training part" if study.nested is not None else ""
    axes.set_xlabel(f"layer of {plain(study.encoder)} (bars: 95 % intervals{dashed})")
    axes.set_ylabel(f"{metric.title}{' in per cent' if times == 100 else ''}")
    title = f"{study.model} on each layer of {study.encoder}, {study.corpus}, split {study.split}"
    axes.set_title(title, fontsize=10, wrap=True, parse_math=False)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def project(features: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE of `(N, F)` to `(N, 2)`; with fewer than four clips there is nothing to embed and zeros come back."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(features) < 4 or not np.ptp(features):
        return np.zeros((len(features), 2), dtype="float32")
    perplexity = min(30.0, (len(features) - 1) / 3)
    # Steps over few points are too short for several threads, which on a busy machine wait for each other.
    with threadpool_limits(1 if len(features) < _SHARED_OUT else None, "openmp"):
        return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features.astype("float32"))


@own_style()
def tsne(points: pd.DataFrame, classes: list[str], title: str, path: Path, by: str = "label") -> None:
    """Write the figure of `draw_tsne` to a file."""
    draw_tsne(points, classes, title, by).savefig(path, dpi=130)


@own_style()
def draw_tsne(
    points: pd.DataFrame, classes: list[str], title: str = "", by: str = "label", *, kind: str = "", small: bool = False
) -> Any:
    """Scatter of `x, y` coloured by the column `by`, whose values are called `kind`; `small` as in `draw_confusion`."""
    figure = new_figure(4.8, 4.0) if small else new_figure(6.4, 5.2)
    axes = figure.add_subplot()
    values = classes if by == "label" else sorted(points[by].astype(str).unique())
    for number, value in enumerate(values):
        chosen = points[points[by].astype(str) == value]
        axes.scatter(
            chosen["x"],
            chosen["y"],
            s=22,
            label=plain(value),
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
            edgecolors="#333333",  # yellow is hard to see on white
            linewidths=0.3,
            alpha=0.85,
        )
    axes.set_xticks([])
    axes.set_yticks([])
    if title:
        axes.set_title(title, fontsize=10, wrap=True, parse_math=False)
    if len(values) > _LEGEND:  # 91 speakers: clusters say enough, and no legend could name them
        figure.text(0.99, 0.98, f"{len(values)} {kind or by}s", ha="right", va="top", fontsize=9)
        return figure
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    return figure
