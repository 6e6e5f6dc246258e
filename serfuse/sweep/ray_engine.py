"""Workers that are actors of a Ray cluster.

Data go to the workers through Ray's object store and results come back the same way: the machines of the cluster need
serfuse with the same versions, but neither the store nor the folder of the sweep.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import child_process, ray_cluster
from ..errors import RunError, SerfuseError
from ..experiment import threads as processors
from ..store import StorePath
from . import memory, worker
from .plan import CachedStore, Datasets, Unit
from .worker import Outcome, Task

_KEPT_DATASETS = 4


@dataclass(eq=False)
class _Worker:
    """An actor.

    Attributes:
        actor: its handle.
        memory: bytes it asked the cluster for.
        placed: answers when a machine has taken it in; `None` once that is known.
        growth: of its process.
    """

    actor: Any
    memory: int
    placed: Any
    growth: memory.Growth = field(default_factory=memory.Growth)


class RayEngine:
    """One actor for each worker, kept for many units; an actor that dies is replaced.

    An actor asks for the memory that its first unit is expected to take. One that asked for less than the next unit
    needs makes room for a new one.

    Args:
        store: root of the store, read by this process only.
        jobs: most actors; `None` for as many as the cluster has room for.
        threads: processor cores of each actor.
        address: of a running cluster ("auto", "10.0.0.1:6379", "ray://..."); `None` starts one here.
        budget: tells how much memory an actor asks for, and limits that of a cluster started here.

    Raises:
        ConfigError: Ray is not installed.
        RunError: no cluster at that address, none could be started, or no machine of it has so many cores.
    """

    def __init__(
        self, store: StorePath, jobs: int | None, threads: int, address: str | None, budget: memory.Budget
    ) -> None:
        here = (jobs or max(1, processors.cores() // threads)) * threads
        self._ray, self._owned = ray_cluster.connect(address, here, budget.limit)
        self._threads, self._budget = threads, budget
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self._gpu = 1 if any(machine.get("GPU", 0) >= 1 for machine in machines) else 0
        self._largest = max((int(machine.get("memory", 0)) for machine in machines), default=0)
        room = sum(_room(machine, threads, self._gpu) for machine in machines)
        if not room:
            self.close_cluster()
            raise RunError(
                f"No machine of the Ray cluster has {threads} processor cores for a unit (the largest has "
                f"{max((int(machine.get('CPU', 0)) for machine in machines), default=0)}). Give fewer --threads."
            )
        self.workers = room if jobs is None else min(jobs, room)
        self._datasets = Datasets(CachedStore(store), keep=_KEPT_DATASETS)
        self._shared: dict[tuple[Any, ...], Any] = {}
        self._idle: list[_Worker] = []
        self._busy: dict[Any, tuple[_Worker, Unit]] = {}
        self._ended: list[Outcome] = []
        self._Actor = self._ray.remote(_Actor)

    def submit(self, unit: Unit) -> bool:
        """Start a unit on an idle actor, or on a new one."""
        if not self._idle and len(self._busy) >= self.workers:
            return False
        planned = unit.planned
        try:
            data = self._data(unit)
        except (SerfuseError, self._ray.exceptions.RayError) as error:  # the store has changed, no room for the data
            self._ended.append(Outcome(unit.name, error=str(error)))
            return True
        chosen = self._take(self._need(planned.kind))
        task = Task(unit.name, planned.experiment.config, unit.fold, planned.fingerprint)
        self._busy[chosen.actor.run.remote(task, data)] = (chosen, unit)
        return True

    def wait(self, seconds: float) -> list[Outcome]:
        """Units that ended meanwhile."""
        outcomes, self._ended = self._ended, []
        if outcomes or not self._busy:
            return outcomes
        self._make_room()
        ready, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=seconds)
        more, _ = self._ray.wait(list(self._busy), num_returns=len(self._busy), timeout=0)
        for reference in {*ready, *more}:
            one, unit = self._busy.pop(reference)
            try:
                outcome = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                outcome = Outcome(unit.name, error=f"the worker is lost: {reason}")
                self._ray.kill(one.actor)
            else:
                self._budget.learn(unit.planned.kind, outcome.facts.get("peak_bytes", 0))
                if one.growth.too_much(outcome.facts.get("resident_bytes", 0)):
                    self._ray.kill(one.actor)  # the next unit gets a new one
                else:
                    self._idle.append(one)
            outcomes.append(outcome)
        return outcomes

    def close(self) -> None:
        """End the actors, and the cluster if it was started here."""
        for one in (*self._idle, *(one for one, _ in self._busy.values())):
            self._ray.kill(one.actor)
        self._idle.clear()
        self._busy.clear()
        self._shared.clear()
        self.close_cluster()

    def close_cluster(self) -> None:
        """Let go of the cluster; one that was started here ends."""
        if self._owned:
            self._ray.shutdown()

    def _need(self, kind: str) -> int:
        """Bytes to ask for: Ray starts no more actors on a machine than have room, and one must find a place."""
        return min(self._budget.need(kind), self._largest)

    def _take(self, need: int) -> _Worker:
        """An idle actor that asked for so much memory, or a new one in the place of one that asked for less."""
        for number, one in enumerate(self._idle):
            if one.memory >= need:
                return self._idle.pop(number)
        if self._idle:
            self._ray.kill(self._idle.pop().actor)
        environment = {**worker.shared_environment(), **child_process.environment(self._threads, None)}
        actor = self._Actor.options(
            num_cpus=self._threads,
            num_gpus=self._gpu,
            memory=need,
            max_concurrency=1,
            runtime_env={"env_vars": environment},
        ).remote()
        return _Worker(actor, need, actor.ready.remote())

    def _make_room(self) -> None:
        """End actors that have nothing to do while another waits for a machine to take it in."""
        waiting = [one for one, _ in self._busy.values() if one.placed is not None]
        if not waiting or not self._idle:
            return
        known, _ = self._ray.wait([one.placed for one in waiting], num_returns=len(waiting), timeout=0)
        for one in waiting:
            if one.placed in known:
                one.placed = None
        if any(one.placed is not None for one in waiting):
            while self._idle:
                self._ray.kill(self._idle.pop().actor)

    def _data(self, unit: Unit) -> Any:
        """The unit's data set in the cluster's object store."""
        place = unit.planned.experiment.config.data
        if place not in self._shared:
            self._shared[place] = self._ray.put(self._datasets.get(unit.planned.experiment.config))
            while len(self._shared) > _KEPT_DATASETS + self.workers:  # those at work hold on to theirs
                del self._shared[next(iter(self._shared))]
        return self._shared[place]


class _Actor:
    """What runs in a worker of the cluster."""

    def __init__(self) -> None:
        self._checked: dict[str, str] = {}

    def ready(self) -> None:
        """Returns once a machine has taken this actor in."""

    def run(self, task: Task, dataset: Any) -> Outcome:
        return worker.run(task, dataset, self._checked)


def _room(machine: Mapping[str, float], threads: int, gpu: int) -> int:
    """How many actors one machine can hold."""
    room = int(machine.get("CPU", 0) // threads)
    return min(room, int(machine.get("GPU", 0))) if gpu else room
