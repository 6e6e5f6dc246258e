"""The table of a report as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Callable

from ..models import INPUTS
from . import escaping, fold_tables
from .runs import ReportedRun
from .sentences import data, gaps, interval, percent, printed, printed_note

HEADS = ("corpus", "model", "representations", "split", "accuracy", "std", "pooled 95 %", "macro-F1", "UAR", "printed")


def rows(runs: list[ReportedRun]) -> list[list[str]]:
    """One row per run, as `HEADS`: means over folds in per cent, the interval of the pooled accuracy."""
    return [
        [
            run.corpus + (" (synthetic)" if run.synthetic else ""),
            run.title,
            run.inputs + "".join(f" ({name}: random weights)" for name in run.random_weights),
            run.split,
            percent(run.metrics["mean"]["accuracy"]),
            percent(run.metrics["std"]["accuracy"]),
            interval(run.metrics["intervals"]["accuracy"]),
            percent(run.metrics["mean"]["macro_f1"]),
            percent(run.metrics["mean"]["uar"]),
            printed(run),
        ]
        for run in runs
    ]


def markdown(runs: list[ReportedRun]) -> str:
    """A Markdown table, with the sentences under it."""

    def line(cells: list[str] | tuple[str, ...]) -> str:
        return escaping.markdown_row([escaping.markdown(cell) for cell in cells])

    rule = line(["---"] * 4 + ["---:"] * 5 + ["---"])
    lines = [line(HEADS), rule, *(line(row) for row in rows(runs)), ""]
    notes = [f"{run.name}: {text}" for run in runs for text in run.warnings()]
    notes += [*data(runs), *gaps(runs), *filter(None, [printed_note(runs)])]
    notes += [f"{run.name}: {run.audit[0]}" for run in runs]
    lines += [f"- {escaping.markdown(note)}" for note in notes]
    return "\n".join(lines) + "\n"


def comma_separated(runs: list[ReportedRun]) -> str:
    """CSV with fractions in full precision, for further computing."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    figures = dict.fromkeys(metric.name for run in runs for metric in fold_tables.figures(run))
    sides = INPUTS[: max(2, *(len(run.encoders) for run in runs))]
    heads = ["run", "corpus", "synthetic", "model", *sides, "random_weights"]
    heads += ["split", "folds", "repeats", "seed", "clips"]
    heads += [f"{name}_{what}" for name in figures for what in ("mean", "std", "pooled", "low", "high")]
    classes = sorted({name for run in runs for name in run.classes})
    heads += [f"{what}_{name}" for name in classes for what in ("support", "recall")]
    heads += ["printed_accuracy", "printed_macro_f1", "printed_in"]
    writer.writerow([escaping.spreadsheet(head) for head in heads])
    for run in runs:
        keys = run.encoders + [""] * (len(sides) - len(run.encoders))
        cells = [run.name, run.corpus, run.synthetic, run.model, *keys]
        cells += [" ".join(run.random_weights), run.split]
        cells += [len(run.metrics["folds"]), run.description.split.repeats, run.description.seed]
        cells.append(run.metrics["pooled"]["clips"])
        for name in figures:
            bounds = run.metrics["intervals"].get(name, {})
            cells += [_number(run.metrics[part].get(name)) for part in ("mean", "std", "pooled")]
            cells += [bounds.get("low"), bounds.get("high")]
        for name in classes:
            one = run.metrics["pooled"]["per_class"].get(name, {})
            cells += [one.get("support"), one.get("recall")]
        for values in (
            [row.accuracy for row in run.published],
            [row.macro_f1 for row in run.published],
            [f"{row.paper} table {row.table}" for row in run.published],
        ):
            cells.append("; ".join(map(str, values)))  # a model may stand in both papers
        writer.writerow(["" if cell is None else escaping.spreadsheet(cell) for cell in cells])
    return out.getvalue()


def _number(value: object) -> float | None:
    """A figure of a metric that only the run's file knows may be anything."""
    return value if isinstance(value, int | float) else None


def latex(runs: list[ReportedRun]) -> str:
    """A `booktabs` table; the caption says what the figures are."""
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering", r"\begin{tabular}{llllrrlrrl}"]
    lines += [r"\toprule", " & ".join(escaping.latex(head) for head in HEADS) + r" \\", r"\midrule"]
    lines += [" & ".join(escaping.latex(cell) for cell in row) + r" \\" for row in rows(runs)]
    notes = dict.fromkeys(run.metrics["interval"]["note"] for run in runs)
    found = [f"{run.name}: {text}" for run in runs for text in run.warnings()] + data(runs)
    caption = " ".join(
        [
            "Means and standard deviations over folds, in per cent; the interval is that of all held-out clips.",
            *notes,
            *filter(None, [printed_note(runs)]),
            *found,
        ]
    )
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{escaping.latex(caption)}}}", r"\end{table}"]
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[list[ReportedRun]], str]] = {".md": markdown, ".csv": comma_separated, ".tex": latex}
"""What a file's name ends in -> how it is written; `.html` is `page.render`."""
