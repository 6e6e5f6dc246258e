"""Settings chosen within the training part of each fold, and nowhere else."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import serfuse
from serfuse.errors import ConfigError
from serfuse.experiment import config as configs
from serfuse.experiment import cross_validation, search
from serfuse.experiment.dataset import Dataset, load_dataset
from serfuse.store import EmbeddingStore

GRID = {"options.C": [1e-4, 1.0, 10.0]}


def config(model: str = "svm", grid: object = None, **settings: object) -> configs.Config:
    inputs = ["hubert", "soundstream"][: 1 if model == "svm" else 2]
    return serfuse.configure(model, {"training.search": grid or GRID}, inputs=inputs, split="loso", **settings)


@pytest.fixture
def dataset(make_store: Callable[..., EmbeddingStore]) -> Dataset:
    return load_dataset(config("late", "head-C"), make_store({"hubert": 10, "soundstream": 6}, noise=2.0))


def test_each_fold_says_what_it_chose_and_the_same_again(dataset: Dataset) -> None:
    dataset = replace(dataset, arrays={"a": dataset.arrays["a"]}, keys={"a": dataset.keys["a"]})
    found = cross_validation.cross_validate(config(), dataset)
    chosen = [one["settings"]["options.C"] for one in found.metrics["chosen"]]
    assert len(chosen) == 4 and set(chosen) <= {1.0, 10.0}, "so small a C finds nothing"
    again = cross_validation.cross_validate(config(), dataset)
    assert again.metrics["chosen"] == found.metrics["chosen"]
    assert again.predictions.equals(found.predictions)
    # With one candidate it is the run with these settings.
    fixed = cross_validation.cross_validate(config(grid={"options.C": [10.0]}), dataset)
    plain = cross_validation.cross_validate(
        serfuse.configure("svm", {"options.C": 10.0}, a="hubert", split="loso"), dataset
    )
    assert fixed.predictions.equals(plain.predictions)
    for fold, C in zip(found.folds, chosen, strict=True):
        if C == 10.0:
            rows = plain.predictions["fold"] == fold.fold.index
            assert list(fold.predictions["predicted"]) == list(plain.predictions.loc[rows, "predicted"])


def test_the_choice_never_looks_at_held_out_clips(dataset: Dataset) -> None:
    fold = cross_validation.plan(config("late", "head-C"), dataset)[0]
    before = cross_validation.run_fold(config("late", "head-C"), dataset, fold)
    rows = dataset.rows(fold.test)
    other = {name: array.copy() for name, array in dataset.arrays.items()}
    for array in other.values():
        array[rows] = 1e3 * np.random.default_rng(0).normal(size=array[rows].shape)
    clips = dataset.clips.copy()
    clips.loc[fold.test, "emotion"] = np.roll(clips.loc[fold.test, "emotion"], 1)
    after = cross_validation.run_fold(config("late", "head-C"), replace(dataset, arrays=other, clips=clips), fold)
    assert before.chosen == after.chosen != {}


def test_it_is_told_in_the_run_and_survives_an_interruption(make_store, tmp_path: Path) -> None:
    store = make_store({"hubert": 10})

    class Stop(serfuse.Observer):
        def fold_done(self, result: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serfuse.cross_validate(config(), store, tmp_path / "run", observer=Stop())
    run = serfuse.cross_validate(config(), store, tmp_path / "run")
    assert len(run.metrics["chosen"]) == 4 and all(one["settings"] for one in run.metrics["chosen"])
    (sentence,) = run.choices()
    assert sentence.startswith("Chosen within the training part of each fold: options.C = ")
    serfuse.write_report([run], tmp_path / "page.html")
    assert "options.C = " in (tmp_path / "page.html").read_text("utf-8")
    assert run.config.training.search == config().training.search
    model = serfuse.train(run, store, tmp_path / "model.serfuse")
    assert model.card.options["C"] in GRID["options.C"]


def test_a_configuration_without_a_search_is_written_as_before() -> None:
    text = configs.dump(serfuse.configure("svm", a="hubert"))
    assert "search" not in text
    told = yaml.safe_load(configs.dump(config(grid="C")))["training"]["search"]
    assert told == {"grid": "C", "folds": 3, "metric": "uar"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("c", "no grid of that name; choose from C"),
        ({"options.C": []}, "has no values"),
        ({"split.name": ["loso"]}, "'split.name' is not searched"),
        ({"options.C": list(range(1, 66))}, "1 to 64 combinations, received 65"),
        ({"grid": "C", "folds": 1}, "folds"),
        ({"grid": "C", "metric": "accuracy"}, "metric"),
    ],
)
def test_bad_searches_are_named(given: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(grid=given)


def test_every_named_grid_holds_valid_settings_the_default_first() -> None:
    models = {"C": "svm", "learning-rate": "fcn", "dropout": "fcn"}
    for name in configs.GRIDS:
        found = search.candidates(config(models.get(name, "late"), name))
        assert len(found) == len({str(one) for one, _ in found}) > 1
        assert found[0][1].model_options() == config(models.get(name, "late"), name).model_options()
    with pytest.raises(ConfigError, match="options.dropout: unknown key"):
        search.candidates(config("svm", "dropout"))


def test_a_tie_goes_to_the_first(dataset: Dataset) -> None:
    dataset = replace(dataset, arrays={"a": dataset.arrays["a"]}, keys={"a": dataset.keys["a"]})
    grid = {"options.C": [1e-6, 1e-7]}  # neither finds anything
    found = cross_validation.cross_validate(config(grid=grid), dataset)
    assert {one["settings"]["options.C"] for one in found.metrics["chosen"]} == {1e-6}
