"""All layers of an encoder as one input: joined, standardised layer by layer, weighed by the network."""

from pathlib import Path

import numpy as np
import pytest
from store_rows import drawn_clips

from serfuse.corpora.base import Clip, Corpus
from serfuse.errors import ConfigError, StoreError
from serfuse.experiment import backend, cross_validation, fitting
from serfuse.experiment import config as configs
from serfuse.experiment.dataset import Dataset, load_dataset
from serfuse.experiment.rows import Rows, Stacked
from serfuse.report import runs as report_runs
from serfuse.report.page import render
from serfuse.runs import execution
from serfuse.runs.run import Run
from serfuse.store import AudioFacts, EmbeddingKey, EmbeddingStore, Skipped

backend.set_up_backend()

SIZE, LAYERS, TELLING = 10, 4, 2
QUICK = {"split": "speaker", "folds": 2}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    """Four layers of "hubert", of which one holds the emotion, and each of which has another scale; and "logmel"."""
    rng, store = np.random.default_rng(0), EmbeddingStore(tmp_path_factory.mktemp("layers"))
    emotions = ("anger", "neutral", "sadness")
    clips, ids, audio = drawn_clips(store, "made", emotions, speakers=4, texts=8)
    centres = {name: 2 * rng.normal(size=SIZE) for name in emotions}
    for layer in range(LAYERS):
        rows = rng.normal(size=(len(ids), SIZE))
        if layer == TELLING:
            rows += np.stack([centres[clip.emotion] for clip in clips])
        rows = (10**layer * (rows + layer)).astype("float32")
        store.append("made", EmbeddingKey("hubert", layer=str(layer)), ids, audio, rows)
    rows = rng.normal(size=(len(ids), SIZE)).astype("float32")
    store.append("made", EmbeddingKey("logmel"), ids, audio, rows)
    return store


def configured(model: str, changes: dict | None = None, **settings: object) -> configs.Config:
    return configs.configure(model, changes, **{**QUICK, **settings})


def loaded(store: EmbeddingStore, model: str, **settings: object) -> Dataset:
    return load_dataset(configured(model, **settings), store)


def test_the_layers_of_a_clip_are_those_of_the_store(store: EmbeddingStore) -> None:
    dataset = loaded(store, "fcn", a="hubert@layer=all")
    assert dataset.keys["a"] == EmbeddingKey("hubert", layer="0+1+2+3") and dataset.keys["a"].joint
    assert dataset.arrays["a"].shape == (96, LAYERS, SIZE)
    for layer in range(LAYERS):
        ids, rows = store.load("made", EmbeddingKey("hubert", layer=str(layer)))
        assert ids == dataset.clips["id"].tolist()
        np.testing.assert_array_equal(np.asarray(dataset.arrays["a"])[:, layer], rows)
    some = loaded(store, "fcn", a="hubert@layer=3+1")
    assert some.keys["a"].layer == "1+3", "in their own order, so that a run has one name"
    np.testing.assert_array_equal(some.arrays["a"][5:9], np.asarray(dataset.arrays["a"])[5:9, [1, 3]])
    assert dataset.embedding_digests["a"] != some.embedding_digests["a"]
    assert loaded(store, "fcn", a=dataset.keys["a"].selector).keys == dataset.keys
    single = loaded(store, "fcn", a="hubert@layer=2")
    assert single.keys["a"].layer == "2" and single.arrays["a"].shape == (96, SIZE)


def test_stacked_arrays_give_the_rows_that_are_looked_at() -> None:
    parts = [np.arange(20.0, dtype="float32").reshape(10, 2) + 100 * layer for layer in range(3)]
    stacked, whole = Stacked(parts), np.stack(parts, axis=1)
    assert (stacked.shape, stacked.ndim, stacked.dtype, len(stacked)) == (whole.shape, 3, whole.dtype, 10)
    assert stacked.nbytes == whole.nbytes
    for which in (3, slice(2, 5), [4, 1], np.arange(10) > 6):
        np.testing.assert_array_equal(stacked[which], whole[which])
    np.testing.assert_array_equal(stacked[2:4, 1], whole[2:4, 1])
    rows = Rows(stacked, np.array([7, 2, 2]))
    assert rows.shape == (3, 3, 2)
    np.testing.assert_array_equal(np.asarray(rows), whole[[7, 2, 2]])
    with pytest.raises(ValueError, match="one shape"):
        Stacked([parts[0], parts[1][:4]])


def test_all_layers_must_have_the_same_clips(store: EmbeddingStore, tmp_path: Path) -> None:
    half = EmbeddingStore(tmp_path / "half")
    clips = [Clip(f"c{n}", Path(f"/nowhere/c{n}.wav"), ["anger", "fear"][n % 2], f"s{n % 4}") for n in range(8)]
    facts = {clip.id: AudioFacts(f"{n:064x}", 1.0) for n, clip in enumerate(clips)}
    half.write_corpus(Corpus("half", tuple(clips)), facts)
    for layer, count in (("0", 8), ("1", 7)):
        ids = [clip.id for clip in clips][:count]
        rows = np.ones((count, 3), "float32")
        half.append("half", EmbeddingKey("hubert", layer=layer), ids, [facts[i].audio for i in ids], rows)
    with pytest.raises(StoreError, match="lacks 1: c7") as lacking:
        loaded(half, "fcn", a="hubert@layer=all")
    assert "--encoder hubert --pool time --layer 1" in str(lacking.value)
    half.record_skipped("half", EmbeddingKey("hubert", layer="1"), [Skipped("c7", facts["c7"].audio, "broken")])
    dataset = loaded(half, "fcn", a="hubert@layer=all")
    assert len(dataset.clips) == 7 and dataset.left_out == ({"clip": "c7", "name": "a", "reason": "broken"},)
    with pytest.raises(StoreError, match=r"no embeddings .* that fit hubert, layer 0\+5") as missing:
        loaded(half, "fcn", a="hubert@layer=0+5")
    assert "--layer 0,5" in str(missing.value)
    half.append("half", EmbeddingKey("logmel"), ["c0"], [facts["c0"].audio], np.ones((1, 3), "float32"))
    with pytest.raises(StoreError, match="logmel has no layers to choose from"):
        loaded(half, "fcn", a="logmel@layer=all")


@pytest.mark.slow
def test_a_network_learns_which_layer_tells_and_standardises_each_on_its_training_part(store: EmbeddingStore) -> None:
    config = configured("fcn", {"training.learning_rate": 0.01}, a="hubert@layer=all", epochs=12)
    result = cross_validation.cross_validate(config, load_dataset(config, store))
    found = result.metrics["layer_weights"]["a"]
    assert found["encoder"] == "hubert" and found["layers"] == [0, 1, 2, 3]
    assert len(found["folds"]) == 2 and np.argmax(found["mean"]) == TELLING and found["mean"][TELLING] > 0.5
    np.testing.assert_allclose(np.sum(found["folds"], axis=1), 1, atol=1e-6)
    assert result.metrics["mean"]["accuracy"] > 0.7
    for fold in result.folds:
        learned = np.asarray(result.dataset.part(fold.fold.train).arrays["a"]).astype("float64")
        layer = fold.model.get_layer("standardize_a")
        np.testing.assert_allclose(np.squeeze(layer.mean), learned.mean(axis=0), rtol=1e-4)
        np.testing.assert_allclose(np.squeeze(layer.variance), learned.var(axis=0), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("hyfuse", {}),
        ("parrot", {"options.points": "reference", "options.references": 8}),
        ("late", {"options.head": ["fcn", "svm"]}),
    ],
)
def test_every_fusion_takes_them_beside_a_vector(store: EmbeddingStore, model: str, changes: dict) -> None:
    config = configured(model, changes, a="hubert@layer=all", b="logmel", epochs=1)
    dataset = load_dataset(config, store)
    cross_validation.check(config, dataset)
    fold = cross_validation.plan(config, dataset)[0]
    result = cross_validation.run_fold(config, dataset, fold)
    assert list(result.layer_weights) == ["a"] and len(result.layer_weights["a"]) == LAYERS
    assert not np.allclose(result.layer_weights["a"], 1 / LAYERS, atol=1e-5), "they were trained"


@pytest.mark.slow
def test_the_fast_trainer_gives_what_plain_fit_gives(store: EmbeddingStore) -> None:
    dataset = loaded(store, "fcn", a="hubert@layer=all")
    part = dataset.part(dataset.clips["id"])
    training, validation = part.take(np.arange(0, 75)), part.take(np.arange(75, 96))
    fits = []
    for trainer in ("keras", "tensorflow"):
        changes = {"training.patience": None, "training.weight_decay": 0.01}
        config = configured("fcn", changes, a="x", epochs=2, trainer=trainer)
        fits.append(fitting.fit(config, training, validation, 3, 0))
    np.testing.assert_allclose(fits[1].layer_weights["a"], fits[0].layer_weights["a"], atol=1e-5)
    for one, other in zip(*(fit.model.get_weights() for fit in fits), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)


def test_what_is_not_trained_by_gradient_refuses(store: EmbeddingStore) -> None:
    for model, settings, changes, name in (
        ("svm", {"a": "hubert@layer=all"}, {}, "svm"),
        ("kernel", {"a": "logmel", "b": "hubert@layer=all"}, {}, "kernel"),
        ("late", {"a": "logmel", "b": "hubert@layer=all"}, {"options.head": ["fcn", "svm"]}, "svm"),
    ):
        config = configured(model, changes, **settings)
        with pytest.raises(ConfigError, match=f"'{name}' cannot learn what the layers of hubert .* weigh"):
            cross_validation.check(config, load_dataset(config, store))


@pytest.mark.slow
def test_a_run_keeps_the_weights_and_is_read_again(store: EmbeddingStore, tmp_path: Path) -> None:
    config = configured("fcn", a="hubert@layer=all", epochs=2)
    out = tmp_path / "run"
    execution.execute(config, load_dataset(config, store), out)
    run = Run.read(out)
    assert run.description.embeddings["a"].layer == "0+1+2+3" and run.description.data.a == "hubert@layer=all"
    assert run.metrics["layer_weights"]["a"]["layers"] == [0, 1, 2, 3]
    (sentence,) = run.layer_weights()
    assert "Of the 4 layers of hubert (input a), these weigh most, in the mean of 2 folds: " in sentence
    assert (out / "layers.png").stat().st_size > 5000
    assert run.changes(load_dataset(config, store)) == [] == run.changes(load_dataset(run.config, store))
    page = render(report_runs.read([out]))
    assert "Weights of the layers" in page and sentence.replace(" %", "\u00a0%") in page
