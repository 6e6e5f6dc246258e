"""Memory: measured per unit, and respected."""

import subprocess
import sys

import pytest

from serfuse.errors import ConfigError
from serfuse.sweep import memory
from serfuse.sweep.processes import ProcessEngine, _Worker

_MIB = 1 << 20


def test_a_peak_is_that_of_the_unit_not_of_the_process_before() -> None:
    """In a process of its own: in this one, what other tests left may be freed between the two measurements."""
    code = """
from serfuse.sweep import memory

before = b"x" * (400 << 20)
del before
memory.start_peak()
low = memory.peak()
block = b"x" * (100 << 20)
del block
print(memory.peak() - low)
"""
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 98 * _MIB < int(grown) < 110 * _MIB


def test_what_is_free_is_known() -> None:
    assert 0 < memory.available() < 1 << 50


@pytest.mark.parametrize(("text", "size"), [("8G", 8 << 30), ("1.5 GiB", 3 << 29), ("800MB", 800 << 20), ("12", 12)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert memory.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1G", "G", "nan", "inf"])
def test_what_is_no_size_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="Cannot read the size"):
        memory.parse_size(text)


def test_a_unit_starts_beside_others_only_if_both_fit(monkeypatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1000 * _MIB)
    monkeypatch.setattr(memory, "resident", lambda pid: 100 * _MIB)
    budget = memory.Budget()
    budget.learn("small", 200 * _MIB)
    budget.learn("large", 900 * _MIB)
    assert budget.need("small") == int(200 * _MIB * 1.15)
    assert budget.need("unknown") == int(memory.GUESS * 1.15), "what was never measured is taken for large"
    assert budget.allows("small", 0, {})
    assert budget.allows("small", 0, {1: "small", 2: "small"})
    assert not budget.allows("small", 0, {1: "large"}), "the other one is still growing"
    assert not budget.allows("large", 0, {})
    assert budget.allows("large", 100 * _MIB, {}), "what the worker has already counts"
    limited = memory.Budget(500 * _MIB)
    limited.learn("small", 200 * _MIB)
    assert limited.allows("small", 0, {1: "small"})
    assert not limited.allows("small", 0, {1: "small"}, idle=100 * _MIB), "a worker with nothing to do takes its part"
    assert not limited.allows("small", 0, {1: "small", 2: "small", 3: "small"})


@pytest.mark.parametrize(
    ("limit", "used", "folder", "cache"),
    [
        ("memory.max", "memory.current", "", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory", "total_inactive_file"),
    ],
)
def test_a_container_has_what_its_limit_leaves_and_files_read_lately_make_room(
    tmp_path, limit, used, folder, cache
) -> None:
    place = tmp_path / folder
    place.mkdir(exist_ok=True)
    (place / limit).write_text(f"{300 * _MIB}\n")
    (place / used).write_text(f"{290 * _MIB}\n")
    assert memory.available(tmp_path) == 10 * _MIB
    (place / "memory.stat").write_text(f"anon 5\n{cache} {100 * _MIB}\nslab 1\n")
    assert memory.available(tmp_path) == 110 * _MIB
    (place / limit).write_text("max\n")
    assert memory.available(tmp_path) > 110 * _MIB


@pytest.mark.slow
def test_with_too_little_memory_for_two_there_is_one_worker(make_plan, store, workers) -> None:
    engine = ProcessEngine(store.root, jobs=3, threads=1, budget=memory.Budget(_MIB), devices=[])
    units = make_plan().units
    try:
        assert engine.submit(units[0]), "one runs in any case"
        assert not engine.submit(units[1])
        assert len(workers()) == 1
        outcomes = engine.wait(240)
        assert outcomes[0].result is not None
        assert outcomes[0].facts["peak_bytes"] > 50 * _MIB
    finally:
        engine.close()


class _Stub:
    """A worker's process and its pipe."""

    def __init__(self, pid: int) -> None:
        self.pid, self.killed = pid, False
        self.sent: list[object] = []

    def send(self, task: object) -> None:
        self.sent.append(task)

    def is_alive(self) -> bool:
        return not self.killed

    def kill(self) -> None:
        self.killed = True

    def close(self) -> None: ...

    def join(self) -> None: ...


def test_a_worker_with_nothing_to_do_makes_room_for_one_that_has(make_plan, store, monkeypatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 9000 * _MIB)
    monkeypatch.setattr(memory, "resident", lambda pid: 300 * _MIB)
    units = make_plan().units
    for limit, left in ((1200, 2), (1600, 3)):
        budget = memory.Budget(limit * _MIB)
        budget.learn(units[0].planned.kind, 500 * _MIB)
        engine = ProcessEngine(store.root, jobs=3, threads=1, budget=budget, devices=[])
        engine._alive = [_Worker(_Stub(pid), _Stub(pid), units[0] if pid == 1 else None) for pid in (1, 2, 3)]
        assert engine.submit(units[1])
        assert len(engine._alive) == left
        assert [one.unit for one in engine._alive if one.unit] == units[:2]
