"""`serfuse compare` as a user calls it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from serfuse.cli import main
from serfuse.experiment import config as configs
from serfuse.experiment.dataset import load_dataset
from serfuse.runs import execution


@pytest.fixture(scope="module")
def folders(standin_store, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three runs of an SVM: two on the same folds, one on others. Read only."""
    store, root = standin_store, tmp_path_factory.mktemp("runs")
    found = []
    for name, encoder, seed in (("one", "hubert", 0), ("two", "soundstream", 0), ("other", "hubert", 1)):
        values = configs.assign(configs.shipped("svm"), {"data.a": encoder, "seed": seed, "split.folds": 3})
        config = configs.from_dict(values)
        execution.execute(config, load_dataset(config, store), root / name)
        found.append(str(root / name))
    return found


@pytest.mark.slow
def test_figures_tests_and_a_sentence(folders: list[str]) -> None:
    done = CliRunner().invoke(main, ["compare", *folders[:2]])
    assert done.exit_code == 0, done.output
    for words in ("accuracy in per cent on 36 clips", "one - two", "p McNemar", "p t-test", "interval", "bootstrap"):
        assert words in done.output
    accuracy = json.loads((Path(folders[0]) / "metrics.json").read_text("utf-8"))["pooled"]["accuracy"]
    assert f"{100 * accuracy:.1f}" in done.output


@pytest.mark.slow
def test_json_holds_everything(folders: list[str]) -> None:
    done = CliRunner().invoke(main, ["compare", *folders[:2], "--json", "--metric", "uar"])
    found = json.loads(done.stdout)
    assert found["metric"] == "uar" and found["clips"] == 36 and len(found["pairs"]) == 1
    pair = found["pairs"][0]
    values = {run["name"]: run["value"] for run in found["runs"]}
    assert pair["difference"] == pytest.approx(values["one"] - values["two"])
    assert set(pair["holm"]) == {"p", "p_mcnemar", "p_t"} and found["sentences"]


@pytest.mark.slow
def test_runs_on_other_folds_are_refused_saying_where(folders: list[str]) -> None:
    done = CliRunner().invoke(main, ["compare", folders[0], folders[2]])
    assert done.exit_code == 1 and "fold" in done.output and "Traceback" not in done.output


@pytest.mark.slow
def test_one_run_or_none_is_an_error(folders: list[str], tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["compare", folders[0]]).exit_code == 1
    assert CliRunner().invoke(main, ["compare"]).exit_code == 2
    done = CliRunner().invoke(main, ["compare", str(tmp_path), folders[0]])
    assert done.exit_code == 1 and "Traceback" not in done.output
