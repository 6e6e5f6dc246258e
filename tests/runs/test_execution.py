"""The run folder is complete and true; an interrupted run goes on; nothing finished is overwritten unasked."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from serfuse.atomic_io import locked
from serfuse.errors import RunError, SplitError, StoreError
from serfuse.experiment import config as configs
from serfuse.experiment import cross_validation
from serfuse.experiment.dataset import Dataset, load_dataset
from serfuse.progress import Observer
from serfuse.runs import execution, figures, fold_files, run_folder
from serfuse.runs.run import Run, settings_of
from serfuse.splits.folds import Fold
from serfuse.store import EmbeddingStore

MakeStore = Callable[..., EmbeddingStore]


def make(model: str = "fcn", *assignments: str) -> configs.Config:
    values = configs.assign(configs.shipped(model), {"data.a": "hubert", "split.folds": 3})
    if model != "svm":
        values = configs.assign(values, {"training.epochs": 2})
    return configs.from_dict(configs.override(values, list(assignments)))


@pytest.fixture(scope="module")
def dataset(standin_store: EmbeddingStore) -> Dataset:
    return load_dataset(make(), standin_store)


@pytest.fixture(scope="module")
def whole(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> execution.Result:
    """A finished run of three folds. Read only."""
    return execution.execute(make(), dataset, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def cut(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same run, interrupted after two folds. To be copied."""
    out = tmp_path_factory.mktemp("cut") / "run"
    with pytest.raises(KeyboardInterrupt):
        execution.execute(make(), dataset, out, observer=_Watch(2))
    return out


@pytest.mark.slow
def test_the_run_folder_holds_everything(dataset: Dataset, whole: execution.Result) -> None:
    result, out = whole, whole.folder
    for name in ("config.yaml", "folds.csv", "predictions.csv", "history.csv", "metrics.json"):
        assert (out / name).stat().st_size > 0, name
    for name in ("confusion.png", "tsne.png"):
        assert (out / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert sorted(path.name for path in out.glob("fold_*.keras")) == [f"fold_{number}.keras" for number in range(3)]
    assert not (out / execution.FINISHED_FOLDS).exists(), "what resuming needs is gone once the run is finished"

    predictions = fold_files.read_predictions(out / "predictions.csv")
    assert sorted(predictions["clip"]) == sorted(dataset.clips["id"])
    parts = pd.read_csv(out / "folds.csv", dtype=str)
    assert set(parts["part"]) == {"train", "validation", "test"}
    tested = parts[parts["part"] == "test"]
    assert sorted(tested["clip"]) == sorted(dataset.clips["id"])
    assert dict(zip(tested["clip"], tested["fold"], strict=True)) == dict(
        zip(predictions["clip"], predictions["fold"].astype(str), strict=True)
    )
    metrics = json.loads((out / "metrics.json").read_text("utf-8"))
    assert metrics["pooled"]["accuracy"] == pytest.approx((predictions["label"] == predictions["predicted"]).mean())
    assert [fold["clips"] for fold in metrics["folds"]] == list(predictions.groupby("fold").size())
    assert metrics["parameters"] == result.folds[0].parameters == 24 * 128 + 128 + 128 * 3 + 3


def test_the_picture_says_what_it_shows(
    standin_store: EmbeddingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = []
    monkeypatch.setattr(figures, "tsne", lambda points, classes, title, path: titles.append(title))
    config = configs.configure("svm", a="hubert", split="speaker", folds=2)
    execution.execute(config, load_dataset(config, standin_store), tmp_path / "run")
    assert [title.splitlines()[-1] for title in titles] == ["inputs of the classifier, test clips of fold 0"]


@pytest.mark.slow
def test_config_yaml_holds_what_made_the_result_and_makes_it_again(
    dataset: Dataset, whole: execution.Result, tmp_path: Path
) -> None:
    text = yaml.safe_load((whole.folder / "config.yaml").read_text("utf-8"))
    assert text["embeddings"]["a"] == dataset.keys["a"].to_dict()
    assert {"serfuse", "python", "keras", "tensorflow", "numpy"} <= set(text["versions"])
    assert text["backend"] == "tensorflow" and text["corpus"]["clips"] == len(dataset.clips)
    again = configs.from_dict({key: text[key] for key in ("model", "options", "data", "split", "training", "seed")})
    second = execution.execute(again, dataset, tmp_path / "again")
    pd.testing.assert_frame_equal(whole.predictions, second.predictions, check_exact=True)


@pytest.mark.slow
def test_saved_models_give_the_written_probabilities(dataset: Dataset, whole: execution.Result) -> None:
    import keras

    predictions = fold_files.read_predictions(whole.folder / "predictions.csv")
    for number in range(3):
        model = keras.saving.load_model(whole.folder / f"fold_{number}.keras")
        assert not model.compiled, "no optimizer takes room in the file"
        chosen = predictions[predictions["fold"] == number]
        found = np.asarray(model({"a": dataset.arrays["a"][dataset.rows(chosen["clip"])]}, training=False))
        np.testing.assert_allclose(found, chosen[[f"p_{name}" for name in dataset.classes]], atol=1e-6)


@pytest.mark.slow
def test_a_finished_run_is_not_overwritten_unasked(dataset: Dataset, tmp_path: Path) -> None:
    execution.execute(make("svm"), dataset, tmp_path / "run")
    before = (tmp_path / "run" / "metrics.json").read_text("utf-8")
    with pytest.raises(RunError, match="--overwrite"):
        execution.execute(make("svm", "seed=5"), dataset, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.json").read_text("utf-8") == before
    execution.execute(make("svm", "seed=5"), dataset, tmp_path / "run", overwrite=True)
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text("utf-8"))["seed"] == 5


def test_a_folder_that_cannot_be_written_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", "utf-8")
    with pytest.raises(RunError, match="Cannot write"):
        execution.execute(make("svm"), dataset, tmp_path / "file" / "run")


@pytest.mark.slow
def test_a_picture_that_fails_is_a_remark_and_the_numbers_are_there(
    dataset: Dataset, tmp_path: Path, monkeypatch
) -> None:
    def fails(*_: object) -> None:
        assert (tmp_path / "run" / "metrics.json").exists(), "numbers come first"
        raise RuntimeError("Failed to process string with tex")

    monkeypatch.setattr(run_folder.figures, "confusion", fails)
    result = execution.execute(make("svm"), dataset, tmp_path / "run")
    (remark,) = result.remarks
    assert "confusion.png could not be drawn (RuntimeError: Failed to process" in remark
    assert Run.read(tmp_path / "run").metrics["pooled"] and (tmp_path / "run" / "tsne.png").exists()


def test_switches_of_the_numerical_libraries_are_part_of_a_run(dataset: Dataset, monkeypatch) -> None:
    for name in [name for name in os.environ if name.startswith(("TF_", "XLA_", "MKL_", "OPENBLAS_"))]:
        monkeypatch.delenv(name)
    mark = execution.fingerprint(make("svm"), dataset)
    assert "environment" not in run_folder.description(make("svm"), dataset).to_dict()
    for name in ("TF_CPP_MIN_LOG_LEVEL", "OPENBLAS_NUM_THREADS", "ONEDNN_VERBOSE", "HOME"):  # threads stand apart
        monkeypatch.setenv(name, "3")
    assert execution.fingerprint(make("svm"), dataset) == mark
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    described = run_folder.description(make("svm"), dataset).to_dict()
    assert described["environment"] == {
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
    }
    assert execution.fingerprint(make("svm"), dataset) != mark
    assert "environment" not in settings_of(described)


class _Watch(Observer):
    """Remembers what it hears of, and interrupts after so many folds."""

    def __init__(self, folds: int | None = None) -> None:
        self.left = folds
        self.finished: list[int] = []
        self.epochs: list[int] = []
        self.fold = -1

    def audit_known(self, audit: object, folds: object, finished: int) -> None:
        self.finished.append(finished)

    def fold_begun(self, fold: Fold) -> None:
        self.fold = fold.index

    def epoch_done(self, epoch: int, figures: Mapping[str, float]) -> None:
        self.epochs.append(self.fold)

    def fold_done(self, result: cross_validation.FoldResult) -> None:
        if self.left is not None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(
    dataset: Dataset, whole: execution.Result, cut: Path, tmp_path: Path
) -> None:
    assert not (cut / "metrics.json").exists(), "an unfinished run does not look finished"
    out, watch = shutil.copytree(cut, tmp_path / "cut"), _Watch()
    resumed = execution.execute(make(), dataset, out, observer=watch)
    assert watch.finished == [2] and set(watch.epochs) == {2}, "finished folds are not trained again"
    pd.testing.assert_frame_equal(resumed.predictions, whole.predictions, check_exact=True)
    for name in ("predictions.csv", "history.csv", "folds.csv"):
        assert (out / name).read_bytes() == (whole.folder / name).read_bytes(), name
    assert len(list(out.glob("fold_*.keras"))) == 3


@pytest.mark.slow
@pytest.mark.parametrize("change", ["seed=3", "training.epochs=3", "options.dropout=0.1"])
def test_folds_of_another_configuration_are_not_taken_up(
    dataset: Dataset, cut: Path, tmp_path: Path, change: str
) -> None:
    class Begun(_Watch):
        def fold_begun(self, fold: Fold) -> None:
            raise KeyboardInterrupt

    out, watch = shutil.copytree(cut, tmp_path / "run"), Begun()
    with pytest.raises(KeyboardInterrupt):
        execution.execute(make("fcn", change), dataset, out, observer=watch)
    assert watch.finished == [0] and not list(out.glob("fold_*.keras"))


@pytest.mark.slow
def test_folds_of_other_embeddings_under_the_same_key_are_not_taken_up(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        execution.execute(make("svm"), dataset, tmp_path / "run", observer=_Watch(2))
    arrays = {"a": dataset.arrays["a"][:, ::-1].copy()}
    other = Dataset(dataset.corpus, dataset.info, dataset.clips, arrays, dataset.keys)
    watch = _Watch()
    execution.execute(make("svm"), other, tmp_path / "run", observer=watch)
    assert watch.finished == [0]
    assert Run.read(tmp_path / "run").changes(dataset) == ["the embeddings of hubert (input a) have changed"]


def test_the_fingerprint_sees_labels_and_embeddings(dataset: Dataset) -> None:
    mark = execution.fingerprint(make(), dataset)
    clips = dataset.clips.copy()
    clips.iloc[0, clips.columns.get_loc("emotion")] = "sadness"
    relabelled = Dataset(dataset.corpus, dataset.info, clips, dataset.arrays, dataset.keys)
    assert execution.fingerprint(make(), relabelled) != mark
    assert execution.fingerprint(make(), dataset) == mark


@pytest.mark.slow
def test_a_killed_process_loses_at_most_the_fold_in_flight(
    standin_store: EmbeddingStore, dataset: Dataset, tmp_path: Path
) -> None:
    """Of sixty folds that take tens of milliseconds each: the kill falls between two of them, or into one."""
    config = make("svm", "split.repeats=20")
    out, store = tmp_path / "killed", str(standin_store.root)
    command = [sys.executable, "-P", "-m", "serfuse.cli", "cv", "--head", "svm", "--a", "hubert", "--folds", "3"]
    command += ["--set", "split.repeats=20", "--store", store, "--quiet", "--out", str(out)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    limit = time.monotonic() + 120
    while not (out / execution.FINISHED_FOLDS / "r0f0" / "fold.json").exists():
        assert process.poll() is None, "it ended before its first fold was kept"
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.parent.name for path in (out / execution.FINISHED_FOLDS).glob("r*/fold.json")}
    assert 0 < len(kept) < 60 and not (out / "metrics.json").exists()
    watch = _Watch()
    execution.execute(config, dataset, out, observer=watch)
    assert watch.finished == [len(kept)]
    uncut = cross_validation.cross_validate(config, dataset)
    assert (out / "predictions.csv").read_text("utf-8") == uncut.predictions.to_csv(index=False)


@pytest.mark.slow
def test_a_damaged_finished_fold_is_named(dataset: Dataset, cut: Path, tmp_path: Path) -> None:
    out = shutil.copytree(cut, tmp_path / "run")
    (out / execution.FINISHED_FOLDS / "r0f0" / "fold.json").write_text("{", "utf-8")
    with pytest.raises(RunError, match="r0f0"):
        execution.execute(make(), dataset, out)


@pytest.mark.slow
def test_free_folder_numbers_what_is_taken(dataset: Dataset, tmp_path: Path) -> None:
    first = execution.free_folder(tmp_path, make("svm"), dataset)
    assert first.name == "standin-svm-hubert-random-seed0"
    execution.execute(make("svm"), dataset, first)
    assert execution.free_folder(tmp_path, make("svm"), dataset).name == "standin-svm-hubert-random-seed0-2"


def test_a_folder_in_which_somebody_works_is_not_free(dataset: Dataset, tmp_path: Path) -> None:
    first = execution.free_folder(tmp_path, make(), dataset)
    first.mkdir()
    with locked(first):
        assert execution.free_folder(tmp_path, make(), dataset) == tmp_path / f"{first.name}-2"
    assert execution.free_folder(tmp_path, make(), dataset) == first


def test_a_single_clip_of_an_emotion_in_training_is_named_before_training(
    make_store: MakeStore, tmp_path: Path
) -> None:
    dataset = load_dataset(make("svm"), make_store())
    few = dataset.clips["emotion"].eq("sadness") & ~dataset.clips["id"].isin(["s0-t0-sadness", "s1-t0-sadness"])
    less = replace(
        dataset, clips=dataset.clips[~few], arrays={name: array[~few] for name, array in dataset.arrays.items()}
    )
    with pytest.raises(SplitError, match=r"single clip of sadness; the model 'svm' needs two"):
        execution.execute(make("svm", "split.folds=2"), less, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_interrupted_run_of_other_settings_keeps_its_folder(dataset: Dataset, cut: Path, tmp_path: Path) -> None:
    first = shutil.copytree(cut, execution.free_folder(tmp_path, make(), dataset))
    assert execution.free_folder(tmp_path, make(), dataset) == first, "the same command goes on"
    other = make("fcn", "options.dropout=0.1")
    assert execution.free_folder(tmp_path, other, dataset).name == f"{first.name}-2"
    assert not (first / ".lock").exists()


@pytest.mark.slow
def test_two_runs_at_once_do_not_mix_in_one_folder(dataset: Dataset, tmp_path: Path) -> None:
    """While one works, a second one is refused and changes nothing; afterwards the folder is free again."""
    out, refused = tmp_path / "run", []

    class Second(Observer):
        def audit_known(self, *_: object) -> None:
            before = (out / "config.yaml").read_bytes()
            with pytest.raises(StoreError, match="Another process is at work"):
                execution.execute(make("svm", "seed=5"), dataset, out)
            assert (out / "config.yaml").read_bytes() == before
            refused.append(True)

    execution.execute(make("svm"), dataset, out, observer=Second())
    assert refused and not (out / ".lock").exists()
    with locked(out, wait=False):
        pass


@pytest.mark.slow
def test_a_disk_that_fills_up_while_a_model_is_saved_is_an_error_in_words(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    config = make("svm")
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_fold", fails)
        with pytest.raises(RunError, match=r"run: No space left"):
            execution.execute(config, dataset, tmp_path / "run")
    assert len(execution.execute(config, dataset, tmp_path / "run").folds) == 3


@pytest.mark.slow
def test_repeats_keep_every_model_under_its_own_name(dataset: Dataset, tmp_path: Path) -> None:
    config = make("fcn", "split.repeats=2", "split.folds=2", "training.epochs=1")
    result = execution.execute(config, dataset, tmp_path / "run")
    assert len(result.folds) == 4
    assert len(list((tmp_path / "run").glob("fold_*_repeat_*.keras"))) == 4
    counts = result.predictions.groupby("repeat")["clip"].nunique()
    assert list(counts) == [len(dataset.clips)] * 2


@pytest.mark.slow
def test_the_number_of_threads_is_part_of_a_run(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last digits depend on it, so it is written down, and folds of another number are not taken up."""
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    for model, number in (("fcn", 3), ("svm", 5)):
        config = make(model, "split.folds=2", *(["training.epochs=1"] if model == "fcn" else []))
        result = execution.execute(config, dataset, tmp_path / model).folds[0]
        assert Run.read(tmp_path / model).description.threads == result.threads == number
    mark, fold = execution.fingerprint(make("svm"), dataset, [5]), result.fold
    fold_files.write(tmp_path / "kept", result, mark)
    assert fold_files.read(tmp_path / "kept", fold, mark).threads == 5
    assert fold_files.read(tmp_path / "kept", fold, execution.fingerprint(make("svm"), dataset, [2])) is None
