"""The table of a report as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Callable

from ..latex import escape
from ..metrics import LOSSES, SCORES
from .runs import Run
from .words import gaps, interval, percent, printed, warnings

HEADS = ("corpus", "model", "representations", "split", "accuracy", "std", "pooled 95 %", "macro-F1", "UAR", "printed")


def rows(runs: list[Run]) -> list[list[str]]:
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


def markdown(runs: list[Run]) -> str:
    """A Markdown table, with the sentences under it."""

    def line(cells: list[str] | tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    lines = [line(HEADS), line(["---"] * 4 + ["---:"] * 5 + ["---"]), *(line(row) for row in rows(runs)), ""]
    lines += [f"- {run.name}: {text}" for run in runs for text in warnings(run)]
    lines += [f"- {text}" for text in gaps(runs)]
    lines += [f"- {run.name}: {run.audit[0]}" for run in runs]
    return "\n".join(lines) + "\n"


def comma_separated(runs: list[Run]) -> str:
    """CSV with fractions in full precision, for further computing."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    figures = (*SCORES, *LOSSES)
    heads = ["run", "corpus", "synthetic", "model", "a", "b", "random_weights"]
    heads += ["split", "folds", "repeats", "seed", "clips"]
    heads += [f"{name}_{what}" for name in figures for what in ("mean", "std", "pooled", "low", "high")]
    writer.writerow([*heads, "printed_accuracy", "printed_macro_f1", "printed_in"])
    for run in runs:
        keys = [key["encoder"] for key in run.config["embeddings"].values()]
        cells = [run.name, run.corpus, run.synthetic, run.model, keys[0], keys[1] if len(keys) > 1 else ""]
        cells += [" ".join(run.random_weights), run.split]
        cells += [len(run.metrics["folds"]), run.config["split"]["repeats"], run.config["seed"]]
        cells.append(run.metrics["pooled"]["clips"])
        for name in figures:
            bounds = run.metrics["intervals"].get(name, {})
            cells += [run.metrics[part].get(name) for part in ("mean", "std", "pooled")]
            cells += [bounds.get("low"), bounds.get("high")]
        row = run.published[0] if run.published else None
        cells += [row.accuracy, row.macro_f1, f"{row.paper} table {row.table}"] if row else ["", "", ""]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return out.getvalue()


def latex(runs: list[Run]) -> str:
    """A `booktabs` table; the caption says what the figures are."""
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering", r"\begin{tabular}{llllrrlrrl}"]
    lines += [r"\toprule", " & ".join(escape(head) for head in HEADS) + r" \\", r"\midrule"]
    lines += [" & ".join(escape(cell) for cell in row) + r" \\" for row in rows(runs)]
    note = runs[0].metrics["interval"]["note"]
    caption = (
        f"Means and standard deviations over folds, in per cent; the interval is that of all held-out clips. {note}"
    )
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{escape(caption)}}}", r"\end{table}"]
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[list[Run]], str]] = {".md": markdown, ".csv": comma_separated, ".tex": latex}
"""What a file's name ends in -> how it is written; `.html` is `page.render`."""
