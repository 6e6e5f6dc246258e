"""`serfuse sweep`: a whole table of cross-validations, resumable, on many processes or a cluster."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .progress import Meter, duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from serfuse.sweep.driver import Progress
    from serfuse.sweep.ledger import Ledger
    from serfuse.sweep.plan import Plan
    from serfuse.sweep.table import Table

_LINE_SECONDS = 10.0
_DRAW_SECONDS = 0.5
_SHOWN_FAILURES = 20


@click.command()
@click.argument("sweep")
@click.option("--only", multiple=True, metavar="AXIS=VALUE", help="Narrow the table: corpus=emodb, model=cnn, row=W2.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change every cell's configuration.")
@click.option("--store", type=click.Path(path_type=Path), help="Embedding store [$SERFUSE_STORE or serfuse-store].")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the results [sweeps/<name>].")
@click.option("--jobs", type=click.IntRange(min=1), help="Units at once [one, or one per GPU; ray: all the cluster].")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of each unit [cores / jobs at the first call].")
@click.option("--memory", metavar="SIZE", help="Memory that all units together may take, such as 8G [what is free].")
@click.option("--engine", type=click.Choice(["processes", "ray"]), default="processes", show_default=True)
@click.option("--address", help="Of a running Ray cluster, with --engine ray [one is started here].")
@click.option("--retries", type=click.IntRange(min=0), default=1, show_default=True, help="For a unit that fails.")
@click.option("--dry-run", is_flag=True, help="Show what would run, what is done, and what is missing.")
@click.option("--status", is_flag=True, help="Show how far it is, also while another terminal runs it.")
@click.option("--show", type=click.Choice(["text", "markdown", "csv", "latex", "html"]), help="Print the table only.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="No progress, only the table.")
@click.pass_context
def command(
    ctx: click.Context,
    sweep: str,
    only: tuple[str, ...],
    assignments: tuple[str, ...],
    store: Path | None,
    out: Path | None,
    jobs: int | None,
    threads: int | None,
    memory: str | None,
    engine: str,
    address: str | None,
    retries: int,
    dry_run: bool,
    status: bool,
    show: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a whole table of cross-validations, and print it beside the published one.

    \b
    serfuse sweep hyfuse_table1 --dry-run
    serfuse sweep parrot_table2 --only corpus=emodb --jobs 4
    serfuse sweep my_table.yaml --engine ray --address auto

    SWEEP is a YAML file, or one that ships with serfuse: hyfuse_table1, hyfuse_table2, parrot_table1, parrot_table2.
    Every finished fold is kept at once: Ctrl-C, a crash or a full disk lose only what was at work, and the same
    command goes on. The table is written to the results' folder as Markdown, CSV, LaTeX and HTML. The exit code is 1
    when a unit failed.
    """
    if address is not None and engine != "ray":
        raise click.UsageError("--address is for --engine ray.")
    from serfuse.store import EmbeddingStore, default_root
    from serfuse.sweep import driver, grid, plan, spec, table
    from serfuse.sweep.ledger import Ledger

    content, name = spec.read(sweep)
    planned = plan.make(grid.expand(content, only, assignments), EmbeddingStore(store or default_root()))
    ledger = Ledger(out or Path("sweeps") / name)
    if show is not None:
        found = table.make(planned, ledger)
        if show == "text":
            _show_table(found, _console(sys.stdout))
        else:
            from serfuse.sweep import render

            click.echo(render.render(found, show), nl=False)
        return
    if dry_run or status:
        progress = driver.look(planned, ledger)
        if as_json:
            click.echo(json.dumps({"folder": str(ledger.folder), **driver.summary(progress)}, indent=2))
        else:
            _show_state(progress, ledger, history=status)
        return
    progress = _run(planned, ledger, jobs, threads, memory, engine, address, retries, quiet or as_json)
    found = table.make(planned, ledger)
    _write_tables(found, ledger)
    if as_json:
        click.echo(json.dumps({"folder": str(ledger.folder), **driver.summary(progress)}, indent=2))
    else:
        console = _console(sys.stdout)
        _show_table(found, console)
        console.print(f"\nTable and runs: {ledger.folder}", markup=False, soft_wrap=True)
        _say_missing(planned, console)
        _say_failed(progress, console)
    ctx.exit(1 if progress.failed else 0)


def _run(
    planned: "Plan",
    ledger: "Ledger",
    jobs: int | None,
    threads: int | None,
    memory: str | None,
    engine: str,
    address: str | None,
    retries: int,
    quiet: bool,
) -> "Progress":
    """Start the engine, run, and show how it goes."""
    from serfuse.sweep import driver
    from serfuse.sweep import engine as engines
    from serfuse.sweep import memory as memories

    budget = memories.Budget(memories.parse_size(memory) if memory else None)
    ledger.create()
    progress = driver.look(planned, ledger)
    for unit in planned.units:
        if unit.name in progress.done:
            budget.learn(unit.planned.kind, progress.done[unit.name].peak_bytes)
    if len(progress.done) == progress.total:
        jobs, engine = 1, "processes"  # nothing to run: no cluster for that
    if engine == "processes":
        jobs = jobs or max(1, len(engines.gpus()))
    chosen = threads or max(1, engines.cores() // (jobs or engines.cores()))
    if threads:
        ledger.set_threads(threads)
    chosen = ledger.threads(chosen)
    with _terminated_like_interrupted():
        try:
            if engine == "ray":
                from serfuse.sweep.ray_engine import RayEngine

                workers: Any = RayEngine(planned.store.root, jobs, chosen, address, budget)
            else:
                from serfuse.sweep.processes import ProcessEngine

                log = ledger.folder / "workers.log"
                workers = ProcessEngine(planned.store.root, jobs or 1, chosen, budget, log)
            with _View(quiet) as view:
                return driver.run(planned, ledger, workers, retries=retries, report=view.report)
        except KeyboardInterrupt:
            done = len(driver.look(planned, ledger).done)
            click.echo(
                f"\nStopped: {done} of {progress.total} units are finished and safe in {ledger.folder}. "
                "The same command goes on.",
                err=True,
            )
            raise click.exceptions.Exit(130) from None


class _View:
    """Shows a running sweep on standard error: a table on a terminal, now and then a line elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._live: Any = None
        self._meter: Meter | None = None
        self._last = 0.0

    def __enter__(self) -> "_View":
        if self._terminal and not self._quiet:
            from rich.live import Live

            self._live = Live(console=_console(sys.stderr), auto_refresh=False, transient=True)
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

        return Group(_rows(progress, max(1, len(progress.running))), _state_line(progress, self._meter))


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


def _rows(progress: "Progress", workers: int = 1) -> Any:
    """One line per row: units done, their rate, the time left, and the mean accuracy so far in each column."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table

    from serfuse.sweep import overview

    spec = progress.plan.grid.spec
    found = Table(box=SIMPLE_HEAD, pad_edge=False)
    found.add_column(spec.rows_heading, no_wrap=True)
    for head in ("units", "s/unit", "left"):
        found.add_column(head, justify="right", no_wrap=True)
    for head in overview.heads(progress):
        found.add_column(head, justify="right", no_wrap=True)
    block = None
    for row in overview.rows(progress):
        if row.block != block:
            found.add_section()
            block = row.block
            if block:
                found.add_row(f"[italic]{_plain(block)}[/italic]")
        label = _plain(row.label)
        cells = [_plain(cell) for cell in row.cells]
        pace = ["", ""]
        if row.seconds is not None:
            pace = [f"{row.seconds:.3g}", duration(row.seconds * row.waiting / workers) if row.waiting else ""]
        found.add_row(f"[bold]{label}[/bold]" if row.running else label, f"{row.done}/{row.total}", *pace, *cells)
    return Group(f"[bold]{_plain(spec.title)}[/bold]: mean accuracy so far", found)


def _show_table(table: "Table", console: "Console") -> None:
    """The finished table with its notes, in as many parts as the width of the screen asks for."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Drawn

    labels = [table.rows_heading, *(line.label for block in table.blocks for line in block.lines)]
    for corpus, columns in _parts(table, console.width - max(map(len, labels)) - 4):
        console.print(f"[bold]{_plain(table.title)}: {_plain(corpus)}[/bold]", soft_wrap=True)
        drawn = Drawn(box=SIMPLE_HEAD)
        drawn.add_column(table.rows_heading, no_wrap=True)
        for head, _, style in columns:
            drawn.add_column(head, justify="right", no_wrap=True, style=style)
        row = 0
        for block in table.blocks:
            if block.title:
                drawn.add_section()
                drawn.add_row(f"[italic]{_plain(block.title)}[/italic]")
            for line in block.lines:
                drawn.add_row(_plain(line.label), *(_plain(cells[row]) for _, cells, _ in columns))
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
            texts = [f"{render.measured(one, after='*')} {render.interval(one, '{:.0f}')}".rstrip() for one in figures]
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


def _show_state(progress: "Progress", ledger: "Ledger", history: bool) -> None:
    """What `--dry-run` and `--status` print."""
    console = _console(sys.stdout)
    console.print(_rows(progress))
    waiting = progress.total - len(progress.done)
    cannot = sum(planned.expected for planned in progress.plan.planned if planned.problem)
    console.print(
        f"{len(progress.done)} units are done, {waiting} would run, {cannot} wait for embeddings."
        if not history
        else f"{len(progress.done)} of {progress.total + cannot} units are done, {cannot} wait for embeddings."
    )
    if history:
        _show_history(progress, ledger, console)
    else:
        for planned in progress.plan.planned:
            left = [unit.fold.index + 1 for unit in planned.units if unit.name not in progress.done]
            if left:
                folds = "all folds" if len(left) == len(planned.units) else f"folds {', '.join(map(str, left))}"
                console.print(f"  would run {planned.experiment.label}: {folds}", markup=False, soft_wrap=True)
    _say_missing(progress.plan, console)


def _show_history(progress: "Progress", ledger: "Ledger", console: "Console") -> None:
    """What the log says of the present: who works, how fast, what failed."""
    names = {unit.name for unit in progress.plan.units}
    working: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    finishes: list[float] = []
    for entry in ledger.events():
        unit = entry.get("unit")
        if entry["event"] in ("begin", "end", "stop"):
            working = {name: e for name, e in working.items() if (e["host"], e["pid"]) != (entry["host"], entry["pid"])}
        elif unit not in names:
            continue
        elif entry["event"] == "start":
            working[unit] = entry
        elif entry["event"] == "finish":
            working.pop(unit, None)
            failed.pop(unit, None)
            finishes.append(float(entry["time"]))
        elif entry["event"] == "fail":
            working.pop(unit, None)
            if not entry.get("again"):
                failed[unit] = str(entry.get("error", ""))
    import socket

    here = socket.gethostname()
    working = {
        name: entry
        for name, entry in working.items()
        if name not in progress.done and (entry["host"] != here or _alive(int(entry["pid"])))
    }
    by_sweep: dict[str, int] = {}
    for entry in working.values():
        sweep = f"{entry['host']}, process {entry['pid']}"
        by_sweep[sweep] = by_sweep.get(sweep, 0) + 1
    for sweep, number in by_sweep.items():
        console.print(f"{number} at work on {sweep}.", markup=False, soft_wrap=True)
    if not by_sweep:
        console.print("Nothing is at work now.")
    lately = [moment for moment in finishes if moment >= time.time() - 300]
    if by_sweep and len(lately) > 1:
        rate = (len(lately) - 1) / max(lately[-1] - lately[0], 1e-3)
        left = duration((progress.total - len(progress.done)) / rate)
        console.print(f"Lately {60 * rate:.3g} units/min: {left} left.")
    for name, error in list(failed.items())[:_SHOWN_FAILURES]:
        console.print(f"Failed: {name}: {error}", markup=False, soft_wrap=True)


def _alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        return True
    return False


def _say_missing(planned: "Plan", console: "Console") -> None:
    for item in planned.missing:
        names = ", ".join(item.inputs)
        console.print(f"Missing in {item.corpus}: {names}: {item.reason}", markup=False, soft_wrap=True)
        if item.command:
            console.print(f"  {item.command}", markup=False, soft_wrap=True)


def _say_failed(progress: "Progress", console: "Console") -> None:
    names = {unit.name: unit for unit in progress.plan.units}
    for name, error in list(progress.failed.items())[:_SHOWN_FAILURES]:
        console.print(f"FAILED {names[name].label}: {error}", markup=False, soft_wrap=True)
    if len(progress.failed) > _SHOWN_FAILURES:
        console.print(f"... and {len(progress.failed) - _SHOWN_FAILURES} more, see log.jsonl.")


def _write_tables(found: Any, ledger: "Ledger") -> None:
    from serfuse.durable import write_text
    from serfuse.sweep import render
    from serfuse.sweep.ledger import TABLES

    for form, name in TABLES.items():
        write_text(ledger.folder / name, render.render(found, form))


def _console(stream: Any) -> "Console":
    from rich.console import Console

    return Console(file=stream, highlight=False, width=None if stream.isatty() else 160)


def _plain(words: str) -> str:
    return words.replace("[", r"\[")


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM (a scheduler's polite end) stops the sweep as Ctrl-C does."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
