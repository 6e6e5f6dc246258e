"""One line per row of a sweep's table: units done, their rate, the time left, and the mean so far in each column."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .progress import duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from serfuse.sweep.driver import Progress
    from serfuse.sweep.overview import RowState

_FOLDED = 9
"""Width that headings are folded to where the screen is narrow."""


def live(progress: "Progress", console: "Console", workers: int, below: int) -> "RenderableType":
    """As much as the screen has room for: the columns and the rows at work come first.

    Args:
        progress: how far the sweep is.
        console: whose width and height count.
        workers: that share the work, for the time left of each row.
        below: lines that the screen needs besides.
    """
    from rich.console import Group

    from serfuse.sweep import overview

    found = list(overview.rows(progress))
    heads = overview.heads(progress)
    columns = range(len(heads))
    table = _table(progress, found, columns, heads, workers, short=False)
    if _width(table, console) > console.width:
        busy = sorted(columns, key=lambda place: not any(row.cells[place].running for row in found))
        chosen: list[int] = []
        for place in busy:
            wider = sorted([*chosen, place])
            if chosen and _width(_table(progress, found, wider, heads, workers, short=True), console) > console.width:
                break
            chosen = wider
        columns = chosen
        table = _table(progress, found, columns, heads, workers, short=True)
    notes = [f"{len(heads) - len(columns)} more columns" if len(columns) < len(heads) else ""]
    room = console.height - below - 3
    if _height(table, console) > room:
        titles = len({row.block for row in found})
        kept = max(1, len(found) - (_height(table, console) - room) - titles)
        urgent = sorted(range(len(found)), key=lambda number: _urgency(found[number]))[:kept]
        rows = [found[number] for number in sorted(urgent)]
        table = _table(progress, rows, columns, heads, workers, short=len(columns) < len(heads))
        notes.append(f"{len(found) - len(rows)} more rows")
    more = ", ".join(filter(None, notes))
    heading = f"[bold]{plain(progress.plan.grid.spec.title)}[/bold]: mean accuracy so far"
    return Group(heading, table, *([f"... {more} (see --status)"] if more else []))


def whole(progress: "Progress", console: "Console", workers: int = 1) -> Iterator["Table"]:
    """Every row and column, in as many parts as the width of the screen asks for."""
    from serfuse.sweep import overview

    found = list(overview.rows(progress))
    heads = overview.heads(progress)
    table = _table(progress, found, range(len(heads)), heads, workers, short=False)
    if _width(table, console) <= console.width:
        yield table
        return
    part: list[int] = []
    pace = True  # in the first part, which may hold nothing else
    for place in range(len(heads)):
        wider = _table(progress, found, [*part, place], heads, workers, short=False, pace=pace)
        if (part or pace) and _width(wider, console) > console.width:
            yield _table(progress, found, part, heads, workers, short=False, pace=pace)
            part, pace = [], False
        part = [*part, place]
    yield _table(progress, found, part, heads, workers, short=False, pace=pace)


def plain(words: str) -> str:
    """Text without rich's markup."""
    return words.replace("[", r"\[")


def _urgency(row: "RowState") -> int:
    """Rows at work first, then those begun, those to come, the finished ones, and those that cannot run."""
    if row.running:
        return 0
    if row.waiting:
        return 1 if row.done else 2
    return 3 if row.done else 4


def _table(
    progress: "Progress",
    rows: Sequence["RowState"],
    columns: Sequence[int],
    heads: Sequence[str],
    workers: int,
    *,
    short: bool,
    pace: bool = True,
) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    found = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    found.add_column(progress.plan.grid.spec.rows_heading, no_wrap=True)
    for head in ("units", "s/unit", "left") if pace else ():
        found.add_column(head, justify="right", no_wrap=True)
    for place in columns:
        found.add_column(_folded(heads[place]) if short else plain(heads[place]), justify="right", no_wrap=True)
    block = None
    for row in rows:
        if row.block != block:
            found.add_section()
            block = row.block
            if block:
                found.add_row(f"[italic]{plain(block)}[/italic]")
        label = plain(row.label)
        texts = []
        if pace:
            texts = [f"{row.done}/{row.total}", "", ""]
            if row.seconds is not None:
                texts[1] = f"{row.seconds:.3g}"
                texts[2] = duration(row.seconds * row.waiting / workers) if row.waiting else ""
        texts += [plain(row.cells[place].short if short else row.cells[place].text) for place in columns]
        found.add_row(f"[bold]{label}[/bold]" if row.running else label, *texts)
    return found


def _folded(head: str) -> str:
    lines = [line[start : start + _FOLDED] for line in head.split("\n") for start in range(0, len(line), _FOLDED)]
    return plain("\n".join(lines))


def _width(table: "Table", console: "Console") -> int:
    return console.measure(table, options=console.options.update(width=10_000)).maximum


def _height(table: "Table", console: "Console") -> int:
    return len(console.render_lines(table, console.options, pad=False))
