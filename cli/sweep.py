"""`serfuse sweep`: a whole table of cross-validations, resumable, on many processes or a cluster."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import sweep_status, sweep_view
from .progress import Progress
from .signals import terminated_like_interrupted
from .store_place import STORE

if TYPE_CHECKING:
    from serfuse.store import EmbeddingStore
    from serfuse.sweep.driver import Progress as State
    from serfuse.sweep.execution import Workers
    from serfuse.sweep.grid import Grid
    from serfuse.sweep.ledger import Ledger
    from serfuse.sweep.plan import Plan
    from serfuse.sweep.table import Table

_PATIENCE = 2.0  # seconds; planning and comparing mostly take less


@click.command()
@click.argument("sweep", required=False)
@click.option("--only", multiple=True, metavar="AXIS=VALUE", help="Narrow the table: corpus=emodb, model=cnn, row=W2.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change every cell's configuration.")
@click.option("--store", type=STORE, help="Embedding store [$SERFUSE_STORE or serfuse-store].")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the results [sweeps/<name>].")
@click.option("--jobs", type=click.IntRange(min=1), help="Units at once [one, or one per GPU; ray: all the cluster].")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of each unit [cores / jobs at the first call].")
@click.option("--memory", metavar="SIZE", help="Memory that all units together may take, such as 8G [what is free].")
@click.option("--engine", type=click.Choice(["processes", "ray"]), default="processes", show_default=True)
@click.option("--address", help="Of a running Ray cluster, with --engine ray [one is started here].")
@click.option("--retries", type=click.IntRange(min=0), default=1, show_default=True, help="For a unit that fails.")
@click.option("--dry-run", is_flag=True, help="Show what would run, what is done, and what is missing.")
@click.option("--status", is_flag=True, help="How far it is, also while another terminal runs it; without SWEEP: all.")
@click.option("--show", type=click.Choice(["text", "markdown", "csv", "latex", "html"]), help="Print the table only.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="No progress, only the table.")
@click.pass_context
def command(
    ctx: click.Context,
    sweep: str | None,
    only: tuple[str, ...],
    assignments: tuple[str, ...],
    store: str | Path | None,
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
    serfuse sweep --status

    SWEEP is a YAML file, or one that ships with serfuse: hyfuse_table1, hyfuse_table2, parrot_table1, parrot_table2,
    and floor_single and floor_pairs, which need no weights but those of soundstream-lyra.
    Every finished fold is kept at once: Ctrl-C, a crash or a full disk lose only what was at work, and the same
    command goes on. The table is written to the results' folder as Markdown, CSV, LaTeX and HTML. The exit code is 1
    when a unit failed.
    """
    if address is not None and engine != "ray":
        raise click.UsageError("--address is for --engine ray.")
    if address is not None and memory is not None:
        raise click.UsageError("--memory is for this machine; the machines of a Ray cluster say what they have.")
    if sweep is None and not status:
        raise click.UsageError("Missing argument 'SWEEP': a YAML file, or one that ships, such as hyfuse_table1.")
    if sweep is None:
        sweep_status.all_sweeps(out or Path("sweeps"), as_json)
        return
    from serfuse.store import EmbeddingStore, default_root
    from serfuse.sweep import driver, execution, grid, spec
    from serfuse.sweep import memory as memories
    from serfuse.sweep.ledger import Ledger

    content, name = spec.read(sweep)
    asked = grid.expand(content, only, assignments)
    planned = _plan(asked, EmbeddingStore(store or default_root()), quiet or as_json)
    ledger = Ledger(out or Path("sweeps") / name)
    if show is not None:
        found = _table(planned, ledger, quiet)
        if show == "text":
            sweep_view.show_table(found, sweep_view.console_of(sys.stdout))
        else:
            from serfuse.sweep import render

            click.echo(render.render(found, show), nl=False)
        return
    if dry_run or status:
        progress = driver.look(planned, ledger)
        if as_json:
            found = sweep_status.facts(progress, ledger)
            click.echo(json.dumps(found, indent=2))
        else:
            sweep_view.show_state(progress, ledger, history=status)
        return
    if memory is not None:
        memories.parse_size(memory)
    ledger.create()
    execution.remember(ledger, sweep, only, assignments, planned.store.root)
    workers = execution.Workers(jobs, threads, memory, engine, address, retries)
    progress = _run(planned, ledger, workers, quiet or as_json)
    with Progress(quiet=quiet or as_json, patience=_PATIENCE) as shown:
        found = execution.tables(planned, ledger, only, assignments, shown)
    if as_json:
        click.echo(json.dumps({"folder": str(ledger.folder), **driver.summary(progress)}, indent=2))
    else:
        console = sweep_view.console_of(sys.stdout)
        sweep_view.show_table(found, console)
        console.print(f"\nTable and runs: {ledger.folder}", markup=False, soft_wrap=True)
        sweep_view.say_missing(planned, console)
        if not planned.units:
            console.print("Nothing could run yet: make what is missing, then give the same command again.")
        sweep_view.say_failed(progress, console)
    ctx.exit(1 if progress.failed else 0)


def _run(planned: "Plan", ledger: "Ledger", workers: "Workers", quiet: bool) -> "State":
    """Start the engine, run, and show how it goes."""
    from serfuse.sweep import driver, execution

    def warn(sentence: str) -> None:
        if not quiet:
            click.echo(sentence, err=True)

    with terminated_like_interrupted():
        try:
            engine = execution.start(planned, ledger, workers, warn)
            with sweep_view.LiveView(quiet) as view:
                return driver.run(planned, ledger, engine, retries=workers.retries, report=view.report)
        except KeyboardInterrupt:
            progress = driver.look(planned, ledger)
            click.echo(
                f"\nStopped: {len(progress.done)} of {progress.total} units are finished and safe in {ledger.folder}. "
                "The same command goes on.",
                err=True,
            )
            raise click.exceptions.Exit(130) from None


def _plan(asked: "Grid", store: "EmbeddingStore", quiet: bool) -> "Plan":
    from serfuse.sweep import plan

    with Progress(quiet=quiet, patience=_PATIENCE) as shown:
        return plan.make(asked, store, shown)


def _table(planned: "Plan", ledger: "Ledger", quiet: bool) -> "Table":
    from serfuse.sweep import table

    with Progress(quiet=quiet, patience=_PATIENCE) as shown:
        return table.make(planned, ledger, shown)
