"""Late fusion of finished runs: equal to `late`, a run like any other, refused where runs do not belong together."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

import serfuse
from serfuse.errors import ConfigError, RunError
from serfuse.experiment.dataset import load_dataset
from serfuse.runs.run import Run
from serfuse.store import EmbeddingStore

SIZES = {"hubert": 12, "soundstream": 8}


@pytest.fixture
def store(make_store: Callable[..., EmbeddingStore]) -> EmbeddingStore:
    return make_store(SIZES, noise=2.0)


@pytest.fixture
def cv(store: EmbeddingStore, tmp_path: Path) -> Callable[..., Run]:
    def run(model: str, *encoders: str, overrides: dict | None = None, split: str = "loso", seed: int = 0) -> Run:
        config = serfuse.configure(model, overrides, inputs=list(encoders), split=split, seed=seed)
        return serfuse.cross_validate(config, store, tmp_path / f"run{len(list(tmp_path.iterdir()))}")

    return run


def test_fuse_equals_late(cv: Callable[..., Run], store: EmbeddingStore, tmp_path: Path) -> None:
    singles = [cv("svm", name) for name in SIZES]
    late = cv("late", *SIZES)
    fused = serfuse.fuse(singles, tmp_path / "fused")
    columns = [name for name in late.predictions if name.startswith("p_")]
    np.testing.assert_allclose(fused.predictions[columns], late.predictions[columns], rtol=0, atol=1e-12)
    others = fused.predictions.drop(columns=columns), late.predictions.drop(columns=columns)
    assert others[0].equals(others[1])
    for key, value in late.metrics.items():
        if key != "seconds":
            assert fused.metrics[key] == value, key
    assert fused.points.equals(late.points) and fused.parts.equals(late.parts) and fused.clips.equals(late.clips)
    # Its record is that of the late run: it can be run again, and its data are compared with the store's.
    assert fused.model == "late" and fused.config.model_options() == late.config.model_options()
    assert fused.description.digests == late.description.digests
    assert fused.changes(load_dataset(fused.config, store)) == []
    told = yaml.safe_load((tmp_path / "fused" / "config.yaml").read_text("utf-8"))["made_of"]
    assert [one["inputs"] for one in told] == [["hubert"], ["soundstream"]]
    assert "same predictions" in serfuse.compare([fused, late]).sentences()[0]


def test_other_heads_and_weights_are_recorded(cv: Callable[..., Run], tmp_path: Path) -> None:
    singles = [cv("svm", "hubert", overrides={"options.C": 3.0}), cv("svm", "soundstream")]
    fused = serfuse.fuse(singles, tmp_path / "fused", weights=[2, 1])
    options = fused.config.model_options()
    assert [one["C"] for one in options.head_options] == [3.0, 1.0] and options.weights == (2, 1)
    again = serfuse.cross_validate(fused.config, tmp_path / "store", tmp_path / "again")
    columns = [name for name in again.predictions if name.startswith("p_")]
    np.testing.assert_allclose(fused.predictions[columns], again.predictions[columns], rtol=0, atol=1e-12)


def test_runs_that_no_configuration_describes_are_fused_all_the_same(
    cv: Callable[..., Run], store: EmbeddingStore, tmp_path: Path
) -> None:
    runs = [cv("kernel", *SIZES), cv("svm", "hubert", seed=1)]
    fused = serfuse.fuse(runs, tmp_path / "fused")
    columns = [name for name in fused.predictions if name.startswith("p_")]
    other = runs[1].predictions.set_index("clip").loc[fused.predictions["clip"], columns].to_numpy()
    expected = np.sqrt(runs[0].predictions[columns].to_numpy() * other)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fused.predictions[columns], expected, rtol=0, atol=1e-12)
    assert fused.model == "fused" and fused.inputs == "hubert + soundstream + hubert"
    assert [one.model for one in fused.description.made_of] == ["kernel", "svm"]
    serfuse.write_report([fused], tmp_path / "page.html")
    assert "kernel on hubert + soundstream, seed 0" in (tmp_path / "page.html").read_text("utf-8")
    with pytest.raises(ConfigError, match="no one configuration describes"):
        serfuse.train(fused, store, tmp_path / "model.serfuse")
    with pytest.raises(ConfigError, match="cannot be trained"):
        serfuse.cross_validate(fused.config, store, tmp_path / "again")


def test_what_does_not_fit_is_refused(cv: Callable[..., Run], make_store, tmp_path: Path) -> None:
    one = cv("svm", "hubert")
    with pytest.raises(RunError, match="1 run"):
        serfuse.fuse([one])
    with pytest.raises(RunError, match=r"different splits cannot be fused: loso in .*, random in"):
        serfuse.fuse([one, cv("svm", "soundstream", split="random")])
    random = [cv("svm", name, split="random", seed=seed) for seed, name in enumerate(SIZES)]
    with pytest.raises(RunError, match="not tested in the same folds"):
        serfuse.fuse(random)
    two = cv("svm", "soundstream")
    for weights in ([1, 0], [1e308, 1e-308], [1, float("inf")]):
        with pytest.raises(RunError, match="expected 2 positive numbers"):
            serfuse.fuse([one, two], weights=weights)
    table = two.predictions.assign(label=two.predictions["label"].replace({"anger": "sadness", "sadness": "anger"}))
    table.to_csv(two.folder / "predictions.csv", index=False)
    with pytest.raises(RunError):
        serfuse.fuse([one, two.folder], tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_a_finished_run_is_not_overwritten_unasked(cv: Callable[..., Run]) -> None:
    runs = [cv("svm", name) for name in SIZES]
    taken = serfuse.fuse(runs, runs[0].folder.with_name("fused")).folder
    with pytest.raises(RunError, match="holds a finished run"):
        serfuse.fuse(runs, taken)


def test_a_run_is_neither_replaced_by_its_fusion_nor_fused_with_itself(cv: Callable[..., Run], tmp_path: Path) -> None:
    runs = [cv("svm", name) for name in SIZES]
    before = (runs[0].folder / "predictions.csv").read_bytes()
    link = tmp_path / "link"
    link.symlink_to(runs[0].folder)
    for out in (runs[0].folder, runs[0].folder / ".." / runs[0].folder.name, link):
        with pytest.raises(RunError, match="is one of the runs to be fused"):
            serfuse.fuse(runs, out, overwrite=True)
    assert (runs[0].folder / "predictions.csv").read_bytes() == before
    with pytest.raises(RunError, match=r"is given twice: .* give weights"):
        serfuse.fuse([runs[0], runs[1], link], tmp_path / "never")
    assert not (tmp_path / "never").exists()
