"""`serfuse layers`: accuracy of each layer of an encoder."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .progress import Progress
from .store_place import STORE

if TYPE_CHECKING:
    from serfuse.runs.layer_study import LayerStudy


@click.command()
@click.option("--encoder", required=True, metavar="NAME", help="With selectors as in cv: hubert@pooling=time.")
@click.option("--corpus", help="Corpus of the store; needed when it holds several.")
@click.option("--store", type=STORE, help="Embedding store [$SERFUSE_STORE or serfuse-store].")
@click.option("--head", default="svm", show_default=True, metavar="MODEL", help="A model of one representation.")
@click.option("--split", default="loso", show_default=True, help="loso, speaker, random ...")
@click.option("--folds", type=int, help="For splits that take a number.  [5]")
@click.option("--seed", type=int, help="Decides folds, initial weights, shuffling.  [0]")
@click.option("--metric", default="accuracy", show_default=True, help="Or uar, macro_f1, log_loss ...")
@click.option("--nested", is_flag=True, help="Also choose the layer inside each training part; four times the work.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the runs [layers/<corpus>-<encoder>-...].")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
def command(
    encoder: str,
    corpus: str | None,
    store: str | Path | None,
    head: str,
    split: str,
    folds: int | None,
    seed: int | None,
    metric: str,
    nested: bool,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Cross-validate each layer of an encoder that the store holds, and draw its accuracy.

    \b
    serfuse extract --corpus emodb --data DIR --encoder hubert --layer all
    serfuse layers --corpus emodb --encoder hubert --nested

    Each layer is a run of its own; finished ones are not run again. The layer with the best test figure was picked by
    the clips that it is measured on: --nested says what an honest choice gives.
    """
    from serfuse.runs import layer_study
    from serfuse.store import EmbeddingStore

    with Progress(quiet=quiet or as_json) as progress:
        found = layer_study.study(
            EmbeddingStore(store),
            encoder,
            corpus,
            model=head,
            settings={"split": split, "folds": folds, "seed": seed},
            metric=metric,
            nested=nested,
            out=out,
            observer=progress,
        )
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else render(found))


def render(found: "LayerStudy") -> str:
    """The table and the sentence, as plain text."""
    from serfuse.metrics import METRICS

    from .compare import aligned, shown_p

    metric = METRICS.get(found.metric)
    percent = " in per cent" if metric.unit == "percent" else ""
    heads = ["layer", metric.title, "95 % interval", "behind the best", "95 % interval", "p"]
    rows = []
    for score in found.scores:
        behind = ["", "", ""]
        if score is not found.best:
            behind = [
                metric.shown(score.behind),
                metric.shown_range(score.behind_low, score.behind_high),
                shown_p(score.p),
            ]
        rows.append([str(score.layer), metric.shown(score.value), metric.shown_range(score.low, score.high), *behind])
    folder = Path(found.best.run).parent
    return "\n".join(
        [
            f"{found.model} on each layer of {found.encoder}, {found.corpus}, split {found.split}: "
            f"{metric.title}{percent}",
            "",
            *aligned(heads, rows),
            "",
            found.sentence(),
            *(f"WARNING: {text}" for text in found.warnings),
            f"Figure: {folder / 'layers.png'}",
        ]
    )
