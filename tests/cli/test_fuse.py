"""`serfuse fuse`: what is typed, printed and refused."""

import json
from pathlib import Path

from click.testing import CliRunner

import serfuse
from serfuse.cli import main


def test_fuse_shows_the_figures_and_where_they_are(make_store, tmp_path: Path) -> None:
    store = make_store({"hubert": 8, "soundstream": 6})
    runs = []
    for name in ("hubert", "soundstream"):
        config = serfuse.configure("svm", a=name, split="speaker", folds=2)
        runs.append(str(serfuse.cross_validate(config, store, tmp_path / name).folder))
    out = str(tmp_path / "both")
    done = CliRunner().invoke(main, ["fuse", *runs, "-o", out])
    assert done.exit_code == 0, done.output
    assert "late: hubert + soundstream, standin, split speaker" in done.output
    assert f"Run folder: {out}" in done.output
    assert "are also in training" in done.output, "the audit of the runs"
    told = json.loads(CliRunner().invoke(main, ["fuse", *runs, "-o", out, "--overwrite", "--json"]).output)
    assert told["run"] == out and told["mean"] == serfuse.Run.read(out).metrics["mean"]
    again = CliRunner().invoke(main, ["fuse", *runs, "-o", out])
    assert again.exit_code == 1 and "holds a finished run" in again.output
    wrong = CliRunner().invoke(main, ["fuse", *runs, "-o", out, "--weights", "2;1"])
    assert wrong.exit_code == 2 and "is no list of numbers" in wrong.output
