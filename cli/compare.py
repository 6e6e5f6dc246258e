"""`serfuse compare`: is one run above another?"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from serfuse.runs.compare import Comparison

# Of so many runs every pair is shown; of more, those of the best run: ten runs have 45 pairs.
_EVERY_PAIR = 4


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN ...", type=click.Path(path_type=Path))
@click.option("--metric", default="accuracy", show_default=True, help="Or uar, macro_f1, weighted_f1, log_loss ...")
@click.option(
    "--against",
    multiple=True,
    metavar="RUN",
    help="Compare with this run only, a folder or the name of one that is given; several times for several.",
)
@click.option("--all", "every", is_flag=True, help="Show every pair, also of more than four runs.")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Coverage of the intervals.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on standard output.")
def command(
    runs: tuple[Path, ...], metric: str, against: tuple[str, ...], every: bool, confidence: float, as_json: bool
) -> None:
    """Say whether one run is above another.

    \b
    serfuse compare runs/*
    serfuse compare runs/* --against runs/emodb-svm-ge2e-loso-seed0

    RUN is a folder that `serfuse cv` wrote. The runs must have been tested on the same clips in the same folds
    (same corpus, split, folds and seed). For every pair: the difference with an interval from a bootstrap over
    speakers, McNemar's exact test, the corrected resampled t-test over folds, and each p after Holm's correction.
    Of more than four runs the pairs of the best one are shown, corrected for all pairs, since all were looked at to
    find it. Runs that are not finished are left out.
    """
    from serfuse.runs import compare

    finished = _finished(runs)
    given = {path.resolve() for path in finished} | {path.name for path in finished}
    finished += [Path(one) for one in against if one not in given and Path(one).resolve() not in given]
    found = compare.compare(finished, metric=metric, confidence=confidence, against=against or None)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, allow_nan=False, ensure_ascii=False))
        return
    click.echo(render(found, every=every or bool(against)))


def _finished(runs: Sequence[Path]) -> list[Path]:
    """The runs without those that are still to be finished, which are named."""
    left_out = [path for path in runs if (path / "config.yaml").exists() and not (path / "metrics.json").exists()]
    if left_out:
        names = ", ".join(map(str, left_out))
        click.echo(f"Left out, since not finished: {names}. The same `serfuse cv` command goes on with it.", err=True)
    return [path for path in runs if path not in left_out]


def render(found: "Comparison", *, every: bool = True) -> str:
    """Both tables and the sentences, as plain text; `every`: of all pairs, however many runs there are."""
    from serfuse.metrics import METRICS

    metric, level = METRICS.get(found.metric), f"{100 * found.confidence:g} %"
    percent = metric.unit == "percent"
    repeats = f", {found.repeats} repeats" if found.repeats > 1 else ""
    lines = [f"{metric.title}{' in per cent' if percent else ''} on {found.clips} clips{repeats}", ""]
    lines += aligned(
        ["run", metric.title, f"{level} interval"],
        [[run.name, metric.shown(run.value), metric.shown_range(run.low, run.high)] for run in found.runs],
    )
    shown = list(found.pairs) if every or len(found.runs) <= _EVERY_PAIR else found.pairs_of(found.best)
    rows = []
    for pair in shown:
        rows.append(
            [
                f"{pair.a} - {pair.b}",
                metric.shown(pair.difference, sign=True),
                metric.shown_range(pair.low, pair.high),
                shown_p(pair.p),
                f"{pair.only_a} : {pair.only_b}",
                shown_p(pair.p_mcnemar),
                shown_p(pair.p_t),
            ]
        )
        if len(found.pairs) > 1:
            holm = [shown_p(pair.holm[key]) for key in ("p", "p_mcnemar", "p_t")]
            rows.append(["  after Holm", "", "", holm[0], "", holm[1], holm[2]])
    heads = [
        "pair",
        "points" if percent else "difference",
        f"{level} interval",
        "p",
        "only one right",
        "p McNemar",
        "p t-test",
    ]
    lines += ["", *aligned(heads, rows), ""]
    if hidden := len(found.pairs) - len(shown):
        lines.append(
            f"Shown are the pairs of the best run, {found.best}; Holm's correction is for all {len(found.pairs)}. The "
            f"other {hidden}: --all. With another run: --against RUN."
        )
    lines += [*found.sentences(shown), "", *found.notes]
    return "\n".join(lines)


def aligned(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Columns as wide as what is in them: first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]

    def line(cells: list[str]) -> str:
        _, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        return "  ".join([cells[0].ljust(widths[0]), *others]).rstrip()

    return [line(heads), "  ".join("-" * width for width in widths), *map(line, rows)]


def shown_p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
