"""A run folder that serfuse 0.1.0 wrote still opens, compares, reports and trains.

`serfuse cv --fusion hyfuse-symmetric --a prosody --b prosody --folds 2 --epochs 2` on the store beside it.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from serfuse.cli import main
from serfuse.experiment.dataset import load_dataset
from serfuse.runs.run import Run
from serfuse.store import EmbeddingStore

BEFORE = Path(__file__).resolve().parent / "version_0_1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BEFORE / "run", tmp_path / "before"))


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(shutil.copytree(BEFORE / "store", tmp_path / "store"))


def test_it_opens_with_everything_in_it(folder: Path) -> None:
    run = Run.read(folder)
    assert (run.name, run.model, run.corpus, run.split) == ("before", "hyfuse-symmetric", "synthetic", "random")
    assert run.encoders == ["prosody", "prosody"] and run.random_weights == [] and run.classes == ["anger", "sadness"]
    assert run.metrics["mean"]["accuracy"] == 0.41666666666666663
    assert run.audit[0].startswith("3 of 3 test speakers are also in training")
    assert run.warnings() == [
        "The speech is synthetic: the figures show that the software works, nothing about emotion."
    ]
    assert len(run.predictions) == 12 and len(run.history) == 4 and len(run.points) == 6 and len(run.parts) == 24
    assert run.predictions["p_anger"].iloc[0] == 0.5044296383857727
    assert run.clips.empty and run.description.digests.recordings is None
    assert run.config.training.learning_rate == 1e-5 and run.keys["b"].folder == "prosody-3448e962c44d"


def test_it_knows_whether_its_data_are_still_the_same(folder: Path, store: EmbeddingStore) -> None:
    run = Run.read(folder)
    dataset = load_dataset(run.config, store)
    assert run.changes(dataset) == []
    dataset.clips["emotion"] = dataset.clips["emotion"].map({"anger": "sadness", "sadness": "anger"})
    (changed,) = run.changes(dataset)
    assert changed.startswith("12 clips have another label (spk01_t01_anger_1: anger, now sadness; ")


@pytest.mark.slow
def test_it_compares_with_a_run_of_now(folder: Path, store: EmbeddingStore, tmp_path: Path) -> None:
    invoke = CliRunner().invoke
    arguments = ["cv", "--config", str(folder / "config.yaml"), "--store", str(store.root), "--quiet"]
    again = invoke(main, [*arguments, "--out", str(tmp_path / "now"), "--set", "training.epochs=1"])
    assert again.exit_code == 0 and "have changed" not in again.output, again.output
    compared = invoke(main, ["compare", str(folder), str(tmp_path / "now"), "--json"])
    assert compared.exit_code == 0, compared.output
    found = json.loads(compared.stdout)
    assert [run["name"] for run in found["runs"]] == ["before", "now"]
    assert found["runs"][0]["value"] == Run.read(folder).metrics["pooled"]["accuracy"]
    assert any("before does not tell which recordings were heard" in note for note in found["notes"])
    assert not Run.read(tmp_path / "now").clips.empty


def test_it_is_reported(folder: Path, store: EmbeddingStore, tmp_path: Path) -> None:
    for name in ("page.html", "table.csv"):
        arguments = ["report", str(folder), "-o", str(tmp_path / name), "--store", str(store.root), "--quiet"]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
    drawn = (tmp_path / "page.html").read_text("utf-8")
    assert "The speech is synthetic" in drawn and "have changed" not in drawn
    row = pd.read_csv(tmp_path / "table.csv").iloc[0]
    assert (row["run"], row["accuracy_mean"], row["a"]) == ("before", 0.41666666666666663, "prosody")


@pytest.mark.slow
def test_its_model_is_trained_from_the_store_of_then(folder: Path, store: EmbeddingStore, tmp_path: Path) -> None:
    out = tmp_path / "model.serfuse"
    done = CliRunner().invoke(main, ["train", str(folder), "--store", str(store.root), "-o", str(out), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["evaluation"]["accuracy"] == 0.41666666666666663
