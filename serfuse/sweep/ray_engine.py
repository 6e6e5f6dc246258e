"""Workers that are actors of a Ray cluster.

Data go to the workers through Ray's object store and results come back the same way: the machines of the cluster need
serfuse with the same versions, but neither the store nor the folder of the sweep.
"""

import logging
from pathlib import Path
from typing import Any

from ..errors import ConfigError, RunError
from . import engine, memory, worker
from .plan import CachedStore, Datasets, Unit
from .worker import Outcome, Task

_KEPT_DATASETS = 4


class RayEngine:
    """One actor for each worker, kept for many units; an actor that dies is replaced.

    Args:
        store: root of the store, read by this process only.
        jobs: most actors; `None` for as many as the cluster has room for.
        threads: processor cores of each actor.
        address: of a running cluster ("auto", "10.0.0.1:6379", "ray://..."); `None` starts one here.
        budget: tells how much memory an actor asks for.

    Raises:
        ConfigError: Ray is not installed.
        RunError: no cluster at that address, or none could be started.
    """

    def __init__(self, store: Path, jobs: int | None, threads: int, address: str | None, budget: memory.Budget) -> None:
        try:
            import ray
        except ImportError:
            raise ConfigError("--engine ray needs Ray: pip install 'serfuse[ray]'") from None
        self._ray, self._threads, self._budget = ray, threads, budget
        self._owned = not ray.is_initialized()
        if self._owned:
            _connect(ray, jobs, threads, address)
        resources = ray.cluster_resources()
        self._largest = max(
            (int(node["Resources"].get("memory", 0)) for node in ray.nodes() if node["Alive"]), default=0
        )
        self._gpu = 1 if resources.get("GPU", 0) >= 1 else 0
        room = int(resources.get("CPU", 1) // threads)
        if self._gpu:
            room = min(room, int(resources["GPU"]))
        self.workers = max(1, room if jobs is None else min(jobs, room) if address else jobs)
        self._datasets = Datasets(CachedStore(store), keep=_KEPT_DATASETS)
        self._shared: dict[tuple[Any, ...], Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Unit]] = {}
        self._growth: dict[Any, memory.Growth] = {}
        self._Actor = ray.remote(_Actor)

    def submit(self, unit: Unit) -> bool:
        """Start a unit on an idle actor, or on a new one."""
        if not self._idle and len(self._busy) >= self.workers:
            return False
        planned = unit.planned
        actor = self._idle.pop() if self._idle else self._start(planned.kind)
        task = Task(unit.name, planned.experiment.config, unit.fold, planned.fingerprint)
        self._busy[actor.run.remote(task, self._data(unit))] = (actor, unit)
        return True

    def wait(self, seconds: float) -> list[Outcome]:
        """Units that ended meanwhile."""
        if not self._busy:
            return []
        ready, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=seconds)
        more, _ = self._ray.wait(list(self._busy), num_returns=len(self._busy), timeout=0)
        outcomes = []
        for reference in {*ready, *more}:
            actor, unit = self._busy.pop(reference)
            try:
                outcome = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                outcome = Outcome(unit.name, error=f"the worker is lost: {reason}", crashed=True)
                self._ray.kill(actor)
                del self._growth[actor]
            else:
                self._budget.learn(unit.planned.kind, outcome.facts.get("peak_bytes", 0))
                if self._growth[actor].too_much(outcome.facts.get("resident_bytes", 0)):
                    self._ray.kill(actor)  # the next unit gets a new one
                    del self._growth[actor]
                else:
                    self._idle.append(actor)
            outcomes.append(outcome)
        return outcomes

    def close(self) -> None:
        """End the actors, and the cluster if it was started here."""
        for actor in (*self._idle, *(actor for actor, _ in self._busy.values())):
            self._ray.kill(actor)
        self._idle.clear()
        self._busy.clear()
        self._shared.clear()
        if self._owned:
            self._ray.shutdown()

    def _data(self, unit: Unit) -> Any:
        """The unit's data set in the cluster's object store."""
        data = unit.planned.experiment.config.data
        place = (data.corpus, data.a, data.b, data.pooling)
        if place not in self._shared:
            self._shared[place] = self._ray.put(self._datasets.get(unit.planned.experiment.config))
            while len(self._shared) > _KEPT_DATASETS + self.workers:  # those at work hold on to theirs
                del self._shared[next(iter(self._shared))]
        return self._shared[place]

    def _start(self, kind: str) -> Any:
        environment = {**worker.shared_environment(), **worker.environment(self._threads, None)}
        actor = self._Actor.options(
            num_cpus=self._threads,
            num_gpus=self._gpu,
            # Ray starts no more actors on a machine than have room; one must always find a place.
            memory=min(self._budget.need(kind), self._largest),
            max_concurrency=1,
            runtime_env={"env_vars": environment},
        ).remote()
        self._growth[actor] = memory.Growth()
        return actor


class _Actor:
    """What runs in a worker of the cluster."""

    def __init__(self) -> None:
        self._checked: dict[str, str] = {}

    def run(self, task: Task, dataset: Any) -> Outcome:
        return worker.run(task, dataset, self._checked)


def _connect(ray: Any, jobs: int | None, threads: int, address: str | None) -> None:
    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        number = (jobs or max(1, engine.cores() // threads)) * threads
        settings.update(address="local", num_cpus=number, include_dashboard=False)
    else:
        settings.update(address=address)
    try:
        ray.init(**settings)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"at {address}" if address else "here"
        raise RunError(f"No Ray cluster {where}: {error}") from None
