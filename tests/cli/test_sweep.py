"""`serfuse sweep` as a user calls it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from serfuse.cli import main
from serfuse.store import EmbeddingStore

SWEEP = {
    "title": "Small",
    "rows_heading": "Rep",
    "corpora": {"emodb": "Emo-DB"},
    "models": {"svm": {"heading": "SVM"}},
    "encoders": {"H": "hubert@pooling=time", "W": "wavlm"},
    "blocks": [{"title": "All", "rows": ["H", "W", "dac@pooling=paper"]}],
}


@pytest.fixture
def serfuse(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_store: Callable[..., EmbeddingStore]
) -> Callable[..., Result]:
    """The command line in a folder with a store and a sweep file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SERFUSE_STORE", raising=False)
    make_store({"hubert": 12, "wavlm": 8}, corpus="emodb", root=tmp_path / "serfuse-store")
    Path("small.yaml").write_text(yaml.safe_dump(SWEEP), "utf-8")

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["sweep", *arguments])

    return call


@pytest.mark.slow
def test_a_sweep_from_dry_run_to_table(serfuse: Callable[..., Result]) -> None:
    dry = serfuse("small.yaml", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "0 units are done, 10 would run, 5 wait for embeddings." in dry.output
    assert "would run H, emodb, svm: all folds" in dry.output
    assert "--encoder dac --pool paper" in dry.output and "serfuse extract" in dry.output
    assert not Path("sweeps").exists(), "a dry run writes nothing"

    done = serfuse("small.yaml")
    assert done.exit_code == 0, done.output
    assert "Small: Emo-DB" in done.stdout and "SVM Acc" in done.stdout
    assert "Missing: 1 of 3 cells are not finished." in done.stdout
    assert "H, emodb, svm: accuracy" in done.stderr and "10 of 10 units" in done.stderr
    out = Path("sweeps/small")
    for name in ("table.md", "table.csv", "table.tex", "table.html"):
        assert "dac@pooling=paper" in (out / name).read_text("utf-8").replace("\\", "")

    status = serfuse("small.yaml", "--status")
    assert "10 of 15 units are done, 5 wait for embeddings." in status.output
    assert "Nothing is at work now." in status.output and "5/5" in status.output
    shown = serfuse("small.yaml", "--show", "csv")
    assert shown.output == (out / "table.csv").read_text("utf-8")
    assert "Emo-DB" in serfuse("small.yaml", "--show", "text").output

    again = serfuse("small.yaml", "--json")
    counts = json.loads(again.stdout)
    assert (counts["units"], counts["done"], counts["failed"]) == (10, 10, {})
    assert counts["missing"][0]["inputs"] == ["dac@pooling=paper"]
    starts = [line for line in (out / "log.jsonl").read_text().splitlines() if '"start"' in line]
    assert len(starts) == 10, "the second call ran nothing"


@pytest.mark.slow
def test_the_state_is_there_for_scripts_and_of_all_sweeps_at_once(serfuse: Callable[..., Result]) -> None:
    nothing = serfuse("--status")
    assert nothing.exit_code == 1 and "No sweep has been started here" in nothing.output
    assert serfuse("small.yaml", "--only", "row=W", "--quiet").exit_code == 0
    assert serfuse("small.yaml", "--set", "split.folds=3", "--out", "sweeps/three", "--quiet").exit_code == 0
    state = json.loads(serfuse("small.yaml", "--status", "--json").stdout)
    assert (state["units"], state["done"], state["waiting_for_embeddings"]) == (10, 5, 5)
    assert state["at_work"] == {} and state["failed"] == {} and state["seconds_left"] is None
    lines = serfuse("--status").output.splitlines()
    assert lines[0] == "sweeps/small: 5 of 5 units, nothing at work", "what the latest call asked for"
    assert lines[1] == "sweeps/three: 6 of 6 units, 3 more wait for embeddings, nothing at work"
    both = json.loads(serfuse("--status", "--json").stdout)["sweeps"]
    assert [one["folder"] for one in both] == ["sweeps/small", "sweeps/three"]
    Path("small.yaml").unlink()
    assert "There is no sweep file" in serfuse("--status").output
    without = serfuse()
    assert without.exit_code == 2 and "Missing argument 'SWEEP'" in without.output


def test_only_and_set_narrow_and_change(serfuse: Callable[..., Result]) -> None:
    dry = serfuse("small.yaml", "--dry-run", "--only", "row=W", "--set", "split.folds=3", "--json")
    counts = json.loads(dry.stdout)
    assert counts["units"] == 3 and counts["missing"] == []


@pytest.mark.slow
def test_the_files_keep_what_earlier_calls_finished_and_the_threads_too(
    serfuse: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    from serfuse.experiment import threads

    monkeypatch.setattr(threads, "cores", lambda: 2)
    first = serfuse("small.yaml", "--only", "row=H", "--only", "seed=0")
    assert first.exit_code == 0 and "  H " in first.stdout and "dac" not in first.stdout
    assert "threads each" not in first.stderr
    second = serfuse("small.yaml", "--only", "row=W", "--jobs", "2")
    assert second.exit_code == 0 and "  W " in second.stdout and "  H " not in second.stdout
    assert "2 processes of 2 threads each, as in the first call, share 2 cores. --threads 1 is faster" in second.stderr
    rows = Path("sweeps/small/table.csv").read_text("utf-8").splitlines()
    measured = {row.split(",")[1]: row.split(",")[2] for row in rows[1:]}
    assert list(measured) == ["H", "W", "dac@pooling=paper"]
    assert measured["H"] and measured["W"] and not measured["dac@pooling=paper"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing.yaml"], "There is no sweep file 'nothing.yaml'"),
        (["small.yaml", "--only", "corpus=mesd"], "no such corpus. Choose one of: Emo-DB, emodb"),
        (["small.yaml", "--only", "emodb"], "--only takes AXIS=VALUE"),
        (["small.yaml", "--set", "training.epoch=3"], "training.epoch: unknown key"),
        (["small.yaml", "--address", "auto"], "--address is for --engine ray"),
        (["small.yaml", "--memory", "lots"], "Cannot read the size 'lots'"),
    ],
)
def test_mistakes_are_told_plainly(serfuse: Callable[..., Result], arguments: list[str], says: str) -> None:
    done = serfuse(*arguments)
    assert done.exit_code != 0 and "Traceback" not in done.output
    assert says in done.output


@pytest.mark.slow
def test_a_failed_unit_is_reported_and_the_rest_is_there(serfuse: Callable[..., Result]) -> None:
    """A convolution cannot work on eight values: those cells fail, the others are finished."""
    values = {**SWEEP, "models": {"svm": {}, "cnn-pooled": {}}, "blocks": [{"rows": ["W"]}]}
    Path("short.yaml").write_text(yaml.safe_dump(values), "utf-8")
    done = serfuse("short.yaml", "--set", "split.folds=2", "--retries", "0")
    assert done.exit_code == 1
    assert "FAILED W, emodb, cnn-pooled, fold 0" in done.stdout and "needs at least" in done.stdout
    assert "accuracy" in done.stderr
    status = serfuse("short.yaml", "--set", "split.folds=2", "--status")
    assert "2 failed" not in status.output and "Failed: emodb-cnn-pooled-wavlm" in status.output


def test_shipped_sweeps_show_the_paper_before_anything_is_extracted(serfuse: Callable[..., Result]) -> None:
    done = serfuse("parrot_table2", "--show", "markdown")
    assert done.exit_code == 0, done.output
    assert "| A(B)+H | – / 70.63 | – / 69.79 | – / 73.68 |" in done.output
    text = serfuse("parrot_table2", "--show", "text").output
    assert "…" not in text and text.count("A(B)+H") >= 3, "parts, rather than figures cut short"
    assert "Nothing could run yet: make what is missing" in serfuse("hyfuse_table1", "--only", "row=E").output
    dry = serfuse("hyfuse_table2", "--only", "corpus=cremad", "--dry-run")
    assert "280 wait for embeddings" in dry.output
    assert dry.output.count("serfuse extract") == 2, "one command for the speech models, one for the codecs"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_on_a_terminal_there_is_one_line_per_row(serfuse: Callable[..., Result]) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "from serfuse.cli import main; main()", "sweep", "small.yaml", "--only", "row=W"],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40", "OMP_NUM_THREADS": "1"},
    )
    os.close(theirs)
    screen = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        screen += piece
    os.close(ours)
    assert process.wait(timeout=300) == 0
    text = screen.decode("utf-8", "replace")
    assert "mean accuracy so far" in text and "/5" in text and "of 5 units" in text
