"""A sweep from Python in one call."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import serfuse
from serfuse.cli import main
from serfuse.errors import ConfigError
from serfuse.store import EmbeddingStore

VALUES = {
    "title": "Small",
    "corpora": {"standin": "Stand-in"},
    "models": {"svm": {}},
    "blocks": [{"rows": ["hubert", "soundstream", "dac"]}],
    "settings": {"split": {"folds": 2}},
}


class Heard(serfuse.Observer):
    def __init__(self) -> None:
        self.what = ""
        self.done: dict[str, list[int]] = {}

    def begin(self, what: str, total: int, unit: str = "clip") -> None:
        self.what = what
        self.done[what] = [total]

    def advance(self, done: int | None = None, **_: object) -> None:
        self.done[self.what].append(self.done[self.what][-1] + 1 if done is None else done)


@pytest.mark.slow
def test_it_runs_what_is_not_finished_and_gives_the_table(
    make_store: Callable[..., EmbeddingStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store, heard = make_store(), Heard()
    found = serfuse.run_sweep(
        VALUES,
        store,
        "results",
        only=["row=hubert"],
        overrides={"options.C": 0.5, "options.kernel": "linear"},
        workers=serfuse.Workers(jobs=1, threads=1),
        observer=heard,
    )
    assert found.folder == Path("results") and found.failed == {} and found.missing == ()
    assert heard.done["running"] == [2, 0, 1, 2], "how many units there are, then how many are done"
    (run,) = (serfuse.Run.read(path) for path in (found.folder / "runs").iterdir())
    assert run.config.options["C"] == 0.5 and run.config.options["kernel"] == "linear"
    measured = found.table.figure("hubert", "standin", "accuracy", "svm").measured
    assert measured == pytest.approx(100 * run.metrics["mean"]["accuracy"])
    assert "| hubert |" in found.text() and (found.folder / "table.tex").exists()
    assert "soundstream" in (found.folder / "table.md").read_text("utf-8"), "the files hold every row"

    # The command goes on in the same folder, and finds its work done.
    Path("small.yaml").write_text(yaml.safe_dump(VALUES), "utf-8")
    flags = ["--set", "options.C=0.5", "--set", "options.kernel=linear", "--store", str(store.root), "--out", "results"]
    again = CliRunner().invoke(main, ["sweep", "small.yaml", "--only", "row=hubert", *flags, "--json"])
    assert again.exit_code == 0 and '"done": 2' in again.stdout, again.output
    # And the call from a file whose results are there runs nothing.
    heard = Heard()
    options = {"options.C": 0.5, "options.kernel": "linear"}
    same = serfuse.run_sweep("small.yaml", store, "results", only=["row=hubert"], overrides=options, observer=heard)
    assert same.table == found.table and heard.done["running"] == [2, 2]


def test_missing_embeddings_are_told_with_the_command_and_nothing_runs(
    make_store: Callable[..., EmbeddingStore], tmp_path: Path
) -> None:
    found = serfuse.run_sweep(VALUES, make_store().root, tmp_path / "results", only=["row=dac"])
    (missing,) = found.missing
    assert missing.inputs == ("dac",) and missing.command.startswith("serfuse extract")
    assert found.table.figure("dac", "standin", "accuracy", "svm").measured is None


def test_values_without_a_name_need_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Say by `out` which folder"):
        serfuse.run_sweep(VALUES, tmp_path / "store")
