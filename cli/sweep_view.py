"""How a sweep is shown: while it runs, its state, its table."""

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from . import sweep_rows, sweep_status
from .progress import Meter, duration
from .sweep_rows import plain

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from serfuse.sweep.driver import Progress
    from serfuse.sweep.ledger import Ledger
    from serfuse.sweep.plan import Plan
    from serfuse.sweep.table import Table

_LINE_SECONDS = 10.0
_DRAW_SECONDS = 0.5
_SHOWN_FAILURES = 20


class LiveView:
    """Shows a running sweep on standard error: a table on a terminal, now and then a line elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._live: Any = None
        self._meter: Meter | None = None
        self._last = 0.0

    def __enter__(self) -> "LiveView":
        if self._terminal and not self._quiet:
            from rich.live import Live

            self._live = Live(console=console_of(sys.stderr), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def report(self, progress: "Progress", news: str) -> None:
        """What `driver.run` calls."""
        if self._quiet:
            return
        if self._meter is None:
            self._meter = Meter(progress.total - len(progress.done))
            self._begun_with = len(progress.done)
        done = len(progress.done) - self._begun_with
        if done != self._meter.done:
            self._meter.move(done)
        if self._live is not None:
            if news:
                self._live.console.print(news, markup=False, soft_wrap=True)
            if news or time.monotonic() - self._last >= _DRAW_SECONDS:
                self._last = time.monotonic()
                self._live.update(self._drawn(progress), refresh=True)
        elif news or time.monotonic() - self._last >= _LINE_SECONDS:
            self._last = time.monotonic()
            state = _state_line(progress, self._meter)
            click.echo(f"{news} [{state}]" if news else state, err=True)

    def _drawn(self, progress: "Progress") -> "RenderableType":
        from rich.console import Group

        state = _state_line(progress, self._meter)
        console = self._live.console
        below = len(console.render_lines(state, console.options))
        return Group(sweep_rows.live(progress, console, max(1, len(progress.running)), below), state)


def _state_line(progress: "Progress", meter: Meter | None) -> str:
    text = f"{len(progress.done)} of {progress.total} units"
    if progress.running:
        text += f", {len(progress.running)} at work"
    if progress.elsewhere:
        text += f", {len(progress.elsewhere)} at work in another sweep"
    if progress.failed:
        text += f", {len(progress.failed)} failed"
    if meter is not None and meter.rate is not None:
        rate = meter.rate
        text += f", {rate:.2g} units/s" if rate >= 1 else f", {60 * rate:.2g} units/min"
    if meter is not None and meter.left is not None and len(progress.done) < progress.total:
        text += f", {duration(meter.left)} left"
    return text


def show_table(table: "Table", console: "Console") -> None:
    """The finished table with its notes, in as many parts as the width of the screen asks for."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Drawn

    labels = [table.rows_heading, *(line.label for block in table.blocks for line in block.lines)]
    for corpus, columns in _parts(table, console.width - max(map(len, labels)) - 4):
        console.print(f"[bold]{plain(table.title)}: {plain(corpus)}[/bold]", soft_wrap=True)
        drawn = Drawn(box=SIMPLE_HEAD)
        drawn.add_column(table.rows_heading, no_wrap=True)
        for head, _, style in columns:
            drawn.add_column(head, justify="right", no_wrap=True, style=style)
        row = 0
        for block in table.blocks:
            if block.title:
                drawn.add_section()
                drawn.add_row(f"[italic]{plain(block.title)}[/italic]")
            for line in block.lines:
                drawn.add_row(plain(line.label), *(plain(cells[row]) for _, cells, _ in columns))
                row += 1
        console.print(drawn)
    for note in table.notes:
        console.print(note, markup=False, soft_wrap=True)


_DrawnColumn = tuple[str, list[str], str]
"""Heading, a text for each row, style."""


def _parts(table: "Table", width: int) -> Iterator[tuple[str, list[_DrawnColumn]]]:
    """The columns in parts: one corpus each, no wider than asked, a model never torn apart."""
    from itertools import groupby

    from serfuse.sweep import render

    corpus, part, taken = "", [], 0
    for _, places in groupby(range(len(table.heads)), key=lambda i: table.heads[i].key[:2]):
        group: list[_DrawnColumn] = []
        for place in places:
            head = table.heads[place]
            figures = [line.figures[place] for block in table.blocks for line in block.lines]
            texts = [
                f"{render.measured(one, after='*')} {render.interval(one, short=True)}".rstrip() for one in figures
            ]
            group.append((" ".join(filter(None, (head.model, head.metric))), texts, ""))
            if table.compares:
                group.append(("printed", [render.printed(one) for one in figures], "dim"))
        needed = sum(max(map(len, (heading, *cells))) + 3 for heading, cells, _ in group)
        if part and (head.corpus != corpus or taken + needed > width):
            yield corpus, part
            part, taken = [], 0
        corpus = head.corpus
        part, taken = part + group, taken + needed
    yield corpus, part


def show_state(progress: "Progress", ledger: "Ledger", history: bool) -> None:
    """What `--dry-run` and `--status` print."""
    console = console_of(sys.stdout)
    console.print(f"[bold]{plain(progress.plan.grid.spec.title)}[/bold]: mean accuracy so far")
    for part in sweep_rows.whole(progress, console):
        console.print(part)
    waiting = progress.total - len(progress.done)
    cannot = sum(planned.expected for planned in progress.plan.planned if planned.problem)
    console.print(
        f"{len(progress.done)} units are done, {waiting} would run, {cannot} wait for embeddings."
        if not history
        else f"{len(progress.done)} of {progress.total + cannot} units are done, {cannot} wait for embeddings."
    )
    if history:
        sweep_status.show(progress, ledger, console)
    else:
        for planned in progress.plan.planned:
            left = [unit.fold.index for unit in planned.units if unit.name not in progress.done]
            if left:
                folds = "all folds" if len(left) == len(planned.units) else f"folds {', '.join(map(str, left))}"
                console.print(f"  would run {planned.experiment.label}: {folds}", markup=False, soft_wrap=True)
    say_missing(progress.plan, console)


def say_missing(planned: "Plan", console: "Console") -> None:
    for item in planned.missing:
        what = f"Missing in {item.corpus}: {', '.join(item.inputs)}" if item.inputs else f"Cannot run {item.corpus}"
        console.print(f"{what}: {item.reason}", markup=False, soft_wrap=True)
        if item.command:
            console.print(f"  {item.command}", markup=False, soft_wrap=True)


def say_failed(progress: "Progress", console: "Console") -> None:
    names = {unit.name: unit for unit in progress.plan.units}
    for name, error in list(progress.failed.items())[:_SHOWN_FAILURES]:
        console.print(f"FAILED {names[name].label}: {error}", markup=False, soft_wrap=True)
    if len(progress.failed) > _SHOWN_FAILURES:
        console.print(f"... and {len(progress.failed) - _SHOWN_FAILURES} more, see log.jsonl.")


def console_of(stream: Any) -> "Console":
    from rich.console import Console

    return Console(file=stream, highlight=False, emoji=False, width=None if stream.isatty() else 160)
