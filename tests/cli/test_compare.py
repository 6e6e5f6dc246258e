"""`serfuse compare` as a user calls it."""

import json
import shutil
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
def test_many_runs_show_the_pairs_of_the_best_or_of_a_chosen_one(folders: list[str], tmp_path: Path) -> None:
    several = []
    for number in range(5):
        several.append(str(shutil.copytree(folders[number % 2], tmp_path / f"run{number}")))
    done = CliRunner().invoke(main, ["compare", *several])
    best = max(several[:2], key=lambda run: json.loads((Path(run) / "metrics.json").read_text())["pooled"]["accuracy"])
    assert done.exit_code == 0, done.output
    assert f"the pairs of the best run, {Path(best).name}; Holm's correction is for all 10" in done.output
    assert done.output.count("after Holm\n") == 0 and done.output.count("  after Holm ") == 4
    assert CliRunner().invoke(main, ["compare", *several, "--all"]).output.count("  after Holm ") == 10
    for other in (several[3], "run3"):
        chosen = CliRunner().invoke(main, ["compare", *several, "--against", other, "--json"])
        pairs = json.loads(chosen.stdout)["pairs"]
        assert len(pairs) == 4 and all("run3" in (pair["a"], pair["b"]) for pair in pairs)
    outside = CliRunner().invoke(main, ["compare", several[0], "--against", several[1], "--json"])
    assert len(json.loads(outside.stdout)["pairs"]) == 1, "it need not be named twice"
    unknown = CliRunner().invoke(main, ["compare", *several, "--against", "nowhere"])
    assert unknown.exit_code == 1 and "nowhere is no finished run" in unknown.output


@pytest.mark.slow
def test_unfinished_runs_are_left_out_by_name(folders: list[str], tmp_path: Path) -> None:
    unfinished = Path(shutil.copytree(folders[0], tmp_path / "unfinished"))
    (unfinished / "metrics.json").unlink()
    done = CliRunner().invoke(main, ["compare", *folders[:2], str(unfinished)])
    assert done.exit_code == 0 and f"Left out, since not finished: {unfinished}." in done.stderr
    assert done.stdout == CliRunner().invoke(main, ["compare", *folders[:2]]).stdout
    alone = CliRunner().invoke(main, ["compare", folders[0], str(unfinished)])
    assert alone.exit_code == 1 and "a comparison needs at least two" in alone.output


@pytest.mark.slow
def test_one_run_or_none_is_an_error(folders: list[str], tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["compare", folders[0]]).exit_code == 1
    assert CliRunner().invoke(main, ["compare"]).exit_code == 2
    done = CliRunner().invoke(main, ["compare", str(tmp_path), folders[0]])
    assert done.exit_code == 1 and "Traceback" not in done.output
