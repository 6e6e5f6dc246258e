"""`serfuse train` and `serfuse predict` as a user calls them, one after the other."""

import csv
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from serfuse.cli import main


def call(*arguments: str | Path) -> Result:
    """A call in this process; the network of `predict` too, whose process of its own `test_isolation` has."""
    trusted = ["--trusted"] if arguments[0] == "predict" else []
    return CliRunner().invoke(main, [str(argument) for argument in (*arguments, *trusted)])


@pytest.fixture(scope="module")
def folder(tiny_corpus_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a user has extracted, cross-validated and trained."""
    root = tmp_path_factory.mktemp("home")
    store = ["--store", root / "store", "--quiet"]
    extract = call("extract", "--corpus", "synthetic", "--data", tiny_corpus_dir, "--encoder", "logmel", *store)
    assert extract.exit_code == 0, extract.output
    cv = call("cv", "--head", "fcn", "--a", "logmel", "--folds", 2, "--epochs", 3, "--out", root / "run", *store)
    assert cv.exit_code == 0, cv.output
    train = call("train", root / "run", "-o", root / "winner.serfuse", *store)
    assert train.exit_code == 0, train.output
    assert "fcn on logmel: trained on 48 clips of synthetic in " in train.output
    assert "% accuracy (95 % interval " in train.output and "4 of 4 test speakers are also in training" in train.output
    assert f"Kept in {root / 'winner.serfuse'}" in train.output
    return root


@pytest.fixture
def good(tiny_corpus_dir: Path) -> Path:
    return min(tiny_corpus_dir.rglob("*anger*.wav"))


@pytest.mark.slow
def test_a_model_that_is_there_is_not_replaced_unasked(folder: Path) -> None:
    arguments = ["train", folder / "run", "-o", folder / "winner.serfuse", "--store", folder / "store"]
    again = call(*arguments)
    assert again.exit_code == 1 and "is there already" in again.output and "--overwrite" in again.output
    replaced = call(*arguments, "--overwrite", "--json")
    card = json.loads(replaced.stdout)
    assert card["file"] == str(folder / "winner.serfuse") and card["trained_on"]["clips"] == 48
    assert card["inputs"]["a"]["key"]["encoder"] == "logmel" and card["evaluation"]["split"] == "random"


@pytest.mark.slow
def test_a_file_and_what_to_expect(folder: Path, good: Path) -> None:
    done = call("predict", folder / "winner.serfuse", good, "--quiet")
    assert done.exit_code == 0, done.output
    assert any(name in done.output for name in ("anger", "neutral", "sadness"))
    assert "% accuracy (95 % interval " in done.output
    assert "Trained on synthetic speech" in done.output


@pytest.mark.slow
def test_a_folder_as_csv_and_as_json(folder: Path, good: Path) -> None:
    done = call("predict", folder / "winner.serfuse", good.parent, good, "--csv")
    assert done.exit_code == 0 and not done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["path"] for row in rows] == sorted(str(path) for path in good.parent.glob("*.wav"))
    for row in rows:
        figures = {name.removeprefix("p_"): float(value) for name, value in row.items() if name.startswith("p_")}
        assert sum(figures.values()) == pytest.approx(1) and row["emotion"] == max(figures, key=figures.get)
    as_json = json.loads(call("predict", folder / "winner.serfuse", good.parent, "--json").stdout)
    assert [item["path"] for item in as_json["predictions"]] == [row["path"] for row in rows]
    assert [item["emotion"] for item in as_json["predictions"]] == [row["emotion"] for row in rows]
    assert as_json["model"]["model"] == "fcn"


def test_an_odd_recording_has_a_remark_and_no_cell_is_a_formula(folder: Path, good: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    waveform, rate = soundfile.read(good)
    soundfile.write("=1+1.wav", np.clip(8 * waveform / np.abs(waveform).max(), -1, 1), rate)
    shown = call("predict", folder / "winner.serfuse", "=1+1.wav", good, "--quiet")
    assert shown.exit_code == 0 and "=1+1.wav: " in shown.output and "clipped" in shown.output
    assert f"{good}: " not in shown.output
    first, second = csv.DictReader(
        io.StringIO(call("predict", folder / "winner.serfuse", "=1+1.wav", good, "--csv").stdout)
    )
    assert first["path"] == "'=1+1.wav" and first["remarks"] and not second["remarks"] and not first["problem"]


def test_brackets_in_the_name_of_an_emotion_are_shown(folder: Path, good: Path, tmp_path: Path) -> None:
    """And are no markup: neither hidden, nor an error where nothing was opened."""
    with zipfile.ZipFile(folder / "winner.serfuse") as kept, zipfile.ZipFile(tmp_path / "marked", "w") as copy:
        card = json.loads(kept.read("bundle.json")) | {"classes": ["[red]a", "[/b]", "[c]"]}
        copy.writestr("bundle.json", json.dumps(card))
        copy.writestr("network.keras", kept.read("network.keras"))
    done = call("predict", tmp_path / "marked", good, "--quiet")
    assert done.exit_code == 0, done.output
    assert sum(name in done.output for name in card["classes"]) >= 2  # the first, and the one behind it


@pytest.mark.slow
def test_a_bad_file_is_named_and_counts(folder: Path, good: Path, tmp_path: Path) -> None:
    silent = tmp_path / "[red]silent.wav"
    soundfile.write(silent, np.zeros(16000), 16000)
    done = call("predict", folder / "winner.serfuse", silent, good, "--quiet")
    assert done.exit_code == 1 and "[red]silent.wav: silent: all 16000 samples are 0" in done.output
    row = next(csv.DictReader(io.StringIO(call("predict", folder / "winner.serfuse", silent, "--csv").stdout)))
    assert row["emotion"] == "" and row["p_anger"] == "" and "silent" in row["problem"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["predict", "nothing.serfuse", "x.wav"], "There is no model nothing.serfuse"),
        (["predict", "text.serfuse", "x.wav"], "is no model that `serfuse train` wrote"),
        (["predict", "text.serfuse"], "Missing argument"),
        (["predict", "text.serfuse", "x.wav", "--csv", "--json"], "not both"),
        (["predict", "winner.serfuse", "empty"], "empty holds no audio file"),
        (["predict", "winner.serfuse", "x.wav", "--weights", "somewhere"], "logmel has no weights"),
        (["train", "empty"], "is no finished run"),
        (["train", "run", "--store", "elsewhere"], "elsewhere"),
    ],
)
def test_mistakes_are_explained(folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list, says: str) -> None:
    monkeypatch.chdir(folder)
    Path("text.serfuse").write_text("a model")
    os.makedirs("empty", exist_ok=True)
    done = call(*arguments)
    assert done.exit_code in (1, 2) and says in done.output, done.output
    assert "Traceback" not in done.output


@pytest.mark.slow
def test_the_default_name_is_that_of_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("train", folder / "run", "--store", folder / "store", "--quiet").exit_code == 0
    assert os.listdir() == ["run.serfuse"]
