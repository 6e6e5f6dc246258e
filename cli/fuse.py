"""`serfuse fuse`: late fusion of finished runs."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN ...", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Run folder [runs/<corpus>-late-...-fused].")
@click.option("--weights", metavar="W,W ...", help="Weights of the runs, such as 2,1,1.  [all alike]")
@click.option("--overwrite", is_flag=True, help="Replace a finished run in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON and nothing else.")
def command(runs: tuple[Path, ...], out: Path | None, weights: str | None, overwrite: bool, as_json: bool) -> None:
    """Join finished runs by the geometric mean of their probabilities. Nothing is trained.

    \b
    serfuse cv --head svm --a ge2e --split loso
    serfuse cv --head svm --a prosody --split loso
    serfuse fuse runs/emodb-svm-ge2e-* runs/emodb-svm-prosody-* -o runs/both

    The runs must have been tested on the same clips in the same folds (same corpus, split, folds and seed). What comes
    out is a run like any other, to compare and report. `serfuse cv --fusion late` gives the same by training.
    """
    from serfuse.runs.fuse import fuse

    from .cv import show

    found = fuse(list(runs), out, weights=_numbers(weights), overwrite=overwrite)
    if as_json:
        click.echo(json.dumps({"run": str(found.folder), **found.metrics}))
        return
    show(found)
    click.echo(f"\nRun folder: {found.folder}")


def _numbers(text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of numbers, such as 2,1,1.", param_hint="--weights") from None
