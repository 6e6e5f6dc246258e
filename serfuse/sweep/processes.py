"""Workers that are processes of this machine."""

import multiprocessing
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any

from .. import child_process, machine
from ..errors import SerfuseError
from ..experiment.config import DataConfig
from ..store import StorePath
from . import memory, worker
from .plan import CachedStore, Datasets, Unit
from .worker import Outcome, Task

_KEPT_DATASETS = 4
_CLOSE_SECONDS = 5.0


@dataclass
class _Worker:
    process: Any
    pipe: connection.Connection
    unit: Unit | None = None
    data: DataConfig | None = None
    growth: memory.Growth = field(default_factory=memory.Growth)


class ProcessEngine:
    """`jobs` processes, started when there is work and memory for them, each kept for many units.

    Args:
        store: root of the store.
        jobs: most processes.
        threads: of each process.
        budget: says whether memory allows for one more.
        log: file that gets what workers write to the screen; by default it is lost.
        devices: GPUs to spread the processes over; by default those of the machine.
        growth: bytes that a process may grow by before a new one takes its place, see `memory.GROWTH`.
    """

    def __init__(
        self,
        store: StorePath,
        jobs: int,
        threads: int,
        budget: memory.Budget,
        log: Path | None = None,
        *,
        devices: list[str] | None = None,
        growth: int = memory.GROWTH,
    ) -> None:
        self.workers = jobs
        self._growth = growth
        self._store, self._threads, self._budget, self._log = store, threads, budget, log
        self._devices = machine.gpus() if devices is None else devices
        self._alive: list[_Worker] = []
        self._alone: set[str] = set()

    def submit(self, unit: Unit) -> bool:
        """Start a unit on an idle worker, or on a new one."""
        busy = [one for one in self._alive if one.unit is not None]
        if busy and any(one.unit.name in self._alone for one in (*busy, _Worker(None, None, unit))):
            return False  # its process died before, maybe for want of memory: now it runs with nothing beside it
        place = unit.planned.experiment.config.data
        idle = sorted((one for one in self._alive if one.unit is None), key=lambda one: one.data != place)
        if busy and not self._fits(unit, busy, idle):
            for one in idle[1:]:  # what they hold may be what is lacking
                self._remove(one)
            if len(idle) < 2 or not self._fits(unit, busy, idle[:1]):
                return False
        if idle:
            chosen = idle[0]
        elif len(self._alive) < self.workers:
            chosen = self._start()
        else:
            return False
        planned = unit.planned
        try:
            chosen.pipe.send(Task(unit.name, planned.experiment.config, unit.fold, planned.fingerprint))
        except OSError:  # it died while idle
            self._remove(chosen)
            return False
        chosen.unit, chosen.data = unit, place
        return True

    def _fits(self, unit: Unit, busy: list[_Worker], idle: list[_Worker]) -> bool:
        """Whether memory allows for the unit, on the first idle worker if there is one."""
        own, *others = [memory.resident(one.process.pid) for one in idle] or [0]
        running = {one.process.pid: one.unit.planned.kind for one in busy}
        return self._budget.allows(unit.planned.kind, own, running, sum(others))

    def wait(self, seconds: float) -> list[Outcome]:
        """Units that ended meanwhile."""
        pipes = {one.pipe: one for one in self._alive if one.unit is not None}
        if not pipes:
            return []
        outcomes = []
        for pipe in connection.wait(list(pipes), seconds):
            one = pipes[pipe]
            try:
                outcome = one.pipe.recv()
            except (EOFError, OSError):
                one.process.join(_CLOSE_SECONDS)
                outcome = Outcome(one.unit.name, error=child_process.death(one.process.exitcode))
                self._alone.add(one.unit.name)
                self._remove(one)
            else:
                self._budget.learn(one.unit.planned.kind, outcome.facts.get("peak_bytes", 0))
                self._alone.discard(one.unit.name)
                if one.growth.too_much(outcome.facts.get("resident_bytes", 0), self._growth):
                    self._remove(one)  # the next unit gets a new process
            one.unit = None
            outcomes.append(outcome)
        return outcomes

    def close(self) -> None:
        """End all workers."""
        for one in self._alive:
            with suppress(OSError):
                one.pipe.close()
            one.process.terminate()
        for one in self._alive:
            one.process.join(_CLOSE_SECONDS)
            if one.process.is_alive():
                one.process.kill()
                one.process.join()
        self._alive.clear()

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
        taken = [one.process.name for one in self._alive]
        number = next(n for n in range(self.workers) if f"serfuse-{n}" not in taken)
        gpu = self._devices[number % len(self._devices)] if self._devices else None
        ours, theirs = context.Pipe()
        process = context.Process(
            target=serve,
            args=(theirs, str(self._store), None if self._log is None else str(self._log)),
            name=f"serfuse-{number}",
            daemon=True,
        )
        with child_process.variables(child_process.environment(self._threads, gpu)):
            process.start()
        theirs.close()
        self._alive.append(_Worker(process, ours))
        return self._alive[-1]

    def _remove(self, one: _Worker) -> None:
        one.pipe.close()
        if one.process.is_alive():
            one.process.kill()
        one.process.join()
        self._alive.remove(one)


def serve(pipe: connection.Connection, store: str, log: str | None) -> None:
    """A worker's life: take a task from the pipe, run it, send the outcome, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    child_process.end_with_parent()
    child_process.redirect(log)
    datasets = Datasets(CachedStore(store), keep=_KEPT_DATASETS)
    checked: dict[str, str] = {}
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            dataset = datasets.get(task.config)
        except SerfuseError as error:
            outcome = Outcome(task.unit, error=str(error))
        else:
            outcome = worker.run(task, dataset, checked)
        try:
            pipe.send(outcome)
        except OSError:
            return
