"""The same units on a Ray cluster of two nodes, one of whose workers is killed in mid-run."""

import time
from collections import Counter
from contextlib import suppress
from typing import Any

import psutil
import pytest

from serfuse.errors import RunError
from serfuse.sweep import driver, memory, render, table
from serfuse.sweep.ledger import Ledger

ray = pytest.importorskip("ray")

pytestmark = [
    pytest.mark.slow,
    # Ray 2.60's own start-up.
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]


def _works(process: psutil.Process) -> bool:
    """Whether it is one of Ray's workers with a unit in hand, which Ray shows as the process's title."""
    with suppress(psutil.Error):
        return process.cmdline()[:1] == ["ray::_Actor.run"]
    return False


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    found.add_node(num_cpus=1)
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(cluster, make_plan, store, folder, inline, tmp_path) -> None:
    from serfuse.sweep.ray_engine import RayEngine

    plan, ledger = make_plan(), Ledger(folder)
    handed_out: list[str] = []
    killed: list[psutil.Process] = []

    class Deadly(RayEngine):
        def submit(self, unit: Any) -> bool:
            taken = super().submit(unit)
            handed_out.extend([unit.name] if taken else [])
            return taken

    def kill_one(progress: driver.Progress, news: str) -> None:
        if killed or len(progress.done) < 4:
            return
        for process in psutil.Process().children(recursive=True):
            if _works(process):
                process.suspend()
                if _works(process):  # still in the middle of a unit, now that it cannot finish it
                    process.kill()
                    killed.append(process)
                    return
                process.resume()

    with pytest.raises(RunError, match=r"No machine of the Ray cluster has 3 .*the largest has 1.*fewer --threads"):
        RayEngine(store.root, None, 3, cluster.address, memory.Budget())
    workers = Deadly(store.root, None, 1, cluster.address, memory.Budget())
    assert workers.workers == 2, "one for each node"
    progress = driver.run(plan, ledger, workers, report=kill_one)
    assert killed and len(progress.done) == 15 and not progress.failed
    events = list(ledger.events())
    finished = Counter(entry["unit"] for entry in events if entry["event"] == "finish")
    assert set(finished.values()) == {1}
    failed = [entry for entry in events if entry["event"] == "fail"]
    assert len(failed) == 1 and "the worker is lost" in failed[0]["error"]
    assert handed_out.count(failed[0]["unit"]) == 2 and len(handed_out) == 16
    assert all(done.peak_bytes > 50 << 20 for done in progress.done.values())

    straight = Ledger(tmp_path / "straight")
    driver.run(plan, straight, inline(store))
    for form in render.FORMS:
        assert render.render(table.make(plan, ledger), form) == render.render(table.make(plan, straight), form)
    for planned in plan.planned:
        ours, theirs = ledger.run_folder(planned), straight.run_folder(planned)
        assert (ours / "predictions.csv").read_bytes() == (theirs / "predictions.csv").read_bytes()


@pytest.mark.slow
def test_memory_for_one_worker_is_no_reason_to_wait_for_ever(make_plan, make_store, store, folder, tmp_path) -> None:
    """The second actor finds no place beside the first: its unit runs when the first one has nothing to do."""
    from serfuse.sweep.ray_engine import RayEngine

    elsewhere = make_store({"dac": 4}, corpus="emodb", root=tmp_path / "elsewhere")
    foreign = make_plan(blocks=[{"rows": ["dac"]}], at=elsewhere).units[0]
    begun = time.monotonic()

    def patient(progress: driver.Progress, news: str) -> None:
        assert time.monotonic() - begun < 400, f"{len(progress.done)} units, then nothing"

    budget = memory.Budget(int(1.2 * memory.GUESS))
    assert budget.need("unknown") < budget.limit < 2 * budget.need("unknown")
    engine = RayEngine(store.root, 2, 1, None, budget)
    assert engine.workers == 2
    assert engine.submit(foreign)
    outcome = engine.wait(1)[0]
    assert outcome.unit == foreign.name and "holds no embeddings" in outcome.error, "it fails, and nothing else does"
    progress = driver.run(make_plan(("row=hubert",)), Ledger(folder), engine, report=patient)
    assert len(progress.done) == 5 and not progress.failed


def test_no_cluster_at_an_address_is_said_plainly(store, monkeypatch) -> None:
    """Not of "auto", which takes the cluster of whatever else runs on this machine, another test's too."""
    from serfuse.sweep.ray_engine import RayEngine

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(RunError, match="No Ray cluster at nowhere"):
        RayEngine(store.root, 1, 1, "nowhere", memory.Budget())
