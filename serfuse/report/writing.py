"""A report as a file: a page, or a table, by the file's name."""

from collections.abc import Sequence
from pathlib import Path

from ..atomic_io import make_folder, write_text
from ..errors import RunError
from ..progress import Observer
from ..runs.run import Run
from ..store import EmbeddingStore, StorePath
from . import page, runs, tables

SUFFIXES = (".html", *tables.FORMATS)
"""What a report's name may end in."""


def write_report(
    finished: Sequence[Run | Path | str],
    out: Path | str = "report.html",
    *,
    title: str | None = None,
    store: EmbeddingStore | StorePath | str | None = None,
    observer: Observer | None = None,
) -> Path:
    """Write finished runs as one self-contained page (.html), or as a table (.md, .csv, .tex).

    Args:
        finished: runs, or their folders.
        out: the file to write; its ending says what.
        title: heading of the page.
        store: where clips are looked up, for the audio players of the page; without it there are none.
        observer: hears of each run that is drawn.

    Returns:
        the file.

    Raises:
        RunError: another ending, no run, or one that is damaged.
        StoreError: the file cannot be written.
    """
    target = Path(out)
    kind = target.suffix.lower()
    if kind not in SUFFIXES:
        raise RunError(f"{target}: the name of a report ends in {', '.join(SUFFIXES)}; it says what is written.")
    found = runs.read([run.folder if isinstance(run, Run) else Path(run) for run in finished])
    if kind == ".html":
        sounds = None if store is None else EmbeddingStore.of(store)
        text = page.render(found, title=title, store=sounds, observer=observer)
    else:
        text = tables.FORMATS[kind](found)
    make_folder(target.parent)
    write_text(target, text)
    return target
