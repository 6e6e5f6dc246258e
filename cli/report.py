"""`serfuse report`: finished runs as a page, or as a table."""

from pathlib import Path

import click

from .progress import Progress

_SUFFIXES = (".html", ".md", ".csv", ".tex")


@click.command("report")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN ...", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True)
@click.option("--title", help="Heading of the page.")
@click.option("--store", type=click.Path(path_type=Path), help="Where clips are looked up, for the audio players.")
@click.option("--no-audio", is_flag=True, help="Leave the players out: a smaller page without anybody's voice.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    runs: tuple[Path, ...], output: Path, title: str | None, store: Path | None, no_audio: bool, quiet: bool
) -> None:
    """Write finished runs as one self-contained page, or as a table.

    \b
    serfuse report runs/* -o report.html
    serfuse report runs/* -o table.md        also .csv (all figures, full precision) and .tex

    RUN is a folder that `serfuse cv` wrote. The page holds what was run, what leaks between training and test, the
    table beside the printed figures, intervals, paired verdicts, confusion matrices, t-SNE, learning curves, accuracy
    per speaker, and the most confident mistakes with their sound. It needs no network.
    """
    from serfuse.atomic_io import write_text
    from serfuse.errors import RunError
    from serfuse.report import page, tables
    from serfuse.report import runs as folders
    from serfuse.store import EmbeddingStore, default_root

    kind = output.suffix.lower()
    if kind not in _SUFFIXES:
        raise click.UsageError(f"{output}: the name should end in one of {', '.join(_SUFFIXES)}.")
    found = folders.read(list(runs))
    if kind == ".html":
        with Progress(quiet=quiet) as progress:
            text = page.render(
                found,
                title=title,
                store=None if no_audio else EmbeddingStore(store or default_root()),
                observer=progress,
            )
    else:
        text = tables.FORMATS[kind](found)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, text)
    except OSError as error:
        raise RunError(f"{output} cannot be written: {error.strerror or error}.") from None
    size = f"{len(text) / 1e6:.1f} MB" if len(text) > 1e5 else f"{len(text) / 1e3:.1f} kB"
    click.echo(f"{output}: {len(found)} {'run' if len(found) == 1 else 'runs'}, {size}")
