"""`serfuse train`: the model of a finished run, trained on all clips, as one file."""

import json
import time
from pathlib import Path

import click

from .progress import Progress, duration
from .store_place import STORE


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The file to write [<name of the run>.serfuse].")
@click.option("--store", type=STORE, help="Embedding store [$SERFUSE_STORE or serfuse-store].")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print what is known of the model as JSON and nothing else.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(run: Path, out: Path | None, store: str | Path | None, overwrite: bool, as_json: bool, quiet: bool) -> None:
    """Train the model of a finished run on all of its clips, and keep it as one file.

    \b
    serfuse compare runs/*                       which one?
    serfuse train runs/emodb-fcn-prosody-loso-seed0 -o winner.serfuse
    serfuse predict winner.serfuse call.wav

    RUN is a folder that `serfuse cv` wrote. The settings and the embeddings are the run's; only the folds are gone:
    every clip is trained on, but for the part that early stopping looks at. What to expect of the model is what the
    run found, and the file keeps that with it.
    """
    from serfuse.prediction import training
    from serfuse.store import EmbeddingStore

    out = out or Path(f"{run.resolve().name}.serfuse")
    begun = time.monotonic()
    with Progress(quiet=quiet or as_json) as progress:
        made = training.train(run, EmbeddingStore(store), out, overwrite=overwrite, observer=progress)
    if as_json:
        click.echo(json.dumps({"file": str(out), **made.card.model_dump(mode="json")}))
        return
    card = made.card
    click.echo(
        f"{card.model} on {' + '.join(key.encoder for key in card.keys().values())}: trained on "
        f"{card.trained_on.clips} clips of {card.trained_on.corpus} in {duration(time.monotonic() - begun)}"
        f"{f', {card.trained_on.epochs} epochs' if card.trained_on.epochs else ''}."
    )
    for line in card.expectation():
        click.echo(line)
    click.echo(f"Kept in {out} ({out.stat().st_size / 1e6:.1f} MB)")
