"""Units are run once, written whole, retried and reported."""

import errno
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serfuse.runs import fold_files, run_folder
from serfuse.runs.compare import compare
from serfuse.runs.run import Run
from serfuse.store.key import EmbeddingKey
from serfuse.sweep import driver, table
from serfuse.sweep.ledger import DiskFullError, Ledger


def _events(ledger: Ledger, event: str) -> list[str]:
    return [entry["unit"] for entry in ledger.events() if entry["event"] == event]


@pytest.mark.slow
def test_every_unit_runs_once_and_leaves_a_run_folder(make_plan, store, folder, inline) -> None:
    ledger, engine, plan = Ledger(folder), inline(store), make_plan()
    news = []
    progress = driver.run(plan, ledger, engine, report=lambda p, text: news.append(text))
    assert len(progress.done) == 15 and not progress.failed and engine.closed
    assert sorted(engine.ran) == sorted(unit.name for unit in plan.units)
    assert sorted(_events(ledger, "start")) == sorted(_events(ledger, "finish")) == sorted(engine.ran)
    assert sum(": accuracy " in text for text in news) == 3
    for planned in plan.planned:
        run = ledger.run_folder(planned)
        assert all((run / name).is_file() for name in run_folder.FILES)
        metrics = Run.read(run).metrics
        accuracies = [done.accuracy for done in progress.folds(planned)]
        assert metrics["mean"]["accuracy"] == pytest.approx(sum(accuracies) / 5)
    assert compare([ledger.run_folder(planned) for planned in plan.planned]).clips == 36

    again = inline(store)
    assert len(driver.run(make_plan(), ledger, again).done) == 15
    assert again.ran == [] and len(_events(ledger, "start")) == 15


@pytest.mark.slow
def test_a_run_folder_is_what_cv_makes(make_plan, store, folder, inline, tmp_path) -> None:
    from serfuse.experiment.dataset import load_dataset
    from serfuse.runs import execution

    plan = make_plan(("row=wavlm",))
    driver.run(plan, Ledger(folder), inline(store))
    config = plan.planned[0].experiment.config
    execution.execute(config, load_dataset(config, store), tmp_path / "cv")
    ours, theirs = Ledger(folder).run_folder(plan.planned[0]), tmp_path / "cv"
    for name in ("predictions.csv", "folds.csv", "config.yaml", "history.csv"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    a, b = Run.read(ours).metrics, Run.read(theirs).metrics
    assert {**a, "seconds": 0} == {**b, "seconds": 0}


@pytest.mark.slow
def test_what_failed_is_tried_again_then_reported_and_stops_nothing(make_plan, store, folder, inline) -> None:
    plan = make_plan()
    once, always = plan.units[1].name, plan.units[7].name
    engine = inline(store, lambda unit, attempt: unit == always or (unit == once and attempt == 1))
    news: list[str] = []
    progress = driver.run(plan, Ledger(folder), engine, retries=2, report=lambda p, text: news.append(text))
    assert set(progress.failed) == {always} and progress.failed[always] == "it broke"
    assert len(progress.done) == 14 and engine.ran.count(once) == 2 and engine.ran.count(always) == 3
    assert any("wavlm, emodb, svm, fold 2 failed 3 times: it broke" in text for text in news)
    assert not Ledger(folder).finished(plan.planned[1]) and Ledger(folder).finished(plan.planned[0])
    found = table.make(plan, Ledger(folder))
    assert [line.figures[0].measured is None for line in found.blocks[0].lines] == [False, True, False]

    healthy = inline(store)
    assert len(driver.run(make_plan(), Ledger(folder), healthy).done) == 15
    assert healthy.ran == [always], "the next call tries what failed, and nothing else"


def test_a_unit_that_raises_names_what_was_raised(make_plan, store, folder, inline, monkeypatch) -> None:
    from serfuse.experiment import cross_validation

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(cross_validation, "run_fold", broken)
    progress = driver.run(make_plan(("row=hubert",)), Ledger(folder), inline(store), retries=0)
    assert len(progress.failed) == 5
    assert all("ZeroDivisionError: by nothing" in error for error in progress.failed.values())


NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


def _full_after(monkeypatch: pytest.MonkeyPatch, writes: int, error: OSError = NO_SPACE) -> None:
    real, count = fold_files.write, 0

    def write(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count > writes:
            raise error
        real(*arguments)

    monkeypatch.setattr(fold_files, "write", write)


@pytest.mark.slow
def test_a_full_disk_stops_the_sweep_and_loses_only_the_unit_in_flight(
    make_plan, store, folder, inline, monkeypatch
) -> None:
    _full_after(monkeypatch, 6, OSError("1000 requested and 0 written"))  # as NumPy says it
    with pytest.raises(DiskFullError, match=r"1000 requested and 0 written.*finished before is safe"):
        driver.run(make_plan(), Ledger(folder.with_name("numpy")), inline(store))
    monkeypatch.undo()
    _full_after(monkeypatch, 6)
    engine = inline(store)
    with pytest.raises(DiskFullError, match=r"No space left on device.*finished before is safe"):
        driver.run(make_plan(), Ledger(folder), engine)
    assert len(engine.ran) == 7 and engine.closed
    assert len(driver.look(make_plan(), Ledger(folder)).done) == 6
    monkeypatch.undo()
    rest = inline(store)
    assert len(driver.run(make_plan(), Ledger(folder), rest).done) == 15
    assert len(rest.ran) == 9 and engine.ran[6] in rest.ran


def test_a_write_that_breaks_off_leaves_nothing_behind(make_plan, store, folder, inline) -> None:
    """The operating system itself refuses bytes beyond a limit, in the middle of a unit's files."""
    plan = make_plan(("row=hubert",))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, hard))  # less than a unit's predictions
    try:
        with pytest.raises(DiskFullError):
            driver.run(plan, Ledger(folder), inline(store))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = Ledger(folder).run_folder(plan.planned[0]) / ".folds"
    assert list(kept.iterdir()) == []
    assert len(driver.run(plan, Ledger(folder), inline(store)).done) == 5


def test_what_a_killed_writer_left_is_swept_away(make_plan, store, folder, inline) -> None:
    plan = make_plan(("row=hubert",))
    kept = Ledger(folder).run_folder(plan.planned[0]) / ".folds"
    (kept / ".r0f0-0badc0de").mkdir(parents=True)
    (kept / ".r0f0-0badc0de" / "predictions.csv").write_text("half a li")
    driver.run(plan, Ledger(folder), inline(store))
    assert sorted(path.name for path in kept.iterdir()) == [f"r0f{number}" for number in range(5)]


def test_a_damaged_unit_is_an_error_that_names_it(make_plan, store, folder, inline) -> None:
    from serfuse.errors import RunError

    plan = make_plan(("row=hubert",))
    driver.run(plan, Ledger(folder), inline(store))
    (Ledger(folder).run_folder(plan.planned[0]) / ".folds" / "r0f2" / "fold.json").write_text("{")
    with pytest.raises(RunError, match="r0f2"):
        driver.look(plan, Ledger(folder))


def test_other_data_are_other_units(make_plan, make_store, store, folder, inline, tmp_path) -> None:
    """Results of embeddings, labels or settings that have changed are not taken for present ones."""
    driver.run(make_plan(("row=hubert",)), Ledger(folder), inline(store))
    ids, matrix = store.load("emodb", store.find("emodb", "hubert"))
    hashes = [store.present("emodb", store.find("emodb", "hubert"))[name] for name in ids]
    other = make_store({}, corpus="emodb", root=tmp_path / "other")
    other.append("emodb", EmbeddingKey("hubert", weights="sha256:0"), ids, hashes, matrix)
    assert not driver.look(make_plan(("row=hubert",), at=other), Ledger(folder)).done
    relabelled = make_store({"hubert": 12}, corpus="emodb", emotions=("anger", "fear"), root=tmp_path / "fewer")
    assert not driver.look(make_plan(("row=hubert",), at=relabelled), Ledger(folder)).done
    changed = make_plan(("row=hubert",), settings={"options": {"C": 2.0}})
    assert not driver.look(changed, Ledger(folder)).done


def test_another_sweep_has_finished_a_unit_meanwhile(make_plan, store, folder, inline) -> None:
    """What appears on disk after the start is taken up, not run."""
    plan, ledger = make_plan(("row=hubert",)), Ledger(folder)
    last = plan.units[-1]

    class Beside(inline):
        def submit(self, unit: Any) -> bool:
            if not self.ran:
                other = inline(store)
                other.submit(last)
                outcome = other.wait(0)[0]
                ledger.write(last.planned, outcome.result, outcome.facts)
            return super().submit(unit)

    engine = Beside(store)
    progress = driver.run(plan, ledger, engine)
    assert len(progress.done) == 5 and last.name not in engine.ran and len(engine.ran) == 4
    assert ledger.finished(plan.planned[0])


def test_a_run_folder_that_was_not_finished_in_time_is_finished_later(
    make_plan, store, folder, inline, monkeypatch
) -> None:
    plan, ledger = make_plan(("row=hubert",)), Ledger(folder)
    finish: Callable[..., Path] = ledger.finish

    def killed(_: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        driver.run(plan, ledger, inline(store))
    monkeypatch.setattr(ledger, "finish", finish)
    engine = inline(store)
    driver.run(plan, ledger, engine)
    assert engine.ran == [] and ledger.finished(plan.planned[0])


def test_the_log_survives_a_torn_line_and_threads_are_those_of_the_first_call(folder) -> None:
    ledger = Ledger(folder)
    ledger.create()
    ledger.log("begin")
    with open(folder / "log.jsonl", "a") as file:
        file.write('{"event": "sta')
    assert [entry["event"] for entry in ledger.events()] == ["begin"]
    assert ledger.threads(8) == 8 and ledger.threads(4) == 4, "nothing has run: any number will do"
    ledger.log("start")
    assert Ledger(folder).threads(2) == 4
    ledger.set_threads(3)
    assert ledger.threads(1) == 3 == json.loads((folder / "sweep.json").read_text())["threads"]


def test_a_sweep_with_other_data_on_the_same_folder_is_told_and_mixes_nothing(
    make_plan, make_store, store, folder, inline, tmp_path
) -> None:
    """The other one replaces a finished fold of the first row while the first sweep is at its last fold."""
    relabelled = make_store({"hubert": 12, "wavlm": 8}, corpus="emodb", emotions=("anger", "fear"), root=tmp_path / "b")
    rows = ("row=hubert", "row=wavlm")
    plan, other, ledger = make_plan(rows), make_plan(rows, at=relabelled), Ledger(folder)
    assert [one.name for one in plan.units] == [one.name for one in other.units], "the same places"

    class Beside(inline):
        def submit(self, unit: Any) -> bool:
            if len(self.ran) == 4:
                foreign = inline(relabelled)
                foreign.submit(other.units[0])
                outcome = foreign.wait(0)[0]
                ledger.write(other.planned[0], outcome.result, outcome.facts)
            return super().submit(unit)

    progress = driver.run(plan, ledger, Beside(store))
    assert set(progress.failed) == {plan.units[0].name}
    assert "replaced by one of other data" in progress.failed[plan.units[0].name]
    assert not ledger.finished(plan.planned[0]) and ledger.finished(plan.planned[1])
    assert len(driver.look(plan, ledger).done) == 9 and len(driver.look(other, ledger).done) == 1
    assert not list(folder.glob("runs/*/.folds/.r*")), "nothing half replaced stays"
    assert len(driver.run(plan, ledger, inline(store)).done) == 10 and ledger.finished(plan.planned[0])


def test_a_run_folder_half_rewritten_for_other_data_is_not_finished(
    make_plan, make_store, store, folder, inline, tmp_path, monkeypatch
) -> None:
    relabelled = make_store({"hubert": 12}, corpus="emodb", emotions=("anger", "fear"), root=tmp_path / "b")
    plan, other, ledger = make_plan(("row=hubert",)), make_plan(("row=hubert",), at=relabelled), Ledger(folder)
    driver.run(plan, ledger, inline(store))
    assert ledger.finished(plan.planned[0])

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folder, "write_tables", killed)
    with pytest.raises(KeyboardInterrupt):
        driver.run(other, ledger, inline(relabelled))
    assert not ledger.finished(plan.planned[0]) and not ledger.finished(other.planned[0])


def test_a_run_that_is_made_anew_since_its_data_changed_says_what_changed(
    make_plan, make_store, store, folder, inline, tmp_path
) -> None:
    relabelled = make_store({"hubert": 12}, corpus="emodb", emotions=("anger", "fear", "neutral"), root=tmp_path / "b")
    plan, other, ledger = make_plan(("row=hubert",)), make_plan(("row=hubert",), at=relabelled), Ledger(folder)
    news: list[str] = []
    driver.run(plan, ledger, inline(store), report=lambda _, text: news.append(text))
    assert not any("have changed" in text for text in news)
    driver.run(other, ledger, inline(relabelled), report=lambda _, text: news.append(text))
    (said,) = [text for text in news if "have changed" in text]
    assert "is run anew, its data have changed: 12 clips are gone (s0-t0-sadness, " in said
    assert "12 clips are new (s0-t0-fear, " in said
    assert Run.read(ledger.run_folder(plan.planned[0])).changes(other.planned[0].dataset) == []
