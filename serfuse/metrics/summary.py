"""Figures of a whole cross-validation, with intervals."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RunError
from . import intervals
from .base import Metric, Tested
from .bootstrap import Bootstrap
from .evaluation import defined, evaluate, tested_on
from .probabilities import probability_columns
from .table import measured

if TYPE_CHECKING:
    import pandas as pd


def summarize(
    predictions: "pd.DataFrame",
    classes: Sequence[str],
    *,
    speaker_kind: str = "speaker",
    confidence: float = 0.95,
    draws: int = intervals.DRAWS,
    seed: int = 0,
    further: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure a cross-validation.

    Args:
        predictions: one row per held-out clip (and repeat): `clip`, `label`, `predicted`; `repeat`, `fold`,
            `speaker` and `p_<class>` where there are any.
        classes: all classes.
        speaker_kind: what the speaker column holds.
        confidence: nominal coverage of the intervals.
        draws: bootstrap draws.
        seed: of the bootstrap.
        further: metrics of other packages, by name, beside those of `serfuse.metrics.measured`.

    Returns:
        `folds`: `evaluate` of each fold with its `repeat` and `fold`; `mean` and `std` (n - 1) over all folds of
        all repeats, over those in which a figure is defined; `pooled`: `evaluate` of all held-out clips
        together; `repeats`: pooled figures of each repeat; `intervals`: for each pooled figure `low` and
        `high`, and under `per_class` those of each class's recall; `interval`: `confidence`, `clusters`,
        `unit`, `draws`, and `note`, a sentence that says what the interval is.

    Raises:
        RunError: as `evaluate`, or a column is missing.
    """
    for column in ("clip", "label", "predicted"):
        if column not in predictions.columns:
            raise RunError(f"The predictions have no column {column!r}; they have {', '.join(predictions.columns)}.")
    table = predictions.assign(
        repeat=predictions.get("repeat", 0),
        fold=predictions.get("fold", 0),
    )
    folds = [
        {"repeat": int(repeat), "fold": int(fold), **_evaluate(part, classes, further)}
        for (repeat, fold), part in table.groupby(["repeat", "fold"], sort=True)
    ]
    figures = measured(further)
    pooled = _evaluate(table, classes, further)
    repeats = []
    for repeat, part in table.groupby("repeat", sort=True):
        whole = _evaluate(part, classes, further)
        repeats.append({"repeat": int(repeat), **{metric.name: whole[metric.name] for metric in figures}})
    names = [metric.name for metric in figures]
    values = {name: [f[name] for f in folds if f[name] is not None] for name in names}
    speakers = table["speaker"].tolist() if "speaker" in table else None
    speakers = None if speakers is None else [None if _missing(s) else s for s in speakers]
    clusters = intervals.Clusters.of(speakers, table["clip"].tolist(), speaker_kind)
    return {
        "classes": [str(name) for name in classes],
        "folds": folds,
        "mean": {name: float(np.mean(v)) if v else None for name, v in values.items()},
        "std": {name: float(np.std(v, ddof=1)) if len(v) > 1 else None for name, v in values.items()},
        "pooled": pooled,
        "repeats": repeats,
        "intervals": _intervals(
            Bootstrap(_tested(table, classes), clusters, draws, seed),
            figures,
            pooled,
            table["clip"].nunique(),
            confidence,
        ),
        "interval": {
            "confidence": confidence,
            "clusters": clusters.number,
            "unit": clusters.unit,
            "draws": draws,
            "note": interval_note(clusters, confidence, speaker_kind),
        },
    }


def interval_note(clusters: intervals.Clusters, confidence: float, speaker_kind: str = "speaker") -> str:
    """Say in one sentence what an interval is."""
    level = f"{100 * confidence:g} % intervals"
    if clusters.unit == "clip":
        return (
            f"{level}: bootstrap over {clusters.number} clips, since the {speaker_kind}s are unknown or only one; "
            f"too narrow where {speaker_kind}s differ."
        )
    few = f" With so few {clusters.unit}s they are wide." if clusters.number < 6 else ""
    return f"{level}: bootstrap over {clusters.number} {clusters.unit}s.{few}"


def _missing(value: Any) -> bool:
    return value is None or value != value or value == ""


def _evaluate(table: "pd.DataFrame", classes: Sequence[str], further: Sequence[str]) -> dict[str, Any]:
    return evaluate(table["label"], table["predicted"], probability_columns(table, classes), classes, further)


def _tested(table: "pd.DataFrame", classes: Sequence[str]) -> Tested:
    return tested_on(table["label"], table["predicted"], probability_columns(table, classes), classes)


def _intervals(
    bootstrap: Bootstrap, figures: Sequence[Metric], pooled: Mapping[str, Any], size: int, confidence: float
) -> dict[str, Any]:
    def ends(low_high: tuple[float, float]) -> dict[str, float | None]:
        return {"low": defined(low_high[0]), "high": defined(low_high[1])}

    found: dict[str, Any] = {
        metric.name: ends(bootstrap.interval(metric, pooled[metric.name], size, confidence)) for metric in figures
    }
    found["per_class"] = {}
    clusters = bootstrap.clusters.number
    recalls = _recalls(bootstrap) if clusters > 1 else []
    for i, name in enumerate(bootstrap.tested.classes):
        recall, support = pooled["per_class"][name]["recall"], pooled["per_class"][name]["support"]
        if recall is None or clusters < 2:
            found["per_class"][name] = {"low": None, "high": None}
            continue
        values = recalls[:, i]
        found["per_class"][name] = ends(
            intervals.bounded(recall, values[~np.isnan(values)], clusters, support, confidence)
        )
    return found


def _recalls(bootstrap: Bootstrap) -> np.ndarray:
    """(draws, C); NaN in a draw without a clip of the class."""
    with np.errstate(invalid="ignore"):
        return np.concatenate([counts.right / counts.support for counts in bootstrap.counts()])
