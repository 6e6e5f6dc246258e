"""`serfuse demo`: the whole way once, on generated speech, with no weights and no network."""

from pathlib import Path

import click

from .progress import Progress

# model, encoder a, encoder b, split, overrides; learning rates as a small corpus needs them
_RUNS: list[tuple[str, str, str | None, str, dict[str, float]]] = [
    ("svm", "prosody", None, "random", {}),
    ("svm", "logmel", None, "random", {}),
    ("late", "prosody", "logmel", "random", {}),
    ("concat", "prosody", "logmel", "random", {"training.learning_rate": 3e-4}),
    ("hyfuse-symmetric", "prosody", "logmel", "random", {"training.learning_rate": 3e-4}),
    ("parrot", "prosody", "logmel", "random", {}),
    ("hyfuse-symmetric", "prosody", "logmel", "speaker", {"training.learning_rate": 3e-4}),
]

# encoder -> pooling; vectors of 52 and 160 values, so that five folds of every model take a minute at most
_POOLING = {"prosody": "mean-std", "logmel": "time"}


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder to fill.")
@click.option("--epochs", type=click.IntRange(min=1), default=6, show_default=True, help="Epochs of each neural model.")
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Folds of each run.")
@click.option("--speakers", type=click.IntRange(min=2), default=5, show_default=True, help="Voices to generate.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
def command(out: Path, epochs: int, folds: int, speakers: int, seed: int) -> None:
    """See everything work: generate speech, extract, cross-validate, compare.

    The speech is synthetic, made by a source-filter model whose pitch, energy, rate and spectral tilt follow the
    emotion. Its figures show that the software works; they say nothing about emotion in real speech.
    """
    from rich.console import Console
    from rich.table import Table

    from serfuse.corpora import synthetic
    from serfuse.experiment import backend
    from serfuse.experiment.config import configure
    from serfuse.extraction.extract import extract
    from serfuse.store import EmbeddingStore

    console = Console(highlight=False)
    console.rule("1. Generate a small corpus of synthetic speech", align="left")
    with Progress() as progress:
        corpus = synthetic.generate(out / "speech", speakers=speakers, seed=seed, observer=progress)
    console.print(
        f"{len(corpus.clips)} clips, {len({clip.speaker for clip in corpus.clips})} speakers, "
        f"{len({clip.emotion for clip in corpus.clips})} emotions in {out / 'speech'}",
        markup=False,
    )

    console.rule("2. Extract embeddings once", align="left")
    store = EmbeddingStore(out / "store")
    for name, pooling in _POOLING.items():
        with Progress() as progress:
            report = extract(corpus, name, store, pooling=pooling, observer=progress)
        console.print(
            f"{name}: {report.done} computed, {report.reused} taken from the store, {len(report.failed)} failed"
        )

    console.rule("3. Cross-validate", align="left")
    backend.set_up_backend()
    from serfuse.experiment.dataset import load_dataset
    from serfuse.metrics import METRICS
    from serfuse.runs import sentences
    from serfuse.runs.execution import execute

    figures = [METRICS.get(name) for name in ("accuracy", "uar")]
    summary = Table(title=f"{folds} folds on synthetic speech, mean (standard deviation)", title_justify="left")
    for column in ("model", "representations", "split", "accuracy", "UAR"):
        summary.add_column(column, justify="right" if column in ("accuracy", "UAR") else "left", no_wrap=True)
    for model, a, b, split, overrides in _RUNS:
        config = configure(model, overrides, a=a, b=b, split=split, folds=folds, epochs=epochs, seed=seed)
        folder = out / "runs" / "-".join(filter(None, (model, a, b, split)))
        console.print(f"[bold]{model}[/bold] on {' + '.join(filter(None, (a, b)))}, split {split}")
        with Progress() as progress:
            result = execute(config, load_dataset(config, store), folder, overwrite=True, observer=progress)
        mean, std = result.metrics["mean"], result.metrics["std"]
        summary.add_row(
            model,
            " + ".join(filter(None, (a, b))),
            split,
            *(f"{figure.shown(mean[figure.name])} ({figure.shown(std[figure.name])})" for figure in figures),
        )
    console.rule("4. What came out", align="left")
    console.print(summary)
    console.print(f"{sentences.synthetic_speech()}\n")
    best = out / "runs" / "hyfuse-symmetric-prosody-logmel-random"
    for line in (
        f"Look at    {best / 'confusion.png'}",
        f"           {best / 'tsne.png'}",
        f"Compare    serfuse compare {best.parent}/*-random",
        "Your own   serfuse extract --corpus table --data FOLDER_WITH_ONE_PER_EMOTION --encoder prosody",
    ):
        console.print(line, markup=False, soft_wrap=True)
