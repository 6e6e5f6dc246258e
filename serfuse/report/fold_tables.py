"""The figures of one run over folds, and fold by fold with what each fold shares."""

from typing import Any

from ..metrics import LOSSES, SCORES
from .runs import ReportedRun
from .sentences import interval, percent

_COUNTS = (
    ("train", "train"),
    ("validation", "validation"),
    ("test", "test"),
    ("shared_speakers", "{speaker}s shared"),
    ("shared_texts", "texts shared"),
    ("repeated", "other takes"),
    ("identical", "identical audio"),
)


def _figure(name: str, value: float | None) -> str:
    """Scores and the calibration error in per cent, log loss as it is."""
    if value is None:
        return "-"
    return f"{value:.3f}" if name == "log_loss" else percent(value)


def _range(name: str, bounds: dict[str, float | None]) -> str:
    if name != "log_loss" or bounds.get("low") is None:
        return interval(bounds)
    return f"{bounds['low']:.3f} to {bounds['high']:.3f}"


def titles() -> list[str]:
    """Headings of the figures."""
    return [SCORES.get(name).title for name in SCORES] + [LOSSES.get(name).title for name in LOSSES]


def summary(run: ReportedRun) -> list[list[str]]:
    """Mean, standard deviation, pooled value and interval: a name, then a cell for each of `titles`."""
    names = (*SCORES, *LOSSES)
    rows = [
        [title, *(_figure(name, run.metrics[part].get(name)) for name in names)]
        for title, part in (("mean over folds", "mean"), ("standard deviation", "std"), ("all clips pooled", "pooled"))
    ]
    bounds = run.metrics["intervals"]
    return [*rows, ["its 95 % interval", *(_range(name, bounds.get(name, {})) for name in names)]]


def heads(run: ReportedRun) -> list[str]:
    """Headings of `rows`."""
    return ["fold", *(title.format(speaker=run.speaker_kind) for _, title in _COUNTS), *titles()]


def rows(run: ReportedRun) -> list[list[str]]:
    """A row for each fold: clips, what stands on both sides, figures."""
    audits: list[dict[str, Any]] = run.metrics["audit"]["folds"]
    several = len({fold["repeat"] for fold in run.metrics["folds"]}) > 1
    found = []
    for fold, audit in zip(run.metrics["folds"], audits, strict=True):
        counts = ["?" if audit[name] is None else str(audit[name]) for name, _ in _COUNTS]
        label = f"{fold['repeat']}.{fold['fold']}" if several else str(fold["fold"])
        found.append([label, *counts, *(_figure(name, fold.get(name)) for name in (*SCORES, *LOSSES))])
    return found
