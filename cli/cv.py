"""`serfuse cv`: cross-validate one configuration and show what came out."""

import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .progress import Progress
from .store_place import STORE

if TYPE_CHECKING:
    from rich.table import Table

    from serfuse.experiment.dataset import Dataset
    from serfuse.models import Model
    from serfuse.runs.run import Run

_IN_THE_TABLE = ("accuracy", "macro_f1", "uar")


_INPUTS = "abcdefgh"  # `serfuse.models.INPUTS`, which takes a while to import
_INPUT_HELP = {
    "a": "First encoder; with selectors: hubert@pooling=time,layer=6; all layers: hubert@layer=all.",
    "b": "Second encoder, for --fusion.",
    "c": "Third encoder, and so on to --h.",
}


def _input_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each input, and hand them over as one argument `inputs`: `{"a": ENCODER, ...}`."""

    @functools.wraps(function)
    def command_of_inputs(**given: Any) -> None:
        inputs = {name: given.pop(name) for name in _INPUTS}
        function(inputs={name: text for name, text in inputs.items() if text is not None}, **given)

    for name in reversed(_INPUTS):
        help_text = _INPUT_HELP.get(name)
        add = click.option(f"--{name}", metavar="ENCODER", help=help_text, hidden=help_text is None)
        command_of_inputs = add(command_of_inputs)
    return command_of_inputs


@click.command()
@click.option("--fusion", metavar="MODEL", help="A model of two representations or more: hyfuse-symmetric, concat ...")
@click.option("--head", metavar="MODEL", help="A model of one representation: cnn, fcn, svm ...")
@_input_options
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="Start from this YAML file; also a run's config.yaml.",
)
@click.option("--store", type=STORE, help="Embedding store [$SERFUSE_STORE or serfuse-store].")
@click.option("--corpus", help="Corpus of the store; needed when it holds several.")
@click.option("--pool", help="Pooling of all embeddings; needed when the store holds several.")
@click.option("--split", help="random (the papers'), speaker, loso, text ...  [random]")
@click.option("--folds", type=int, help="Number of folds.  [5]")
@click.option("--repeats", type=int, help="Times the whole split is drawn anew.  [1]")
@click.option("--epochs", type=int, help="At most this many epochs.  [50]")
@click.option("--seed", type=int, help="Decides folds, initial weights, shuffling.  [0]")
@click.option("--metric", "further", multiple=True, metavar="NAME", help="Also measure this metric of another package.")
@click.option("--trainer", metavar="NAME", help="What trains networks: keras is plain Keras.  [auto: the fastest]")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any other key: options.kappa=1.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder [runs/<corpus>-<model>-...].")
@click.option("--overwrite", is_flag=True, help="Replace a finished run in --out.")
@click.option("--again", is_flag=True, help="Run anew what is finished already, into a folder of its own.")
@click.option("--no-models", is_flag=True, help="Keep no trained networks, which are most of a run folder.")
@click.option("--no-pictures", is_flag=True, help="Draw no pictures; `report` needs none of them.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON and nothing else.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
def command(
    fusion: str | None,
    head: str | None,
    inputs: dict[str, str],
    config_file: Path | None,
    store: str | Path | None,
    corpus: str | None,
    pool: str | None,
    split: str | None,
    folds: int | None,
    repeats: int | None,
    epochs: int | None,
    seed: int | None,
    further: tuple[str, ...],
    trainer: str | None,
    assignments: tuple[str, ...],
    out: Path | None,
    overwrite: bool,
    again: bool,
    no_models: bool,
    no_pictures: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Cross-validate a classifier on stored embeddings.

    \b
    serfuse cv --fusion hyfuse-symmetric --a prosody --b soundstream-lyra
    serfuse cv --fusion parrot --a audiomamba-base --b hubert --split loso
    serfuse cv --fusion concat --a hubert --b prosody --c logmel
    serfuse cv --head svm --a logmel --json

    The settings come from configs/<model>.yaml, or --config FILE; options given here go before the file's. The run
    folder keeps the configuration, folds, predictions, metrics, figures and models. An interrupted run goes on where
    it stopped when the same command is given again; a finished one is shown again, unless --out names its folder.
    """
    from serfuse import models
    from serfuse.errors import FolderInUseError
    from serfuse.experiment import backend, fitting
    from serfuse.experiment import config as configs

    config = configs.configure(
        _start(fusion, head, config_file),
        configs.parse_assignments(assignments),
        **inputs,
        corpus=corpus,
        pooling=pool,
        split=split,
        folds=folds,
        repeats=repeats,
        epochs=epochs,
        seed=seed,
        metrics=list(further) or None,
        trainer=trainer,
    )
    models.get(config.model).check_trainable()
    _check_count(models.get(config.model), len(config.data.inputs), fusion is not None, head is not None)
    if fitting.trained_with(config) == "keras":
        backend.set_up_backend()
    from serfuse.experiment.dataset import load_dataset
    from serfuse.runs import execution
    from serfuse.runs.run import Run
    from serfuse.store import EmbeddingStore

    dataset = load_dataset(config, EmbeddingStore(store))
    if config_file is not None:
        _say_changes(config_file, dataset)
    shown_again = out is None and not again and not _of_a_run(config_file)
    if shown_again and (done := execution.finished_folder(Path("runs"), config, dataset)):
        click.echo(f"{done} is this run, finished, and is shown again. To run it anew, add --again.", err=True)
        _show(Run.read(done), as_json)
        return
    given, out = out, out or execution.free_folder(Path("runs"), config, dataset)
    result = None
    try:
        with Progress(quiet=quiet or as_json) as progress:
            while result is None:
                try:
                    result = execution.execute(
                        config,
                        dataset,
                        out,
                        overwrite=overwrite,
                        pictures=not no_pictures,
                        keep_models=not no_models,
                        twins=_of_a_run(config_file),
                        observer=progress,
                    )
                except FolderInUseError:
                    if given:
                        raise
                    # Another call chose the same name in the same moment: the next one is free.
                    out = execution.free_folder(Path("runs"), config, dataset)
    except KeyboardInterrupt:
        click.echo(f"\nStopped. Finished folds are safe in {out}: the same command goes on from there.", err=True)
        raise click.exceptions.Exit(130) from None
    _show(Run.read(out), as_json, result.remarks)


def _show(finished: "Run", as_json: bool, remarks: Sequence[str] = ()) -> None:
    """Print a finished run for people, or as JSON."""
    if as_json:
        click.echo(json.dumps({"run": str(finished.folder), **finished.metrics}))
        return
    show(finished)
    for remark in remarks:
        click.echo(remark, err=True)
    click.echo(f"\nRun folder: {finished.folder}")


def _of_a_run(config_file: Path | None) -> bool:
    """Whether a configuration is that of a finished run, which somebody then wants to see repeated."""
    return config_file is not None and (config_file.parent / "metrics.json").exists()


def _say_changes(config_file: Path, dataset: "Dataset") -> None:
    """Say what has changed since the run was made whose `config.yaml` is run again."""
    from serfuse.runs import run as runs

    if changes := runs.changes_since(config_file, dataset):
        click.echo(f"The data have changed since the run of {config_file}: {'; '.join(changes)}.", err=True)


def _start(fusion: str | None, head: str | None, config_file: Path | None) -> str | dict[str, Any]:
    """What to start from: the values of a file, or the model that was named."""
    from serfuse import models
    from serfuse.experiment import config as configs

    named = fusion or head
    if fusion and head:
        raise click.UsageError(
            "Give --fusion MODEL for two representations or more, or --head MODEL for one, not both."
        )
    if config_file is not None:
        from serfuse.runs.run import settings_of

        values = settings_of(configs.read_yaml(config_file))
        if named and named != values.get("model"):
            raise click.UsageError(f"{config_file} is for the model {values.get('model')!r}, not {named!r}.")
        return values
    if not named:
        raise click.UsageError(
            f"Give --fusion or --head. Models: {', '.join(models.names())} (see `serfuse list models`)."
        )
    model = models.get(named)
    model.check_trainable()
    if (fusion and model.most_inputs == 1) or (head and model.inputs > 1):
        right = "--head" if fusion else "--fusion"
        raise click.UsageError(f"{named!r} takes {model.inputs_wanted}: use {right} {named}.")
    return named


def _check_count(model: "Model", count: int, fusion: bool, head: bool) -> None:
    """Refuse a fusion of one representation, and a head of several, of a model that would take either."""
    if head and count > 1 and model.takes(count):
        raise click.UsageError(f"--head is for one representation, received {count}: use --fusion {model.name}.")
    if fusion and count == 1 and model.takes(count):
        raise click.UsageError(f"--fusion is for two representations or more: add --b, or use --head {model.name}.")


def show(finished: "Run") -> None:
    """Print the table of a finished run and what a reader should know about it."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 110)
    console.print(finished.description.title, style="bold", soft_wrap=True)  # above a table it would be broken
    console.print(table(finished))
    for sentence in remarks(finished):
        console.print(sentence, soft_wrap=True)


def table(finished: "Run") -> "Table":
    """Figures per fold, mean, spread and interval."""
    from rich.table import Table

    from serfuse.metrics import METRICS

    metrics = finished.metrics
    shown = [METRICS.get(name) for name in _IN_THE_TABLE]
    found = Table()
    found.add_column("fold")
    for metric in shown:
        found.add_column(metric.title, justify="right")
    found.add_column("clips", justify="right")
    for fold in metrics["folds"]:
        label = f"{fold['repeat']}.{fold['fold']}" if finished.description.split.repeats > 1 else str(fold["fold"])
        found.add_row(label, *_figures(shown, fold), str(fold["clips"]))
    found.add_section()
    found.add_row("mean", *_figures(shown, metrics["mean"]), "")
    found.add_row("std", *_figures(shown, metrics["std"]), "")
    found.add_row("pooled", *_figures(shown, metrics["pooled"]), str(metrics["pooled"]["clips"]))
    intervals = [metrics["intervals"][metric.name] for metric in shown]
    ends = [f"{m.shown(i['low'])} to {m.shown(i['high'])}" for m, i in zip(shown, intervals, strict=True)]
    found.add_row("95 %", *ends, "")
    return found


def remarks(finished: "Run") -> list[str]:
    """Plain sentences under the table."""
    from serfuse.progress import duration
    from serfuse.published import results as published

    metrics, left_out = finished.metrics, finished.left_out
    lines = [finished.audit[0], _further(metrics)]
    if left_out:
        total = len(left_out) + finished.description.corpus.clips
        names = ", ".join(left_out[:3]) + (" ..." if len(left_out) > 3 else "")
        lines.append(
            f"{len(left_out)} of {total} clips are left out, since extract skipped them: {names} (metrics.json lists "
            "them with the reason)."
        )
    if metrics.get("parameters"):
        lines.append(f"Trainable parameters: {metrics['parameters']:,}. Time: {duration(metrics['seconds'])}.")
    lines += finished.choices()
    lines += finished.layer_weights()
    lines += finished.contributions()
    lines += [f"WARNING: {text}" for text in finished.warnings()]
    for row in finished.published:
        lines.append(
            f"Printed in {published.sources()[row.paper].name}, Table {row.table}: accuracy {row.accuracy:.2f} %, "
            f"macro-F1 {row.macro_f1:.2f} % (random folds; its folds and seeds are not published)."
        )
    return lines


def _figures(shown: list[Any], values: dict[str, Any]) -> list[str]:
    return [metric.shown(values[metric.name]) for metric in shown]


def _further(metrics: dict[str, Any]) -> str:
    """The pooled figures that the table has no room for."""
    from serfuse.metrics import of_file

    parts = []
    for metric in (of_file(name) for name in metrics["mean"] if name not in _IN_THE_TABLE):
        value, ends = metrics["pooled"][metric.name], metrics["intervals"][metric.name]
        if value is not None:
            interval = metric.shown_range(ends["low"], ends["high"]) if metric.unit == "plain" else "-"
            parts.append(f"{metric.title} {metric.shown(value)}{'' if interval == '-' else f' ({interval})'}")
    return f"All clips pooled: {', '.join(parts)}. Each emotion's recall and each fold's figures are in metrics.json."
