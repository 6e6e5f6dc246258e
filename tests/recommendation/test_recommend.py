"""What is recommended, by choices that saw nothing of what they are judged on."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from store_rows import drawn_clips

import serfuse
from serfuse.cli import main
from serfuse.errors import ConfigError, RunError, SplitError
from serfuse.experiment.cross_validation import fold_seed, plan
from serfuse.experiment.dataset import load_dataset
from serfuse.recommendation import candidates, choice, inner
from serfuse.recommendation.candidates import Candidate
from serfuse.store import EmbeddingStore
from serfuse.store.key import EmbeddingKey

QUICK = ("late", "svm")


@pytest.fixture(scope="module")
def recommended(tmp_path_factory: pytest.TempPathFactory):
    """A recommendation where two inputs know different halves of the emotions, and its folder and store."""
    folder = tmp_path_factory.mktemp("r")
    store = EmbeddingStore(folder / "store")
    rng = np.random.default_rng(0)
    emotions = ("anger", "fear", "joy", "sadness")
    clips, ids, audio = drawn_clips(store, "halves", emotions, speakers=5, texts=3)
    for encoder, known in (("hubert", ("anger", "fear")), ("wavlm", ("joy", "sadness"))):
        centres = {name: rng.normal(size=8) * (name in known) for name in emotions}
        matrix = np.stack([centres[clip.emotion] + 0.5 * rng.normal(size=8) for clip in clips])
        store.append("halves", EmbeddingKey(encoder), ids, audio, matrix)
    found = serfuse.recommend(store, fusions=QUICK, out=folder / "out")
    return found, store, folder / "out"


def test_a_fusion_that_helps_is_recommended(recommended) -> None:
    found, _, _ = recommended
    assert found.gain and set(found.winner.inputs) == {"hubert", "wavlm"}
    standings = {standing.family: standing for standing in found.standings}
    assert set(standings) == {"single", "concatenation", "late", "any"}
    pair = standings["any"].against_single
    assert pair.difference > 0.15 and pair.low > 0 and pair.p < 0.05
    assert pair.difference == pytest.approx(standings["any"].value - standings["single"].value, abs=1e-12)
    assert found.sentence.startswith(f"Use {found.winner.name}: choosing like this inside each training part gives")
    assert found.command.startswith(f"serfuse cv --fusion {found.winner.model} --a ")
    assert [item.value for item in found.tried] == sorted((item.value for item in found.tried), reverse=True)


def test_its_runs_are_runs_like_any_other(recommended) -> None:
    found, store, _ = recommended
    late = next(item for item in found.tried if item.candidate.model == "late")
    run = serfuse.Run.read(late.run)
    assert run.metrics["pooled"]["accuracy"] == late.value
    again = serfuse.cross_validate(run.config, store, late.run.parent / "again")
    assert again.predictions.equals(run.predictions)


def test_what_is_there_is_not_computed_again(recommended) -> None:
    found, store, out = recommended
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    again = serfuse.recommend(store, fusions=QUICK, out=out, budget=0)
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert {path for path in before if before[path] != after[path]} <= {out / "recommendation.json"}
    assert again.sentence == found.sentence and again.unfinished == ()


def test_a_short_time_names_what_was_left(recommended, tmp_path: Path) -> None:
    _, store, _ = recommended
    found = serfuse.recommend(store, fusions=QUICK, out=tmp_path / "out", budget=0)
    assert found.unfinished == ("late: hubert + wavlm", "svm on concatenation: hubert + wavlm")
    assert not found.gain and {item.candidate.family for item in found.tried} == {"single"}


def test_the_command_says_the_same(recommended) -> None:
    found, store, out = recommended
    words = ["recommend", "--store", str(store.root), "--out", str(out), "--quiet"]
    shown = CliRunner().invoke(main, [*words, "--fusion", "late", "--fusion", "svm"])
    assert shown.exit_code == 0, shown.output
    assert found.sentence in shown.output and found.command in shown.output
    told = CliRunner().invoke(main, [*words, "--fusion", "late", "--fusion", "svm", "--json"])
    assert json.loads(told.stdout)["winner"]["name"] == found.winner.name


def test_a_pair_of_folds_has_a_seed_of_its_own_that_stays(make_store: Callable[..., EmbeddingStore]) -> None:
    """What earlier calls have predicted is taken up, so the seeds must stay; and no fold of the runs may share one."""
    config = serfuse.configure("svm", a="hubert", split="loso", seed=4)
    folds = plan(config, load_dataset(config, make_store({"hubert": 6}, speakers=4)))
    blocks = inner.blocks(folds)
    pairs = [inner.between(blocks[a], blocks[b], number) for number, (a, b) in enumerate(inner.pairs(len(blocks)))]
    seeds = [fold_seed(config, fold) for fold in pairs]
    expected = [int(np.random.SeedSequence([4, 3, n]).generate_state(1)[0] % 2**31) for n in range(len(pairs))]
    assert seeds == expected
    assert not {*seeds} & {fold_seed(config, fold) for fold in folds}


def test_a_choice_rests_on_nothing_of_what_it_is_judged_on(make_store: Callable[..., EmbeddingStore]) -> None:
    """Other labels and embeddings in a fold's test part leave the choice for that fold as it is."""
    store = make_store({"hubert": 6, "wavlm": 5}, speakers=4, noise=2.0)
    config = serfuse.configure("svm", a="hubert", split="loso")
    dataset = load_dataset(serfuse.configure("concat", a="hubert", b="wavlm", split="loso"), store)
    blocks = inner.blocks(plan(config, dataset.select("a")))

    def scores(data) -> np.ndarray:
        found = {}
        for number, pair in enumerate(inner.pairs(len(blocks))):
            fold = inner.between(blocks[pair[0]], blocks[pair[1]], number)
            assert not set(fold.test) & {*fold.train, *fold.validation}
            found[pair] = inner.predict(config, data.select("a"), fold)
        return choice.scores(serfuse.metrics.METRICS.get("accuracy"), data, blocks, found)

    before = scores(dataset)
    rng = np.random.default_rng(1)
    rows = dataset.rows(blocks[0].tested)
    clips = dataset.clips.copy()
    clips.iloc[rows, clips.columns.get_loc("emotion")] = rng.permutation(clips["emotion"].iloc[rows].to_numpy())
    arrays = {name: array.copy() for name, array in dataset.arrays.items()}
    arrays["a"][rows] = rng.normal(size=arrays["a"][rows].shape) * 100
    after = scores(replace(dataset, clips=clips, arrays=arrays))
    assert after[0] == before[0]
    assert (after[1:] != before[1:]).any(), "the others do look at these clips"


def test_many_folds_are_taken_together(make_store: Callable[..., EmbeddingStore]) -> None:
    store = make_store({"hubert": 4}, speakers=23, repeats=1)
    config = serfuse.configure("svm", a="hubert", split="loso")
    dataset = load_dataset(config, store)
    blocks = inner.blocks(plan(config, dataset))
    assert len(blocks) == 10 and sum(len(block.folds) for block in blocks) == 23
    speakers = dataset.clips["speaker"]
    for block in blocks:
        assert not set(speakers[block.learned]) & set(speakers[block.tested])
        assert len(block.learned) + len(block.tested) == len(dataset.clips)


def test_equal_candidates_the_simplest_is_chosen() -> None:
    one, two = Candidate("svm", ("a",), ("x",)), Candidate("late", ("a", "b"), ("x", "y"))
    assert choice.choose([one, two], {one: np.array([0.5, 0.6]), two: np.array([0.5, 0.7])}) == [one, two]


def test_representations_of_a_store_have_the_shortest_clear_name(make_store: Callable[..., EmbeddingStore]) -> None:
    store = make_store({"hubert": 4, "wavlm": 4})
    ids, _ = store.load("standin", EmbeddingKey("hubert"))
    audio = list(store.clips("standin")["audio"])
    for key in (EmbeddingKey("hubert", pooling="mean-std"), EmbeddingKey("dac", weights="random:0")):
        store.append("standin", key, ids, audio, np.zeros((len(ids), 4), "float32"))
    found = candidates.of_store(store, "standin")
    assert sorted(found) == ["hubert@pooling=mean-std", "hubert@pooling=time", "wavlm"]


def test_what_cannot_be_recommended_is_said(make_store: Callable[..., EmbeddingStore], tmp_path: Path) -> None:
    store = make_store({"hubert": 4}, speakers=4)
    with pytest.raises(ConfigError, match=r"1 representations are to be compared \(hubert\)"):
        serfuse.recommend(store, out=tmp_path / "a")
    many = make_store({f"hubert-{number}": 4 for number in range(12)}, root=tmp_path / "many")
    with pytest.raises(
        ConfigError,
        match=r"12 representations are to be compared \(hubert-0, .*hubert-9\); a recommendation needs 2 to 8\. "
        r"None is left out unasked: name those that count with --input, such as --input hubert-0 --input hubert-1\.",
    ):
        serfuse.recommend(many, out=tmp_path / "a")
    assert not (tmp_path / "a").exists(), "nothing was begun"
    store = make_store({"hubert": 4, "wavlm": 4}, root=tmp_path / "two")
    with pytest.raises(SplitError, match="2 folds; a choice inside each training part needs at least three"):
        serfuse.recommend(store, split="random", folds=2, out=tmp_path / "b")
    with pytest.raises(ConfigError, match="'fcn' is no fusion of two or more"):
        serfuse.recommend(store, fusions=["fcn"], out=tmp_path / "c")
    with pytest.raises(ConfigError, match="cannot be trained"):
        serfuse.recommend(store, fusions=["fused"], out=tmp_path / "c")
    with pytest.raises(RunError, match="has no interval"):
        serfuse.recommend(store, metric="ece", out=tmp_path / "d")


def test_an_edited_prediction_is_made_again(recommended, tmp_path: Path) -> None:
    found, store, out = recommended
    copy = shutil.copytree(out, tmp_path / "out")
    path = next(copy.glob("inner/svm-a-*/0-1.npz"))
    with np.load(path) as held:
        whole = dict(held)
    rows = len(whole["predicted"])
    for edited in (
        {"predicted": np.full(rows, -1)},
        {"predicted": np.full(rows, 50)},
        {"predicted": whole["predicted"][1:]},
        {"predicted": whole["predicted"].astype(str)},
        {"probabilities": np.full_like(whole["probabilities"], np.nan)},
        {"probabilities": whole["probabilities"].astype(str)},
    ):
        np.savez(path, **{**whole, **edited})
        again = serfuse.recommend(store, fusions=QUICK, out=copy)
        assert again.standings == found.standings
        with np.load(path) as held:
            assert all((held[name] == whole[name]).all() for name in whole)


def test_a_candidate_that_cannot_be_trained_is_named_and_the_others_stand(
    make_store: Callable[..., EmbeddingStore], tmp_path: Path
) -> None:
    """Of three speakers a pair of folds leaves one, which cannot be split once more by speaker."""
    store = make_store({"hubert": 4, "wavlm": 4}, speakers=3, noise=2.0)
    found = serfuse.recommend(store, fusions=["stacked", "late"], out=tmp_path / "out")
    assert [name for name, _ in found.failed] == ["stacked: hubert + wavlm"]
    assert {item.candidate.model for item in found.tried} == {"svm", "late"}
