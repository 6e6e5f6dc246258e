"""`serfuse report`: finished runs as a page, or as a table."""

from pathlib import Path

import click

from .progress import Progress
from .store_place import STORE


@click.command("report")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN ...", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True)
@click.option("--title", help="Heading of the page.")
@click.option("--store", type=STORE, help="Where clips are looked up, for the audio players.")
@click.option("--no-audio", is_flag=True, help="Leave the players out: a smaller page without anybody's voice.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    runs: tuple[Path, ...], output: Path, title: str | None, store: str | Path | None, no_audio: bool, quiet: bool
) -> None:
    """Write finished runs as one self-contained page, or as a table.

    \b
    serfuse report runs/* -o report.html
    serfuse report runs/* -o table.md        also .csv (all figures, full precision) and .tex

    RUN is a folder that `serfuse cv` wrote. The page holds what was run, what leaks between training and test, the
    table beside the printed figures, intervals, paired verdicts, confusion matrices, t-SNE, learning curves, accuracy
    per speaker, and the most confident mistakes with their sound. It needs no network.
    """
    from serfuse.report.writing import SUFFIXES, write_report
    from serfuse.store import EmbeddingStore

    if output.suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"{output}: the name should end in one of {', '.join(SUFFIXES)}.")
    with Progress(quiet=quiet) as progress:
        write_report(runs, output, title=title, store=None if no_audio else EmbeddingStore(store), observer=progress)
    size = output.stat().st_size
    shown = f"{size / 1e6:.1f} MB" if size > 1e5 else f"{size / 1e3:.1f} kB"
    click.echo(f"{output}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}, {shown}")
