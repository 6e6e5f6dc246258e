"""Cross-validation: joined by id, trained on training clips only, every clip tested once, repeatable to the seed."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import pytest

from serfuse.errors import ConfigError, RunError, StoreError, UnknownNameError
from serfuse.experiment import config as configs
from serfuse.experiment import cross_validation, fitting
from serfuse.experiment.dataset import Dataset, load_dataset, parse_input
from serfuse.progress import Observer
from serfuse.splits.leakage import Audit
from serfuse.store import EmbeddingStore, Skipped
from serfuse.store.key import EmbeddingKey

MakeStore = Callable[..., EmbeddingStore]


def make(model: str, *assignments: str, a: str = "hubert", b: str | None = None) -> configs.Config:
    values = configs.assign(configs.shipped(model), {"data.a": a, "data.b": b, "split.folds": 2})
    if model != "svm":
        values = configs.assign(values, {"training.epochs": 3})
    return configs.from_dict(configs.override(values, list(assignments)))


@pytest.fixture(scope="module")
def dataset(standin_store: EmbeddingStore) -> Dataset:
    return load_dataset(make("fcn"), standin_store)


@pytest.fixture(scope="module")
def result(dataset: Dataset) -> Callable[[str], cross_validation.Result]:
    """`result(model)`: two folds of it, trained once for all tests."""
    return cache(lambda model: cross_validation.cross_validate(make(model), dataset))


def test_parse_input() -> None:
    assert parse_input("hubert") == ("hubert", {})
    assert parse_input("hubert@pool=time,layer=6") == ("hubert", {"pooling": "time", "layer": "6"})
    with pytest.raises(ConfigError, match="selectors"):
        parse_input("hubert@colour=red")


@pytest.mark.parametrize(("model", "a", "b"), [("fcn", "hubert", "soundstream"), ("concat", "hubert", None)])
def test_the_number_of_inputs_must_fit(make_store: MakeStore, model: str, a: str, b: str | None) -> None:
    with pytest.raises(ConfigError, match="takes"):
        load_dataset(make(model, a=a, b=b), make_store())


def test_inputs_that_cover_other_clips_are_joined_by_clip_id(make_store: MakeStore) -> None:
    """Each of three encoders lacks clips of its own, and stored the others in another order."""
    store = make_store({"hubert": 4})
    ids = list(store.clips("standin")["id"])
    audio = dict(zip(ids, store.clips("standin")["audio"], strict=True))
    lacking = {"wavlm": ids[:2], "dac": [ids[1], ids[5]], "prosody": [ids[-1]]}
    rng = np.random.default_rng(0)
    for encoder, lost in lacking.items():
        order = [str(name) for name in rng.permutation(ids) if name not in lost]
        rows = np.array([[ids.index(name), len(encoder)] for name in order], "float32")
        store.append("standin", EmbeddingKey(encoder), order, [audio[name] for name in order], rows)
        skipped = [Skipped(name, audio[name], "silent") for name in lost]
        store.record_skipped("standin", EmbeddingKey(encoder), skipped)
    config = configs.configure("concat", inputs=["wavlm", "dac", "prosody"])
    found = load_dataset(config, store)
    expected = [name for name in ids if name not in {ids[0], ids[1], ids[5], ids[-1]}]
    assert list(found.clips["id"]) == expected
    for side, encoder in zip("abc", lacking, strict=True):
        assert found.arrays[side].tolist() == [[ids.index(name), len(encoder)] for name in expected]
    assert {(item["clip"], item["name"]) for item in found.left_out} == {
        (name, side) for side, lost in zip("abc", lacking.values(), strict=True) for name in lost
    }


def test_missing_encoder_lists_what_there_is(make_store: MakeStore) -> None:
    with pytest.raises(StoreError) as caught:
        load_dataset(make("fcn", a="wavlm"), make_store())
    assert "hubert" in str(caught.value) and "serfuse extract" in str(caught.value)


@pytest.mark.slow
def test_a_mistyped_encoder_is_told_from_one_that_was_not_extracted(make_store: MakeStore) -> None:
    store = make_store()
    with pytest.raises(UnknownNameError, match="Did you mean 'hubert'") as caught:
        load_dataset(make("fcn", a="huber"), store)
    assert "serfuse extract" not in str(caught.value), "no command makes embeddings of what does not exist"
    named = store.keys("standin")[0].folder
    assert load_dataset(make("fcn", a=named), store).keys["a"].folder == named


def test_several_corpora_must_be_chosen_from(make_store: MakeStore) -> None:
    store = make_store(corpus="one")
    make_store(corpus="two", root=store.root)
    with pytest.raises(StoreError, match="one, two"):
        load_dataset(make("fcn"), store)
    chosen = configs.from_dict(configs.assign(configs.shipped("fcn"), {"data.a": "hubert", "data.corpus": "two"}))
    assert load_dataset(chosen, store).corpus == "two"
    with pytest.raises(StoreError, match="holds no corpus"):
        load_dataset(make("fcn"), EmbeddingStore(store.root / "empty"))


def test_rows_are_joined_by_clip_id_whatever_order_they_were_stored_in(make_store: MakeStore) -> None:
    store = make_store()
    straight = load_dataset(make("concat", a="hubert", b="soundstream"), store)
    ids, matrix = store.load("standin", store.find("standin", "hubert"))
    audio = store.clips("standin").set_index("id")["audio"]
    order = np.random.default_rng(1).permutation(len(ids))
    shuffled = [ids[number] for number in order]
    other = EmbeddingKey("hubert", layer="7")
    store.append("standin", other, shuffled, [audio[name] for name in shuffled], matrix[order])
    again = load_dataset(make("concat", a="hubert@layer=7", b="soundstream"), store)
    np.testing.assert_array_equal(straight.arrays["a"], again.arrays["a"])
    np.testing.assert_array_equal(straight.arrays["b"], again.arrays["b"])
    assert list(straight.clips["id"]) == list(again.clips["id"])


def test_a_part_keeps_the_order_of_its_ids(dataset: Dataset) -> None:
    order = np.random.default_rng(3).permutation(len(dataset.clips))[:7]
    part = dataset.part(dataset.clips["id"].to_numpy()[order])
    assert len(part) == 7 and list(part.ids) == list(dataset.clips["id"].iloc[order])
    assert [dataset.classes[label] for label in part.labels] == list(dataset.clips["emotion"].iloc[order])
    np.testing.assert_array_equal(part.arrays["a"], dataset.arrays["a"][order])
    only = dataset.part(dataset.clips["id"][dataset.clips["emotion"] == "sadness"])
    assert set(only.labels) == {dataset.classes.index("sadness")}, "numbers are the corpus', whatever a part holds"
    empty = dataset.part([])
    assert len(empty) == 0 and empty.arrays["a"].shape == (0, dataset.arrays["a"].shape[1])


@pytest.mark.slow
@pytest.mark.parametrize(("model", "items"), [("svm", 1), ("fcn", 3)])
def test_progress_ends_at_the_total_also_where_training_stops_early(dataset: Dataset, model: str, items: int) -> None:
    class Watch(Observer):
        total = done = 0

        def begin(self, what: str, total: int, unit: str = "clip") -> None:
            assert unit == ("fold" if model == "svm" else "epoch")
            self.total = total

        def advance(self, done: int | None = None, **_: object) -> None:
            self.done = self.done + 1 if done is None else done

    watch = Watch()
    change = [] if model == "svm" else ["training.patience=1", "training.learning_rate=1.0"]
    cross_validation.cross_validate(make(model, *change), dataset, observer=watch)
    assert watch.total == watch.done == 2 * items


@pytest.mark.slow
@pytest.mark.parametrize("model", ["svm", "fcn", "cnn", "cnn-pooled"])
def test_every_clip_is_tested_once_with_probabilities(dataset: Dataset, result, model: str) -> None:
    predictions = result(model).predictions
    assert sorted(predictions["clip"]) == sorted(dataset.clips["id"])
    labels = dataset.clips.loc[predictions["clip"], "emotion"].to_numpy()
    assert (predictions["label"].to_numpy() == labels).all()
    columns = [f"p_{name}" for name in dataset.classes]
    np.testing.assert_allclose(predictions[columns].sum(axis=1), 1.0, atol=1e-9)
    assert np.isfinite(result(model).metrics["pooled"]["accuracy"])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["fcn", "cnn", "cnn-pooled"])
def test_predictions_follow_the_probabilities(dataset: Dataset, result, model: str) -> None:
    predictions = result(model).predictions
    best = predictions[[f"p_{name}" for name in dataset.classes]].to_numpy().argmax(axis=1)
    assert list(np.asarray(dataset.classes)[best]) == list(predictions["predicted"])


@pytest.mark.slow
def test_a_learnable_corpus_is_learned_and_a_meaningless_one_is_not(make_store: MakeStore, tmp_path) -> None:
    config = make("fcn", "training.epochs=12", "training.learning_rate=1e-2")

    def right(store: EmbeddingStore) -> pd.Series:
        dataset = load_dataset(config, store)
        found = cross_validation.run_fold(config, dataset, cross_validation.plan(config, dataset)[0]).predictions
        return found["label"] == found["predicted"]

    assert right(make_store(noise=0.5, repeats=5)).mean() > 0.9
    noise = right(make_store(noise=1e3, repeats=24, root=tmp_path / "noise"))
    assert abs(noise.mean() - 1 / 3) < 4 * np.sqrt(2 / 9 / len(noise)), "chance, within four standard errors"


@pytest.mark.slow
def test_the_same_seed_repeats_to_the_last_digit_and_another_does_not(dataset: Dataset, result) -> None:
    first = result("cnn")
    again = cross_validation.cross_validate(make("cnn"), dataset)
    pd.testing.assert_frame_equal(first.predictions, again.predictions, check_exact=True)
    for one, two in zip(first.folds, again.folds, strict=True):
        pd.testing.assert_frame_equal(one.history, two.history, check_exact=True)
    other = cross_validation.run_fold(make("cnn", "seed=1"), dataset, first.folds[0].fold)
    assert not first.folds[0].predictions.equals(other.predictions)


@pytest.mark.slow
def test_a_fold_gives_the_same_result_alone_as_in_its_run(dataset: Dataset, result) -> None:
    """So folds may run in any order, in any process."""
    last = cross_validation.plan(make("fcn"), dataset)[-1]
    alone = cross_validation.run_fold(make("fcn"), dataset, last)
    pd.testing.assert_frame_equal(alone.predictions, result("fcn").folds[-1].predictions, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["svm", "fcn", "cnn"])
def test_test_clips_touch_nothing_that_is_fitted(dataset: Dataset, result, model: str) -> None:
    """Changing a test clip's embedding changes the prediction of that clip only."""
    fold, before = result(model).folds[0].fold, result(model).folds[0].predictions
    victim = fold.test[0]
    changed = {name: array.copy() for name, array in dataset.arrays.items()}
    changed["a"][dataset.rows([victim])] += 100.0
    other = Dataset(dataset.corpus, dataset.info, dataset.clips, changed, dataset.keys)
    after = cross_validation.run_fold(make(model), other, fold).predictions
    rest = before["clip"] != victim
    columns = [column for column in before if column.startswith("p_")]
    np.testing.assert_allclose(after.loc[rest, columns], before.loc[rest, columns], rtol=0, atol=1e-6)
    assert not np.allclose(after.loc[~rest, columns], before.loc[~rest, columns], atol=1e-3)


@pytest.mark.slow
def test_early_stopping_watches_the_validation_part_and_restores_its_best_epoch(
    dataset: Dataset,
) -> None:
    config = make("fcn", "training.epochs=200", "training.patience=3", "training.learning_rate=0.05")
    fold = cross_validation.plan(config, dataset)[0]
    assert len(fold.validation), "there is an inner validation part"
    history = cross_validation.run_fold(config, dataset, fold).history
    assert len(history) < 200
    assert history["val_loss"].idxmin() == len(history) - 1 - 3


def test_svm_learns_from_the_clips_that_others_stop_on(dataset: Dataset, monkeypatch) -> None:
    seen = {}
    original = fitting.fit

    def spy(config, training, *args, **kwargs):
        seen["rows"] = len(training)
        return original(config, training, *args, **kwargs)

    monkeypatch.setattr(fitting, "fit", spy)
    fold = cross_validation.plan(make("svm"), dataset)[0]
    cross_validation.run_fold(make("svm"), dataset, fold)
    assert seen["rows"] == len(fold.train) + len(fold.validation)


@pytest.mark.slow
def test_a_diverging_loss_stops_the_run_with_advice(make_store: MakeStore) -> None:
    config = make("fcn", "options.standardize=false", "training.learning_rate=10.0", "training.epochs=50")
    dataset = load_dataset(config, make_store())
    huge = {name: array * np.float32(1e37) for name, array in dataset.arrays.items()}
    dataset = Dataset(dataset.corpus, dataset.info, dataset.clips, huge, dataset.keys)
    with pytest.raises(RunError, match="learning_rate"):
        cross_validation.run_fold(config, dataset, cross_validation.plan(config, dataset)[0])


@pytest.mark.slow
def test_a_constant_value_of_an_embedding_does_no_harm(make_store: MakeStore) -> None:
    config = make("fcn")
    dataset = load_dataset(config, make_store())
    arrays = {name: array.copy() for name, array in dataset.arrays.items()}
    arrays["a"][:, 3] = 7.25
    dataset = Dataset(dataset.corpus, dataset.info, dataset.clips, arrays, dataset.keys)
    result = cross_validation.run_fold(config, dataset, cross_validation.plan(config, dataset)[0])
    assert np.isfinite(result.predictions[[f"p_{name}" for name in dataset.classes]].to_numpy()).all()


@pytest.mark.slow
def test_every_fusion_measures_what_each_input_contributes(make_store: MakeStore) -> None:
    """One input holds the emotion, the other nothing but noise: shuffling says which is which."""
    store = make_store({"hubert": 24}, noise=0.3, repeats=5)
    clips = store.clips("standin")
    noise = np.random.default_rng(0).normal(size=(len(clips), 24))
    store.append("standin", EmbeddingKey("logmel"), list(clips["id"]), list(clips["audio"]), noise)
    config = make("concat", "training.epochs=8", "training.learning_rate=1e-3", a="hubert", b="logmel")
    result = cross_validation.cross_validate(config, load_dataset(config, store))
    found = result.metrics["sensitivity"]
    assert set(found) == {"a", "b"}
    assert found["a"]["changed"] > 0.3 and found["a"]["accuracy_drop"] > 0.3
    assert found["b"]["changed"] < found["a"]["changed"] / 2
    assert abs(found["b"]["accuracy_drop"]) < 0.15


@pytest.mark.slow
def test_the_audit_says_what_the_input_statistics_were_fitted_on(result) -> None:
    for model in ("svm", "fcn"):
        assert result(model).audit.fitted == {"input normalisation": 0}


def test_an_emobox_folder_gives_the_folds(dataset: Dataset, tmp_path) -> None:
    import json

    ids = list(dataset.clips["id"])
    for number in (1, 2):
        folder = tmp_path / f"fold_{number}"
        folder.mkdir()
        for part, keep in (("test", number - 1), ("train", 2 - number)):
            lines = [json.dumps({"key": name, "wav": f"{name}.wav", "emo": "x"}) for name in ids[keep::2]]
            (folder / f"standin_{part}_fold_{number}.jsonl").write_text("\n".join(lines), "utf-8")
    config = make("svm", "split.name=given", f"split.folder={tmp_path}")
    parts = cross_validation.plan(config, dataset)
    assert [sorted(part.test) for part in parts] == [sorted(ids[0::2]), sorted(ids[1::2])]


@pytest.mark.parametrize(
    ("pad", "says"),
    [
        ("none", "Clips are not padded: no pad length is estimated."),
        ("5.000", "Clips are padded or cut to 5.000 s, which no clip decides."),
        ("max:8.978", "The pad length (--pad max) saw 48 clips outside the training part: this leaks."),
    ],
)
def test_the_audit_says_what_the_pad_length_and_the_normalisation_rest_on(make_store, pad: str, says: str) -> None:
    store = make_store(repeats=4)
    clips, arrays = store.join("standin", {"a": store.find("standin", "hubert")})
    store.append("standin", EmbeddingKey("xvector", pad=pad), clips["id"], clips["audio"], arrays["a"])
    config = make("svm", a="xvector")
    heard: list[str] = []

    class Heard(Observer):
        def audit_known(self, audit: Audit, folds: object, finished: int) -> None:
            heard.extend(audit.sentences())

    result = cross_validation.cross_validate(
        config,
        load_dataset(config, store),
        observer=Heard(),
    )
    assert says in heard and heard == result.metrics["audit"]["sentences"]
    assert "The input normalisation is fitted on the training part only, in every fold." in heard
    assert sum("pad" in sentence for sentence in heard) == 1
