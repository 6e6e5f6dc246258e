"""`hf:` names wherever an encoder's name is taken, as a user gives them."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from serfuse.cli import main
from serfuse.corpora import synthetic
from serfuse.extraction.extract import extract
from serfuse.store import EmbeddingStore

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "encoders"))
from checkpoints import small_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_from_a_checkpoint_to_an_answer(tiny_corpus_dir: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERFUSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repository = tmp_path / "hub" / "models--superb--hubert-base-superb-er"
    small_checkpoint("hubert", repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    small_checkpoint("wavlm", tmp_path / "mine")
    tuned, own = "hf:superb/hubert-base-superb-er", "hf:./mine"

    data = ("--corpus", "synthetic", "--data", tiny_corpus_dir, "--name", "iemocap")
    done = call("extract", *data, "--encoder", tuned, "--encoder", own, "--layer", f"{own}=2", "--json")
    assert done.exit_code == 0, done.output
    keys = {found["encoder"]: found["key"] for found in json.loads(done.stdout)["encoders"]}
    assert keys["hf.superb--hubert-base-superb-er"]["weights"] == f"hub:superb/hubert-base-superb-er@{COMMIT}"
    assert (keys["hf.mine"]["layer"], keys["hf.mine"]["weights"][:7]) == ("2", "sha256:")
    again = call("extract", *data, "--encoder", tuned)
    assert "0 computed, 48 taken from the store" in again.stdout
    assert "hf.mine" in call("list", "store").stdout
    row = json.loads(call("list", "encoders", own, "--json").stdout)[0]
    assert (row["name"], row["time"], row["weights_here"]) == ("hf.mine", 32, True)

    chosen = ("--corpus", "iemocap", "--a", tuned, "--b", f"{own}@layer=2", "--split", "loso", "--quiet")
    done = call("cv", "--fusion", "late", *chosen, "--out", "run")
    assert done.exit_code == 0, done.output
    assert "WARNING: LEAKAGE: hf.superb--hubert-base-superb-er was trained on emotion labels of iemocap" in done.output
    said = json.loads((tmp_path / "run" / "metrics.json").read_text())["audit"]["notes"]
    assert any(note.startswith("What hf.mine was trained on is not known here") for note in said)
    missing = call("cv", "--head", "svm", "--corpus", "iemocap", "--a", "hf:someone/else")
    assert missing.exit_code == 1 and "--encoder hf.someone--else" in missing.output

    assert call("train", "run", "-o", "kept.serfuse").exit_code == 0
    clip = min(tiny_corpus_dir.rglob("*.wav"))
    first = call("predict", "kept.serfuse", clip, "--csv")
    assert first.exit_code == 0, first.output
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    lost = call("predict", "../kept.serfuse", clip, "--csv")
    assert lost.exit_code == 1 and "give it as --weights hf.mine=FOLDER" in lost.output
    assert "--weights random" not in lost.output
    found = call("predict", "../kept.serfuse", clip, "--csv", "--weights", "hf:../mine=../mine")
    assert found.exit_code == 0 and found.stdout == first.stdout


def test_what_is_no_name_is_an_error_in_words() -> None:
    for name in ("hf:wavlm", "hf:a/b/c"):
        for command in (("extract", "--corpus", "emodb", "--data", ".", "--encoder", name), ("list", "encoders", name)):
            done = call(*command)
            assert done.exit_code == 1 and "names no encoder. Expected hf:OWNER/NAME" in done.output


def test_a_folder_that_is_absent_or_not_whole_says_what_is_missing(
    tiny_corpus_dir: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "config.json").write_text("{}")
    (tmp_path / "part" / "model.safetensors").write_bytes(b"")
    data = ("--corpus", "synthetic", "--data", tiny_corpus_dir, "--quiet")
    done = call("extract", *data, "--encoder", "hf:./absent", "--encoder", "hf:./part")
    assert done.exit_code == 1
    assert f"hf.absent: not extracted. hf.absent: there is no folder {tmp_path / 'absent'}." in done.output
    assert f"{tmp_path / 'part'} lacks preprocessor_config.json, which hf.part needs." in done.output


@pytest.mark.slow
def test_several_processes_report_under_the_name_of_the_store(tiny_corpus_dir: Path, tmp_path: Path) -> None:
    corpus, store = synthetic.read(tiny_corpus_dir), EmbeddingStore(tmp_path / "store")
    (report,) = extract(corpus, [f"hf:{tmp_path / 'absent'}"], store, jobs=2)
    assert report.encoder == "hf.absent" and "there is no folder" in report.error
