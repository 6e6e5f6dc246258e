"""Small sweeps on stand-in stores, and an engine that runs units in the calling process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from serfuse.store import EmbeddingStore
from serfuse.sweep import grid, plan, spec, worker
from serfuse.sweep.plan import CachedStore, Datasets, Plan, Unit
from serfuse.sweep.worker import Outcome, Task


@pytest.fixture
def workers() -> Callable[[], list[psutil.Process]]:
    """The worker processes of this one that are alive, the oldest first."""

    def alive() -> list[psutil.Process]:
        children = [one for one in psutil.Process().children() if any("spawn_main" in part for part in one.cmdline())]
        return sorted(children, key=lambda one: one.create_time())

    return alive


class InlineEngine:
    """Runs each unit when it is waited for. `fail` decides which units fail, by name and attempt."""

    workers = 1

    def __init__(self, store: EmbeddingStore, fail: Callable[[str, int], bool] = lambda unit, attempt: False) -> None:
        self._datasets = Datasets(CachedStore(store.root))
        self._fail = fail
        self._unit: Unit | None = None
        self.ran: list[str] = []
        self.closed = False

    def submit(self, unit: Unit) -> bool:
        assert self._unit is None
        self._unit = unit
        return True

    def wait(self, seconds: float) -> list[Outcome]:
        unit, self._unit = self._unit, None
        self.ran.append(unit.name)
        if self._fail(unit.name, self.ran.count(unit.name)):
            return [Outcome(unit.name, error="it broke")]
        config, mark = unit.planned.experiment.config, unit.planned.fingerprint
        return [worker.run(Task(unit.name, config, unit.fold, mark), self._datasets.get(config))]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def inline() -> type[InlineEngine]:
    return InlineEngine


def values(**changes: Any) -> dict[str, Any]:
    """A sweep of support vector machines on three representations: 15 units that take milliseconds."""
    return {
        "title": "Three",
        "corpora": {"emodb": "Emo-DB"},
        "models": {"svm": {"heading": "SVM"}},
        "blocks": [{"title": "All", "rows": ["hubert", "wavlm", "wav2vec2"]}],
        **changes,
    }


@pytest.fixture
def sweep_values() -> Callable[..., dict[str, Any]]:
    return values


@pytest.fixture
def store(make_store: Callable[..., EmbeddingStore]) -> EmbeddingStore:
    return make_store({"hubert": 12, "wavlm": 8, "wav2vec2": 10}, corpus="emodb", noise=2.0)


@pytest.fixture
def make_plan(store: EmbeddingStore) -> Callable[..., Plan]:
    """`make_plan(only=..., models=...)`: the small sweep, changed as asked, joined with the small store."""

    def make(only: tuple[str, ...] = (), at: EmbeddingStore | None = None, **changes: Any) -> Plan:
        return plan.make(grid.expand(spec.validate(values(**changes), "a test"), only), at or store)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sweep"
