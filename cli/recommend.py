"""`serfuse recommend`: which representations and which fusion to use on a corpus."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .progress import Progress
from .store_place import STORE

if TYPE_CHECKING:
    from serfuse.metrics import Metric
    from serfuse.recommendation.verdict import Recommendation
    from serfuse.runs.compare import Pair

_SHOWN = 12


@click.command()
@click.option("--corpus", help="Corpus of the store; needed when it holds several.")
@click.option("--store", type=STORE, help="Embedding store [$SERFUSE_STORE or serfuse-store].")
@click.option(
    "--input", "inputs", multiple=True, metavar="ENCODER", help="Only these, 2 to 8; with selectors as in cv."
)
@click.option("--fusion", "fusions", multiple=True, metavar="MODEL", help="Only these fusions.")
@click.option("--split", default="loso", show_default=True, help="loso, speaker, random ...")
@click.option("--folds", type=int, default=5, show_default=True, help="For splits that take a number.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides folds, initial weights, shuffling.")
@click.option("--metric", default="accuracy", show_default=True, help="Or uar, macro_f1, log_loss ...")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0),
    default=10,
    show_default=True,
    help="After this no further fusion is begun; the same command with more goes on.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the runs [recommendations/<corpus>-<split>].")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
def command(
    corpus: str | None,
    store: str | Path | None,
    inputs: tuple[str, ...],
    fusions: tuple[str, ...],
    split: str,
    folds: int,
    seed: int,
    metric: str,
    minutes: float,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Say which representations and which fusion to use on a corpus.

    \b
    serfuse recommend --corpus emodb
    serfuse recommend --corpus emodb --input ge2e --input prosody --minutes 60

    Every representation that the store holds is tried alone, then fusions of all of them and of pairs. Of a store with
    more than eight, --input names those that count; none is left out unasked. What is best is
    chosen anew inside each training part, by models that saw nothing of what is tested there; the standings count what
    that choice says of the test clips, so they do not grow with the number of things tried.
    """
    from serfuse.recommendation import recommend as recommending
    from serfuse.recommendation.candidates import FUSIONS
    from serfuse.store import EmbeddingStore

    with Progress(quiet=quiet or as_json) as progress:
        found = recommending.recommend(
            EmbeddingStore(store),
            corpus,
            inputs=inputs,
            split=split,
            folds=folds,
            seed=seed,
            metric=metric,
            fusions=fusions or FUSIONS,
            budget=60 * minutes,
            out=out,
            observer=progress,
        )
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else render(found))


def render(found: "Recommendation") -> str:
    """The standings, the candidates and the sentence, as plain text."""
    from serfuse.metrics import METRICS

    from .compare import aligned

    metric = METRICS.get(found.metric)
    percent = " in per cent" if metric.unit == "percent" else ""
    lines = [f"{found.corpus}: {metric.title}{percent} on {found.clips} clips", ""]
    heads = ["chosen inside each training part", metric.title, "95 % interval"]
    heads += ["- single", "p", "Holm", "- concat.", "p", "Holm"]
    rows = [
        [
            standing.family,
            metric.shown(standing.value),
            metric.shown_range(standing.low, standing.high),
            *_against(metric, standing.against_single),
            *_against(metric, standing.against_concatenation),
        ]
        for standing in found.standings
    ]
    lines += [*aligned(heads, rows), ""]
    tried = [[item.candidate.name, metric.shown(item.value), str(item.run)] for item in found.tried[:_SHOWN]]
    lines += aligned(["candidate", metric.title, "run"], tried)
    if len(found.tried) > _SHOWN:
        lines.append(f"... and {len(found.tried) - _SHOWN} more, see --json.")
    for name, reason in found.failed:
        lines += ["", f"{name} could not be trained: {reason}"]
    if found.unfinished:
        total = len(found.tried) + len(found.failed) + len(found.unfinished)
        names = ", ".join(found.unfinished[:3]) + (" ..." if len(found.unfinished) > 3 else "")
        lines += ["", f"The stated time was too short for {len(found.unfinished)} of {total} candidates: {names}."]
        lines.append("The same command with more --minutes goes on where this one stopped.")
    return "\n".join([*lines, "", *found.notes, "", found.sentence, "", found.command])


def _against(metric: "Metric", pair: "Pair | None") -> list[str]:
    from .compare import shown_p

    if pair is None:
        return ["", "", ""]
    return [metric.shown(pair.difference, sign=True), shown_p(pair.p), shown_p(pair.holm["p"])]
