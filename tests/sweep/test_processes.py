"""Sweeps as processes: what SIGKILL, dying workers and a second sweep may and may not do."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from serfuse import machine
from serfuse.store import EmbeddingStore
from serfuse.sweep import driver, memory, render, table
from serfuse.sweep.ledger import Ledger
from serfuse.sweep.processes import ProcessEngine

KILLS = 4
SEEDS = 4


def _start(sweep: Path, store: EmbeddingStore, out: Path, *more: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "serfuse.cli", "sweep", str(sweep), "--store", str(store.root), "--out", str(out)]
    code = "from serfuse.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *command[3:], *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def _finish(process: "subprocess.Popen[str]") -> str:
    try:
        output, _ = process.communicate(timeout=900)  # a machine with much else to do
    finally:
        process.kill()
    assert process.returncode == 0, output
    return output


def _events(out: Path, event: str) -> list[str]:
    return [entry["unit"] for entry in Ledger(out).events() if entry["event"] == event]


def _written(out: Path) -> dict[str, int]:
    """Every finished unit on disk, with what identifies this very writing of it."""
    return {
        f"{path.parent.parent.parent.name}/{path.parent.name}": path.stat().st_ino
        for path in out.glob("runs/*/.folds/r*/fold.json")
    }


@pytest.fixture
def sweep(tmp_path: Path, sweep_values: Callable[..., dict[str, Any]]) -> Path:
    path = tmp_path / "many.yaml"
    path.write_text(yaml.safe_dump(sweep_values(seeds=list(range(SEEDS)))), "utf-8")
    return path


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(make_plan, store, sweep: Path, tmp_path: Path, inline) -> None:
    seeds = list(range(SEEDS))
    plan = make_plan(seeds=seeds)
    straight = Ledger(tmp_path / "straight")
    driver.run(plan, straight, inline(store))

    out, moments = tmp_path / "killed", random.Random(6)
    orphans: list[psutil.Process] = []
    earlier: dict[str, int] = {}
    for life in range(KILLS):
        before = len(_events(out, "finish")) if life else 0
        process = _start(sweep, store, out, "--threads", "1", "--jobs", str(1 + life % 2))
        # Mostly some units into the work, so that four lives are enough for it; now and then during the start.
        wanted = 0 if life % 4 == 3 else moments.randint(1, 7)
        deadline = time.monotonic() + 60
        while wanted and len(_events(out, "finish")) - before < wanted and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 2.0 if not wanted else 0.15))
        assert process.poll() is None, "it was over before it was killed"
        at_work = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        orphans += at_work
        written = _written(out)
        if earlier:
            assert written.items() >= earlier.items(), "a unit that was written is written once"
        earlier = written
    _, alive = psutil.wait_procs(orphans, timeout=60)
    assert not alive, "workers end with their sweep"
    assert 0 < len(earlier) < len(plan.units), "the kills fell into the middle of the work"

    _finish(_start(sweep, store, out))
    assert _written(out).items() >= earlier.items()
    finished = Counter(_events(out, "finish"))
    assert set(finished.values()) == {1} and len(_written(out)) == len(plan.units)
    seen: set[str] = set()
    for entry in Ledger(out).events():
        if entry["event"] == "start":
            assert entry["unit"] not in seen, "run again after it was written"
        elif entry["event"] == "finish":
            seen.add(entry["unit"])
    lost = Counter(_events(out, "start")) - finished
    assert sum(lost.values()) <= 2 * KILLS, "only units in flight are lost"

    again = Ledger(out)
    assert not list(again.folder.glob("runs/*/.folds/.r*")), "no half unit stays"
    for form in render.FORMS:
        assert render.render(table.make(plan, again), form) == render.render(table.make(plan, straight), form)
    for planned in plan.planned:
        ours, theirs = again.run_folder(planned), straight.run_folder(planned)
        assert (ours / "predictions.csv").read_bytes() == (theirs / "predictions.csv").read_bytes()


@pytest.mark.slow
def test_two_sweeps_on_one_folder_share_the_work(store, sweep: Path, tmp_path: Path) -> None:
    out, seeds = tmp_path / "shared", 2
    only = [text for seed in range(seeds) for text in ("--only", f"seed={seed}")]
    both = [_start(sweep, store, out, *only) for _ in range(2)]
    for process in both:
        _finish(process)
    starts, finishes = Counter(_events(out, "start")), Counter(_events(out, "finish"))
    assert len(finishes) == 15 * seeds and set(starts.values()) == set(finishes.values()) == {1}
    workers = {entry["pid"] for entry in Ledger(out).events() if entry["event"] == "finish"}
    assert len(workers) == 2, "both had a part in it"


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_its_unit_run_again(
    make_plan, store, folder, inline, workers, tmp_path
) -> None:
    plan, ledger = make_plan(), Ledger(folder)
    handed_out: list[str] = []

    class Deadly(ProcessEngine):
        def submit(self, unit: Any) -> bool:
            taken = super().submit(unit)
            if taken:
                handed_out.append(unit.name)
                if len(handed_out) == 5:
                    os.kill(next(one.process.pid for one in self._alive if one.unit is unit), signal.SIGKILL)
            return taken

    engine = Deadly(store.root, jobs=2, threads=1, budget=memory.Budget(), devices=[])
    progress = driver.run(plan, ledger, engine)
    assert len(progress.done) == 15 and not progress.failed and not workers()
    assert [name for name, times in Counter(handed_out).items() if times == 2] == [handed_out[4]]
    failures = [entry for entry in ledger.events() if entry["event"] == "fail"]
    assert len(failures) == 1 and "SIGKILL" in failures[0]["error"]
    assert set(Counter(_events(folder, "finish")).values()) == {1}
    straight = Ledger(tmp_path / "straight")
    driver.run(plan, straight, inline(store))
    assert render.comma(table.make(plan, ledger)) == render.comma(table.make(plan, straight))


@pytest.mark.parametrize(
    ("shown", "names"), [("", []), ("-1", []), ("5,7", ["5", "7"]), ("GPU-8, 2", ["GPU-8", "2"]), ("3,-1,4", ["3"])]
)
def test_gpus_are_those_that_cuda_would_show(shown: str, names: list[str], monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert machine.gpus() == names


@pytest.mark.slow
def test_each_worker_has_its_threads_and_a_gpu_of_its_own(make_plan, store, workers, monkeypatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 64 << 30)
    engine = ProcessEngine(store.root, jobs=2, threads=3, budget=memory.Budget(), devices=["5", "7"])
    try:
        assert all(engine.submit(unit) for unit in make_plan().units[:2])
        outcomes = engine.wait(240)
        while len(outcomes) < 2:
            outcomes += engine.wait(240)
        assert [outcome.facts["threads"] for outcome in outcomes] == [3, 3]
        # Only now: right after its start a process still shows the variables of the one that started it.
        environments = [one.environ() for one in workers()]
    finally:
        engine.close()
    for shown in environments:
        assert shown["TF_NUM_INTRAOP_THREADS"] == shown["TF_NUM_INTEROP_THREADS"] == shown["OMP_NUM_THREADS"] == "3"
    assert [shown["CUDA_VISIBLE_DEVICES"] for shown in environments] == ["5", "7"]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") != "5", "the variables are the worker's alone"


def test_a_worker_refuses_other_data_than_were_planned_for(make_plan, make_store, store, tmp_path) -> None:
    grown = make_store({"hubert": 12}, corpus="emodb", speakers=5, root=tmp_path / "grown")
    engine = ProcessEngine(grown.root, jobs=1, threads=1, budget=memory.Budget(), devices=[])
    try:
        assert engine.submit(make_plan().units[0])
        assert "are not those that the sweep was planned with" in engine.wait(240)[0].error
    finally:
        engine.close()


@pytest.mark.slow
def test_networks_give_the_same_figures_in_whichever_worker_and_one_that_has_grown_is_replaced(
    make_plan, store, tmp_path
) -> None:
    """Which units a worker trained before, and in which order, leaves no trace.

    Networks leave something behind in a process; a sweep of thousands must not end for want of memory.
    """
    plan = make_plan(("row=hubert",), models={"fcn": {}}, settings={"training": {"epochs": 2}, "split": {"folds": 3}})
    found, workers = [], []
    for jobs, growth in ((1, -1), (2, memory.GROWTH)):  # any growth is too much, even none
        ledger = Ledger(tmp_path / f"jobs{jobs}")
        engine = ProcessEngine(store.root, jobs=jobs, threads=1, budget=memory.Budget(), devices=[], growth=growth)
        progress = driver.run(plan, ledger, engine)
        assert len(progress.done) == 3 and not progress.failed
        finished = [entry for entry in ledger.events() if entry["event"] == "finish"]
        assert all(entry["resident_bytes"] > 0 for entry in finished)
        assert not [entry for entry in ledger.events() if entry["event"] == "fail"]
        workers.append(len({entry["worker"] for entry in finished}))
        found.append((ledger.run_folder(plan.planned[0]) / "predictions.csv").read_bytes())
    assert workers == [3, 2], "the one worker was replaced after each unit"
    assert found[0] == found[1]


@pytest.mark.slow
def test_control_c_is_clean(store, sweep: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    process = _start(sweep, store, out, "--jobs", "2")
    while len(_events(out, "finish")) < 3:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in output
    done = len(_written(out))
    assert f"Stopped: {done} of {15 * SEEDS} units are finished and safe" in output
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    assert [entry["event"] for entry in Ledger(out).events()][-1] == "stop"
