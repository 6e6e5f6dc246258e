"""What a run has finished survives a power cut, a kill, a second process and a flipped byte, or is refused by name."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from serfuse.errors import FolderInUseError, RunError
from serfuse.experiment import config as configs
from serfuse.experiment import fitting
from serfuse.experiment.cross_validation import FoldResult
from serfuse.experiment.dataset import Dataset, load_dataset
from serfuse.progress import Observer
from serfuse.runs import execution, fold_files, reading, run_folder
from serfuse.runs.run import Run, changes_since
from serfuse.splits.folds import Fold

SVM = configs.from_dict(configs.assign(configs.shipped("svm"), {"data.a": "hubert", "split.folds": 3, "seed": 1}))


class _StopAfter(Observer):
    """Interrupts after so many folds, and remembers which were finished before."""

    def __init__(self, folds: int = 99) -> None:
        self.left, self.finished = folds, -1

    def audit_known(self, audit: object, folds: object, finished: int) -> None:
        self.finished = finished

    def fold_done(self, result: FoldResult) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.fixture
def dataset(make_store: Callable) -> Dataset:
    return load_dataset(SVM, make_store())


@pytest.fixture
def cut(dataset: Dataset, tmp_path: Path) -> Path:
    """A run of which one of three folds is finished."""
    with pytest.raises(KeyboardInterrupt):
        execution.execute(SVM, dataset, tmp_path / "run", observer=_StopAfter(1))
    return tmp_path / "run"


@pytest.fixture
def result() -> FoldResult:
    """A fold that nobody had to train."""
    names = np.array(["c1", "c2", "c3"])
    return FoldResult(
        fold=Fold(0, 1, names[:1], names[1:2], names[2:]),
        predictions=pd.DataFrame(
            {"clip": ["c3"], "label": ["anger"], "predicted": ["joy"], "p_anger": [0.1 + 0.2], "p_joy": [1 / 3]}
        ),
        history=pd.DataFrame({"repeat": [0], "fold": [1], "epoch": [1], "loss": [0.1]}),
        parameters=3,
        sensitivity={"a": {"changed": 0.25, "accuracy_drop": 1 / 3}},
        neighbours={},
        penultimate=np.ones((1, 2), "float32"),
        seconds=1.5,
    )


# -- a power cut -------------------------------------------------------------------------------------------


def test_a_model_is_flushed_before_it_gets_its_name_and_its_fold_counts(result, tmp_path: Path, monkeypatch) -> None:
    class Model:
        def save(self, path: Path) -> None:
            path.write_bytes(b"network")

    monkeypatch.setattr(fitting, "without_optimizer", lambda model: model)
    flushed: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flush(number: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{number}")).name)
        fsync(number)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", lambda *names: (flushed.append("rename"), replace(*names)))
    result.model = Model()
    digest = run_folder.write_fold(tmp_path, result)
    assert flushed == [".saving_fold_1.keras", "rename", tmp_path.name]
    assert run_folder.has_model(tmp_path, result.fold, 1, digest)
    (tmp_path / "fold_1.keras").write_bytes(b"")  # what a crash left of it before it was flushed
    assert not run_folder.has_model(tmp_path, result.fold, 1, digest)
    assert not run_folder.has_model(tmp_path, result.fold, 1, None)
    (tmp_path / "fold_1.keras").unlink()
    assert not run_folder.has_model(tmp_path, result.fold, 1, None)


@pytest.mark.slow
def test_a_fold_whose_model_is_not_as_it_was_written_is_run_anew_with_a_sentence(make_store, tmp_path: Path) -> None:
    values = {"data.a": "hubert", "split.folds": 3, "training.epochs": 2}
    config = configs.from_dict(configs.assign(configs.shipped("fcn"), values))
    dataset = load_dataset(config, make_store())
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        execution.execute(config, dataset, out, observer=_StopAfter(2))
    before = (out / "fold_0.keras").read_bytes()
    (out / "fold_0.keras").write_bytes(b"")
    watch = _StopAfter()
    found = execution.execute(config, dataset, out, observer=watch)
    assert watch.finished == 1
    assert found.remarks == ["fold_0.keras was missing, or not as it was written: its fold was trained anew."]
    assert len((out / "fold_0.keras").read_bytes()) == len(before)


def test_new_folders_on_the_way_to_a_run_are_flushed(tmp_path: Path, monkeypatch) -> None:
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(os.readlink(f"/proc/self/fd/{number}")))
    run_folder.prepare(tmp_path / "runs" / "one")
    assert flushed == [str(tmp_path), str(tmp_path / "runs")]


# -- a kill, and a second process --------------------------------------------------------------------------


def test_what_killed_runs_left_is_removed_by_the_next(cut: Path, dataset: Dataset) -> None:
    kept = cut / execution.FINISHED_FOLDS
    (cut / ".saving_fold_0.keras").write_bytes(b"half")
    (cut / ".tmp-1-0badc0de-config.yaml").write_text("half")
    (kept / ".r0f1-0badc0de").mkdir()
    with pytest.raises(KeyboardInterrupt):
        execution.execute(SVM, dataset, cut, observer=_StopAfter(2))
    assert not [path.name for path in cut.rglob(".*") if path.name != execution.FINISHED_FOLDS]


def test_a_folder_that_is_worked_in_is_left_alone(cut: Path, dataset: Dataset) -> None:
    from serfuse.atomic_io import locked

    left = cut / ".tmp-1-0badc0de-config.yaml"
    left.write_text("half")
    with locked(cut), pytest.raises(FolderInUseError):
        execution.execute(SVM, dataset, cut)
    assert left.exists()


# -- a byte, and an editor ---------------------------------------------------------------------------------


def test_a_fold_comes_back_to_the_last_digit(result: FoldResult, tmp_path: Path) -> None:
    fold_files.write(tmp_path, result, "mark", {"accuracy": 0.1})
    found = fold_files.read(tmp_path, result.fold, "mark")
    columns = list(result.predictions.columns)
    pd.testing.assert_frame_equal(found.predictions[columns], result.predictions, check_exact=True)
    assert found.sensitivity == result.sensitivity


@pytest.mark.parametrize("name", ["fold.json", "predictions.csv", "history.csv", "penultimate.npy"])
def test_every_byte_of_a_finished_fold_counts(result: FoldResult, tmp_path: Path, name: str) -> None:
    fold_files.write(tmp_path, result, "mark", {"accuracy": 0.1})
    path = tmp_path / "r0f1" / name
    whole = path.read_bytes()
    wrong = 0
    for place in range(0, len(whole), 1 if name != "fold.json" else 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            found = fold_files.read(tmp_path, result.fold, "mark")
        except RunError as error:
            assert str(tmp_path / "r0f1") in str(error) and "Delete that folder to run it anew" in str(error)
            continue
        # Of fold.json only the mark says no more than "another run", and space between its parts says nothing.
        assert name == "fold.json"
        wrong += found is not None and (found.parameters, found.sensitivity) != (3, result.sensitivity)
    assert not wrong
    path.write_bytes(b"")
    with pytest.raises(RunError, match="r0f1"):
        fold_files.read(tmp_path, result.fold, "mark")


def test_a_fold_without_digests_still_opens(result: FoldResult, tmp_path: Path) -> None:
    fold_files.write(tmp_path, result, "mark")
    path = tmp_path / "r0f1" / "fold.json"
    facts = json.loads(path.read_text())
    del facts["files"], facts["digest"]
    path.write_text(json.dumps(facts))
    assert fold_files.read(tmp_path, result.fold, "mark").parameters == 3


def test_an_edited_fold_is_not_taken_up(cut: Path, dataset: Dataset) -> None:
    path = cut / execution.FINISHED_FOLDS / "r0f0" / "predictions.csv"
    path.write_text(path.read_text().replace(",anger,", ",sadness,"))
    with pytest.raises(RunError, match=r"predictions\.csv is not as it was written.*Delete that folder"):
        execution.execute(SVM, dataset, cut)


@pytest.fixture
def finished(dataset: Dataset, tmp_path: Path) -> Path:
    execution.execute(SVM, dataset, tmp_path / "run")
    return tmp_path / "run"


def _read_all(folder: Path) -> None:
    run = Run.read(folder)
    for table in ("predictions", "history", "points", "parts", "clips"):
        getattr(run, table)


def test_a_finished_run_of_which_a_byte_changed_is_refused(finished: Path) -> None:
    _read_all(finished)
    digests = reading.read_digests(finished)
    assert digests.keys() == {*run_folder.FILES, "tsne.csv"}
    for name in [*digests, reading.DIGESTS]:
        path = finished / name
        whole = path.read_bytes()
        for place in range(0, len(whole), len(whole) // 7):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(RunError, match=r"is not as it was written|is damaged|is missing, of which"):
                _read_all(finished)
        path.unlink()
        if name != reading.DIGESTS:
            with pytest.raises(RunError, match=f"{name}"):
                _read_all(finished)
            path.write_bytes(whole)
    # Now it has no digests, as runs before 0.2: figures and predictions must still belong together.
    metrics = json.loads((finished / "metrics.json").read_text())
    _read_all(finished)
    counts = metrics["pooled"]["confusion"]
    counts[0][0], counts[0][1] = counts[0][0] - 1, counts[0][1] + 1
    (finished / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(RunError, match=r"is not what the figures in metrics\.json were counted from"):
        _read_all(finished)


def test_settings_that_were_edited_in_place_are_said_when_they_are_run_again(finished: Path, dataset: Dataset) -> None:
    path = finished / "config.yaml"
    assert changes_since(path, dataset) == []
    path.write_text(path.read_text().replace("seed: 1", "seed: 2"))
    assert changes_since(path, dataset) == ["the settings in the file are not as the run wrote them"]
    shutil.copy(path, finished.parent / "mine.yaml")
    assert changes_since(finished.parent / "mine.yaml", dataset) == []


def test_resumed_and_whole_runs_have_the_same_digests(finished: Path, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        execution.execute(SVM, dataset, tmp_path / "cut", observer=_StopAfter(1))
    execution.execute(SVM, dataset, tmp_path / "cut")
    whole, resumed = reading.read_digests(finished), reading.read_digests(tmp_path / "cut")
    assert {name for name in whole if whole[name] != resumed[name]} <= {"metrics.json"}  # it tells the seconds
