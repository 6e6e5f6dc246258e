"""A sweep in one call: planned, run on an engine, its table made and written."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .. import machine
from ..atomic_io import write_text
from ..errors import ConfigError
from ..experiment import threads as processors
from ..progress import Observer
from ..store import EmbeddingStore, StorePath
from ..store.files import check_shared
from . import driver, grid, memory, plan, render, spec, table
from .engine import Engine
from .ledger import TABLES, Ledger
from .plan import Missing, Plan
from .table import Table


@dataclass(frozen=True)
class Workers:
    """What runs the units of a sweep.

    Attributes:
        jobs: units at once; by default one, or one per GPU, and with Ray all that the cluster has.
        threads: of each unit; by default the cores shared among the jobs of the first call.
        memory: what all units together may take, "8G"; by default what is free.
        engine: "processes" of this machine, or "ray".
        address: of a running Ray cluster; one is started here without.
        retries: how often a unit that fails is tried again.
    """

    jobs: int | None = None
    threads: int | None = None
    memory: str | None = None
    engine: Literal["processes", "ray"] = "processes"
    address: str | None = None
    retries: int = 1


@dataclass(frozen=True)
class SweepResult:
    """What a call of `run_sweep` left.

    Attributes:
        folder: of the results: the run folders in `runs/`, and the table in four formats.
        table: what was asked for, as far as it is finished.
        failed: message of each unit that failed, by its name.
        missing: embeddings that the store lacks, with the commands that make them.
    """

    folder: Path
    table: Table
    failed: dict[str, str]
    missing: tuple[Missing, ...]

    def text(self, form: str = "markdown") -> str:
        """The table as "markdown", "csv", "latex" or "html"."""
        return render.render(self.table, form)


def run_sweep(
    sweep: Path | str | Mapping[str, Any],
    store: EmbeddingStore | StorePath | str,
    out: Path | str | None = None,
    *,
    only: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    workers: Workers | None = None,
    observer: Observer | None = None,
) -> SweepResult:
    """Run what is not finished of a table of cross-validations, and give the table. See docs/sweeps.md.

    A script that calls this needs `if __name__ == "__main__":`, as all do whose work is done by processes.

    Args:
        sweep: a sweep file, one that ships by its name, or the values of one.
        store: the store, or its folder.
        out: folder of the results, by default `sweeps/<name of the file>`.
        only: restrictions such as `"corpus=emodb"`.
        overrides: keys to change in every cell's configuration, such as `{"training.epochs": 5}`.
        workers: what runs the units.
        observer: hears of the planning, of each unit that is done, and of what fails.

    Raises:
        ConfigError: the sweep file, a restriction or a setting is not valid, or there is no name to call the folder by.
        StoreError: the store is damaged.
        SplitError: no corpus can be split as asked.
        RunError: the folder cannot be written, or is of another sweep.
    """
    if isinstance(sweep, Mapping):
        content, name = spec.validate(sweep, "given"), None
    else:
        content, name = spec.read(str(sweep))
    if out is None and name is None:
        raise ConfigError("A sweep that is given by its values has no name. Say by `out` which folder it is for.")
    workers, observer = workers or Workers(), observer or Observer()
    assignments = [f"{key}={json.dumps(value)}" for key, value in (overrides or {}).items()]
    held = EmbeddingStore.of(store)
    planned = plan.make(grid.expand(content, only, assignments), held, observer)
    ledger = Ledger(Path(out) if out is not None else Path("sweeps") / str(name))
    ledger.create()
    if name is not None:
        remember(ledger, str(sweep), only, assignments, held.root)
    running = start(planned, ledger, workers, observer.say)
    reported = _Reported(observer)
    observer.begin("running", len(planned.units), "unit")
    try:
        progress = driver.run(planned, ledger, running, retries=workers.retries, report=reported)
    finally:
        observer.end()
    found = tables(planned, ledger, only, assignments, observer)
    return SweepResult(ledger.folder, found, dict(progress.failed), planned.missing)


class _Reported:
    """Tells an observer what the driver reports."""

    def __init__(self, observer: Observer) -> None:
        self._observer, self._done = observer, -1

    def __call__(self, progress: driver.Progress, news: str) -> None:
        if news:
            self._observer.say(news)
        if len(progress.done) != self._done:
            self._done = len(progress.done)
            self._observer.advance(self._done)


def remember(ledger: Ledger, sweep: str, only: Sequence[str], assignments: Sequence[str], store: StorePath) -> None:
    """Note what a call asks for, so that `serfuse sweep --status` can tell how far it is."""
    place = str(Path(sweep).resolve()) if Path(sweep).is_file() else sweep
    ledger.log("call", sweep=place, only=list(only), set=list(assignments), store=str(store.resolve()))


def start(planned: Plan, ledger: Ledger, workers: Workers, warn: Callable[[str], None]) -> Engine:
    """Start what runs the units; `driver.run` closes it.

    Args:
        planned: what is to run.
        ledger: whose first call settles the threads of each unit.
        workers: what is asked for.
        warn: told where the threads that are settled are too many for the jobs.

    Raises:
        ConfigError: the memory is no size, or Ray is not installed.
        RunError: other threads are asked for than the first call settled.
    """
    budget = memory.Budget(memory.parse_size(workers.memory) if workers.memory else None)
    progress = driver.look(planned, ledger)
    for unit in planned.units:
        if unit.name in progress.done:
            budget.learn(unit.planned.kind, progress.done[unit.name].peak_bytes)
    jobs, kind = workers.jobs, workers.engine
    if len(progress.done) == progress.total:
        jobs, kind = 1, "processes"  # nothing to run: no cluster for that
    if kind == "processes":
        jobs = jobs or max(1, len(machine.gpus()))
    cores = processors.cores()
    if workers.threads:
        ledger.set_threads(workers.threads)
    threads = ledger.threads(workers.threads or max(1, cores // (jobs or cores)))
    if kind == "ray":
        from .ray_engine import RayEngine

        return RayEngine(planned.store.root, jobs, threads, workers.address, budget)
    if jobs > 1 and jobs * threads > cores:
        warn(
            f"{jobs} processes of {threads} threads each, as in the first call, share {cores} cores. "
            f"--threads {max(1, cores // jobs)} is faster, but changes the last digits of what is to come."
        )
    from .processes import ProcessEngine

    check_shared(planned.store.root)

    return ProcessEngine(planned.store.root, jobs or 1, threads, budget, ledger.folder / "workers.log")


def tables(
    planned: Plan, ledger: Ledger, only: Sequence[str], assignments: Sequence[str], observer: Observer | None = None
) -> Table:
    """Write the whole table into the folder of a sweep, and give the part that was asked for.

    Raises:
        RunError: a finished run cannot be read.
    """
    found = whole = table.make(planned, ledger, observer)
    if len(grid.of_seeds(only)) < len(only):  # the files hold every row and column, those of earlier calls too
        everything = grid.expand(planned.grid.spec, grid.of_seeds(only), assignments)
        whole = table.make(plan.make(everything, planned.store, observer), ledger, observer)
    for form, name in TABLES.items():
        write_text(ledger.folder / name, render.render(whole, form))
    return found
