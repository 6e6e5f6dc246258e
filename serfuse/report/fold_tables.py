"""The figures of one run over folds, and fold by fold with what each fold shares."""

from typing import Any

from ..metrics import METRICS, Metric, of_file
from .runs import ReportedRun

_COUNTS = (
    ("train", "train"),
    ("validation", "validation"),
    ("test", "test"),
    ("shared_speakers", "{speaker}s shared"),
    ("shared_texts", "texts shared"),
    ("repeated", "other takes"),
    ("identical", "identical audio"),
)


def figures(run: ReportedRun) -> list[Metric]:
    """What a run was measured by, serfuse's own figures first; further values that a file holds are left out."""
    numbers = [name for name, value in run.metrics["mean"].items() if value is None or isinstance(value, int | float)]
    return [of_file(name) for name in dict.fromkeys([*METRICS.serfuse_names(), *numbers])]


def units(run: ReportedRun) -> str:
    """What the numbers of `figures` are: `per cent; log loss as it is`."""
    plain = [metric.title for metric in figures(run) if metric.unit == "plain"]
    return f"per cent; {', '.join(plain)} as {'it is' if len(plain) == 1 else 'they are'}" if plain else "per cent"


def summary(run: ReportedRun) -> list[list[str]]:
    """Mean, standard deviation, pooled value and interval: a name, then a cell for each of `figures`."""
    found = figures(run)
    rows = [
        [title, *(metric.shown(run.metrics[part].get(metric.name)) for metric in found)]
        for title, part in (("mean over folds", "mean"), ("standard deviation", "std"), ("all clips pooled", "pooled"))
    ]
    bounds = [run.metrics["intervals"].get(metric.name, {}) for metric in found]
    ends = [metric.shown_range(one.get("low"), one.get("high")) for metric, one in zip(found, bounds, strict=True)]
    return [*rows, ["its 95 % interval", *ends]]


def heads(run: ReportedRun) -> list[str]:
    """Headings of `rows`."""
    return [
        "fold",
        *(title.format(speaker=run.speaker_kind) for _, title in _COUNTS),
        *(metric.title for metric in figures(run)),
    ]


def rows(run: ReportedRun) -> list[list[str]]:
    """A row for each fold: clips, what stands on both sides, figures."""
    audits: list[dict[str, Any]] = run.metrics["audit"]["folds"]
    several = len({fold["repeat"] for fold in run.metrics["folds"]}) > 1
    found, measured = [], figures(run)
    for fold, audit in zip(run.metrics["folds"], audits, strict=True):
        counts = ["?" if audit[name] is None else str(audit[name]) for name, _ in _COUNTS]
        label = f"{fold['repeat']}.{fold['fold']}" if several else str(fold["fold"])
        found.append([label, *counts, *(metric.shown(fold.get(metric.name)) for metric in measured)])
    return found
