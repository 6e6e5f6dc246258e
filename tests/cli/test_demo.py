"""`serfuse demo` from an empty folder: everything a newcomer sees."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from serfuse.cli import main


@pytest.mark.slow
def test_the_demo_runs_from_nothing_and_calls_its_speech_synthetic(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["demo", "--out", "here", "--epochs", "1", "--folds", "2", "--speakers", "4"])
    assert done.exit_code == 0, done.output
    assert "synthetic" in done.output
    assert list(Path("here/speech").rglob("*.wav")), "real files on disk"
    runs = sorted(path.parent for path in Path("here/runs").glob("*/metrics.json"))
    assert {path.name.split("-")[0] for path in runs} == {"svm", "late", "concat", "hyfuse", "parrot"}
    for run in runs:
        assert (run / "confusion.png").exists() and (run / "tsne.png").exists()
        accuracy = json.loads((run / "metrics.json").read_text("utf-8"))["mean"]["accuracy"]
        assert f"{100 * accuracy:.1f}" in done.output, "the summary shows what the run folders hold"
    best = json.loads(Path("here/runs/svm-prosody-random/metrics.json").read_text("utf-8"))
    chance = 1 / len(best["classes"])
    assert chance + 0.15 < best["mean"]["accuracy"] < 1, "neither chance nor trivial"
    assert not Path("serfuse-store").exists() and not Path("runs").exists(), "it keeps to its own folder"
