"""`serfuse cv`: cross-validate one configuration and show what came out."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .progress import Progress
from .signals import terminated_like_interrupted

if TYPE_CHECKING:
    from rich.table import Table

    from serfuse.experiment.cross_validation import Result

_PAPERS = {"hyfuse": "HYFuse", "parrot": "PARROT"}


@click.command()
@click.option("--fusion", metavar="MODEL", help="A model of two representations: hyfuse-symmetric, parrot, concat ...")
@click.option("--head", metavar="MODEL", help="A model of one representation: cnn, fcn, svm ...")
@click.option("--a", metavar="ENCODER", help="First encoder; with selectors: hubert@pooling=time,layer=6.")
@click.option("--b", metavar="ENCODER", help="Second encoder, for --fusion.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="Start from this YAML file; also a run's config.yaml.",
)
@click.option("--store", type=click.Path(path_type=Path), help="Embedding store [$SERFUSE_STORE or serfuse-store].")
@click.option("--corpus", help="Corpus of the store; needed when it holds several.")
@click.option("--pool", help="Pooling of both embeddings; needed when the store holds several.")
@click.option("--split", help="random (the papers'), speaker, loso, text ...  [random]")
@click.option("--folds", type=int, help="Number of folds.  [5]")
@click.option("--repeats", type=int, help="Times the whole split is drawn anew.  [1]")
@click.option("--epochs", type=int, help="At most this many epochs.  [50]")
@click.option("--seed", type=int, help="Decides folds, initial weights, shuffling.  [0]")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any other key: options.kappa=1.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder [runs/<corpus>-<model>-...].")
@click.option("--overwrite", is_flag=True, help="Replace a finished run in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON and nothing else.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
def command(
    fusion: str | None,
    head: str | None,
    a: str | None,
    b: str | None,
    config_file: Path | None,
    store: Path | None,
    corpus: str | None,
    pool: str | None,
    split: str | None,
    folds: int | None,
    repeats: int | None,
    epochs: int | None,
    seed: int | None,
    assignments: tuple[str, ...],
    out: Path | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Cross-validate a classifier on stored embeddings.

    \b
    serfuse cv --fusion hyfuse-symmetric --a prosody --b soundstream-lyra
    serfuse cv --fusion parrot --a audiomamba-base --b hubert --split loso
    serfuse cv --head svm --a logmel --json

    The settings come from configs/<model>.yaml, or --config FILE; options given here go before the file's. The run
    folder keeps the configuration, folds, predictions, metrics, figures and models. An interrupted run goes on where
    it stopped when the same command is given again.
    """
    from serfuse import models
    from serfuse.errors import FolderInUseError
    from serfuse.experiment import backend
    from serfuse.experiment import config as configs

    values = _values(configs, fusion, head, config_file)
    flags: dict[str, Any] = {
        "data.a": a,
        "data.b": b,
        "data.corpus": corpus,
        "data.pooling": pool,
        "split.name": split,
        "split.folds": folds,
        "split.repeats": repeats,
        "training.epochs": epochs,
        "seed": seed,
    }
    values = configs.override(values, list(assignments))
    values = configs.assign(values, {key: value for key, value in flags.items() if value is not None})
    config = configs.from_dict(values)

    if models.get(config.model).library == "keras":
        backend.set_up_backend()
    from serfuse.experiment import cross_validation
    from serfuse.runs import execution
    from serfuse.store import EmbeddingStore, default_root

    dataset = cross_validation.load_dataset(config, EmbeddingStore(store or default_root()))
    given, out = out, out or execution.free_folder(Path("runs"), config, dataset)
    result = None
    try:
        with terminated_like_interrupted() as check:
            while result is None:
                try:
                    result = run(config, dataset, out, overwrite=overwrite, quiet=quiet or as_json, check=check)
                except FolderInUseError:
                    if given:
                        raise
                    # Another call chose the same name in the same moment: the next one is free.
                    out = execution.free_folder(Path("runs"), config, dataset)
    except KeyboardInterrupt:
        click.echo(f"\nStopped. Finished folds are safe in {out}: the same command goes on from there.", err=True)
        raise click.exceptions.Exit(130) from None
    if as_json:
        click.echo(json.dumps({"run": str(out), **json.loads((out / "metrics.json").read_text("utf-8"))}))
        return
    show(result)
    click.echo(f"\nRun folder: {out}")


def _values(configs: Any, fusion: str | None, head: str | None, config_file: Path | None) -> dict[str, Any]:
    """The settings before overrides: a file, or the shipped one of the model that was named."""
    from serfuse import models

    named = fusion or head
    if fusion and head:
        raise click.UsageError("Give --fusion MODEL for a pair, or --head MODEL for one representation, not both.")
    if config_file is not None:
        from serfuse.runs import run_folder

        values = run_folder.settings_of(configs.read_yaml(config_file))
        if named and named != values.get("model"):
            raise click.UsageError(f"{config_file} is for the model {values.get('model')!r}, not {named!r}.")
        return values
    if not named:
        raise click.UsageError(
            f"Give --fusion or --head. Models: {', '.join(models.names())} (see `serfuse list models`)."
        )
    model = models.get(named)
    if model.inputs != (2 if fusion else 1):
        right = "--fusion" if model.inputs == 2 else "--head"
        raise click.UsageError(f"{named!r} takes {model.inputs} representation(s): use {right} {named}.")
    return configs.shipped(named)


def run(
    config: Any,
    dataset: Any,
    out: Path,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    check: Callable[[], None] = lambda: None,
) -> "Result":
    """`runs.execute` with progress on the screen; `check` is called after every epoch and fold."""
    from serfuse import models
    from serfuse.runs import execution

    trains_in_epochs = models.get(config.model).library == "keras"
    epochs = config.training.epochs if trains_in_epochs else 1
    unit = "epoch" if trains_in_epochs else "fold"
    with Progress(f"{unit}s", unit=unit, quiet=quiet) as progress:

        def on_audit(audit: Any, parts: list[Any], done: int) -> None:
            for sentence in audit.sentences():
                progress.say(sentence)
            if done:
                progress.say(f"Taking up an interrupted run: {done} of {len(parts)} folds are done.")
            progress.start(epochs * len(parts))

        def on_epoch(fold: Any, epoch: int, logs: Any) -> None:
            progress.update(note=f"fold {fold.index}, loss {logs.get('loss', float('nan')):.3f}", advance=1)
            check()

        finished = 0

        def on_fold(result: Any) -> None:
            nonlocal finished
            finished += 1
            accuracy = float((result.predictions["label"] == result.predictions["predicted"]).mean())
            progress.update(completed=finished * epochs, note=f"fold {result.fold.index}: {accuracy:.1%}")
            check()

        return execution.execute(
            config,
            dataset,
            out,
            overwrite=overwrite,
            on_audit=on_audit,
            on_fold=on_fold,
            on_epoch=on_epoch,
        )


def show(result: "Result") -> None:
    """Print the table of a finished run and what a reader should know about it."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 110)
    console.print(table(result))
    for sentence in remarks(result):
        console.print(sentence, soft_wrap=True)


def table(result: "Result") -> "Table":
    """Figures per fold, mean, spread, interval, and the printed figure where there is one."""
    from rich.table import Table

    from serfuse.metrics import SCORES
    from serfuse.runs import run_folder

    metrics, keys = result.metrics, ("accuracy", "macro_f1", "uar")
    found = Table(title=run_folder.run_title(result), title_justify="left", title_style="bold")
    found.add_column("fold")
    for key in keys:
        found.add_column(SCORES.get(key).title, justify="right")
    found.add_column("clips", justify="right")
    for fold in metrics["folds"]:
        label = f"{fold['repeat']}.{fold['fold']}" if result.config.split.repeats > 1 else str(fold["fold"])
        found.add_row(label, *(_percent(fold[key]) for key in keys), str(fold["clips"]))
    found.add_section()
    found.add_row("mean", *(_percent(metrics["mean"][key]) for key in keys), "")
    found.add_row("std", *(_percent(metrics["std"][key]) for key in keys), "")
    found.add_row("pooled", *(_percent(metrics["pooled"][key]) for key in keys), str(metrics["pooled"]["clips"]))
    intervals = [metrics["intervals"][key] for key in keys]
    found.add_row("95 %", *(f"{_percent(i['low'])} to {_percent(i['high'])}" for i in intervals), "")
    return found


def remarks(result: "Result") -> list[str]:
    """Plain sentences under the table."""
    from serfuse.published import results as published

    metrics, dataset = result.metrics, result.dataset
    lines = [result.audit.sentences()[0], _further(metrics), *result.remarks]
    if dataset.left_out:
        names = sorted({item["clip"] for item in dataset.left_out})
        lines.append(
            f"{len(names)} of {len(names) + len(dataset.clips)} clips are left out, since extract skipped them: "
            f"{', '.join(names[:3])}{' ...' if len(names) > 3 else ''} (metrics.json lists them with the reason)."
        )
    if metrics["parameters"]:
        lines.append(f"Trainable parameters: {metrics['parameters']:,}. Time: {metrics['seconds']:.0f} s.")
    for side, figures in metrics.get("sensitivity", {}).items():
        key = dataset.keys[side]
        line = (
            f"Shuffling input {side} ({key.encoder}) changes {figures['changed']:.1%} of the predictions and costs "
            f"{100 * figures['accuracy_drop']:.1f} points of accuracy."
        )
        if figures["changed"] < 0.01:
            line += f" WARNING: this fusion all but ignores {key.encoder}."
        lines.append(line)
    if neighbours := metrics.get("neighbours"):
        parts = [f"{figures['accuracy']:.1%} {name}" for name, figures in _by_size(neighbours)]
        lines.append(
            f"WARNING: a prediction of this model depends on the clips predicted beside it: {', '.join(parts)}; "
            f"{neighbours['fold']['changed_from_alone']:.0%} of the predictions differ between alone and whole fold."
        )
    if dataset.info.get("synthetic"):
        lines.append("The speech is synthetic: these figures show that the software works, nothing about emotion.")
    if any(key.random for key in dataset.keys.values()):
        lines.append("WARNING: an encoder has random weights; the figures say nothing about the published model.")
    encoders = [key.encoder for key in dataset.keys.values()]
    for row in published.find(dataset.corpus, result.config.model, *encoders):
        lines.append(
            f"Printed in {_PAPERS[row.paper]}, Table {row.table}: accuracy {row.accuracy:.2f} %, macro-F1 "
            f"{row.macro_f1:.2f} % (random folds; its folds and seeds are not published)."
        )
    return lines


def _further(metrics: dict[str, Any]) -> str:
    """The pooled figures that the table has no room for."""
    pooled, loss = metrics["pooled"], metrics["intervals"]["log_loss"]
    parts = [f"weighted F1 {_percent(pooled['weighted_f1'])}"]
    if pooled["log_loss"] is not None:
        interval = "" if loss["low"] is None else f" ({loss['low']:.3f} to {loss['high']:.3f})"
        parts += [f"log loss {pooled['log_loss']:.3f}{interval}", f"calibration error {_percent(pooled['ece'])}"]
    return f"All clips pooled: {', '.join(parts)}. Each emotion's recall and each fold's figures are in metrics.json."


def _by_size(neighbours: dict[str, Any]) -> list[tuple[str, Any]]:
    names = {"alone": "clip by clip", "32": "in batches of 32", "fold": "with the whole fold as one batch"}
    return [(names[size], figures) for size, figures in neighbours.items()]


def _percent(value: float | None) -> str:
    return "-" if value is None or value != value else f"{100 * value:.1f}"
