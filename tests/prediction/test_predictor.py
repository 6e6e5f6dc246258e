"""From a finished run to a model in one file, and from that file to the emotions of new audio."""

import io
import json
import os
import resource
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from serfuse import encoders
from serfuse.corpora.base import Corpus
from serfuse.errors import ModelFileError, RunError, StoreError, WeightsError, WriteError
from serfuse.experiment import config as configs
from serfuse.experiment.dataset import load_dataset
from serfuse.extraction import extract
from serfuse.prediction import bundle, training
from serfuse.prediction.predictor import Predictor
from serfuse.progress import Observer
from serfuse.runs import execution, reading
from serfuse.runs.run import Run
from serfuse.splits import folds
from serfuse.store import EmbeddingStore

VERSION_0_1 = Path(__file__).resolve().parent.parent / "compatibility" / "version_0_1"


@pytest.fixture(scope="module")
def store(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    store = EmbeddingStore(tmp_path_factory.mktemp("store"))
    encoder = encoders.load("logmel")
    extract.extract(tiny_corpus, encoder, store, pooling="time")
    extract.extract(tiny_corpus, encoder, store, pooling="mean-std", pad="max")
    return store


@pytest.fixture(scope="module")
def make_run(store: EmbeddingStore, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def make(model: str, *assignments: str, a: str = "logmel@pooling=time", b: str | None = None) -> Path:
        quick = {} if model == "svm" else {"training.epochs": 3}
        values = configs.assign(configs.shipped(model), {"data.a": a, "data.b": b, "split.folds": 2, **quick})
        config = configs.from_dict(configs.override(values, list(assignments)))
        out = tmp_path_factory.mktemp("run")
        execution.execute(config, load_dataset(config, store), out)
        return out

    return make


@pytest.fixture(scope="module")
def run(make_run: Callable[..., Path]) -> Path:
    return make_run("fcn", "split.name=speaker")


@pytest.fixture(scope="module")
def trained(run: Path, store: EmbeddingStore) -> bundle.Bundle:
    return training.fit_whole(run, *training.of_run(run, store))


@pytest.fixture(scope="module")
def kept(trained: bundle.Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "winner.serfuse"
    bundle.save(trained, path)
    return path


@pytest.mark.slow
def test_every_clip_is_trained_on_and_validation_has_speakers_of_its_own(run, store, trained, tiny_corpus) -> None:
    dataset = training.of_run(run, store)[1]
    clips = dataset.clips.reset_index(drop=True)
    part = folds.whole(clips, "speaker", folds=2, seed=0, validation_fraction=0.1)
    assert sorted([*part.train, *part.validation]) == sorted(clip.id for clip in tiny_corpus.clips)
    assert len(part.test) == 0
    speaker = dict(zip(clips["id"], clips["speaker"], strict=True))
    assert not {speaker[clip] for clip in part.train} & {speaker[clip] for clip in part.validation}
    assert trained.card.trained_on.clips == len(tiny_corpus.clips)
    assert trained.card.trained_on.validation_clips == len(part.validation) > 0
    assert folds.whole(clips, "random", validation_fraction=0).validation.size == 0


def test_the_card_says_what_to_expect(run: Path, trained: bundle.Bundle) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    found = trained.card.evaluation
    assert found.accuracy == metrics["mean"]["accuracy"] and found.split == "speaker" and found.folds == 2
    text = " ".join(trained.card.expectation())
    assert f"Expect {100 * found.accuracy:.1f} % accuracy" in text
    assert "0 of 4 test speakers are also in training" in text
    assert "Trained on synthetic speech: its answers say nothing about emotion." in text


@pytest.mark.slow
def test_what_is_kept_is_what_was_trained(run, store, trained: bundle.Bundle, kept: Path) -> None:
    loaded = bundle.load(kept)
    assert loaded.card == trained.card == bundle.read_card(kept)
    dataset = training.of_run(run, store)[1]
    expected = trained.probabilities(dataset.arrays)
    np.testing.assert_array_equal(loaded.probabilities(dataset.arrays), expected)
    again = training.fit_whole(run, *training.of_run(run, store))
    np.testing.assert_array_equal(again.probabilities(dataset.arrays), expected)
    with pytest.raises(ModelFileError, match=r"takes vectors of the shapes .*160.*; received .*\(48, 3\)"):
        loaded.probabilities({"a": np.zeros((48, 3), "float32")})


def test_new_audio_is_encoded_as_the_training_clips_were(run, store, kept, tiny_corpus, tmp_path) -> None:
    """The training clips themselves, as new files at another rate and place, get the answers of their embeddings."""
    dataset = training.of_run(run, store)[1]
    loaded = bundle.load(kept)
    stored = dict(zip(dataset.clips["id"], loaded.probabilities(dataset.arrays), strict=True))
    clips = tiny_corpus.clips[:6]
    paths = []
    for clip in clips:
        paths.append(tmp_path / f"{clip.path.stem}-copy.flac")
        soundfile.write(paths[-1], *soundfile.read(clip.path, dtype="int16"), subtype="PCM_16")
    found = Predictor.load(kept).predict(paths)
    assert [item.path for item in found] == paths
    for clip, item in zip(clips, found, strict=True):
        assert sum(item.probabilities.values()) == pytest.approx(1)
        np.testing.assert_allclose(list(item.probabilities.values()), stored[clip.id], atol=1e-5)
        assert item.emotion == loaded.card.classes[int(np.argmax(stored[clip.id]))] and not item.unlike


@pytest.mark.slow
def test_an_answer_is_the_same_alone_among_others_and_from_a_stream_or_a_waveform(kept, tiny_corpus) -> None:
    paths = [clip.path for clip in tiny_corpus.clips[:4]]
    with Predictor.load(kept) as predictor:
        alone = [predictor.predict_one(path) for path in paths]
        sources: list = list(map(str, paths))
        for path in paths:
            sources += [io.BytesIO(path.read_bytes()), soundfile.read(path), soundfile.read(path, dtype="int16")]
        with paths[0].open("rb") as file:
            found = predictor.predict([*sources, file])
        again = predictor.predict(reversed(paths))
    for item, expected in zip(found, [*alone, *(one for one in alone for _ in range(3)), alone[0]], strict=True):
        assert item.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
        assert item.emotion == expected.emotion and item.seconds == pytest.approx(expected.seconds)
        assert not item.problem and not item.unlike
    assert [item.path for item in found[:5]] == [*paths, None]
    assert [item.name for item in found[4:7]] == ["stream 5", "waveform 6", "waveform 7"]
    assert found[-1].name == str(paths[0]) and found[4].to_dict()["name"] == "stream 5"
    assert [item.probabilities for item in again] == [pytest.approx(x.probabilities, abs=1e-6) for x in alone[::-1]]
    assert predictor.classes == predictor.card.classes == list(alone[0].probabilities)
    with pytest.raises(ValueError, match="is closed"):
        predictor.predict(paths)


def test_what_is_no_recording_is_said_at_once(kept: Path, tiny_corpus) -> None:
    path = tiny_corpus.clips[0].path
    predictor = Predictor.load(kept)
    for one in (str(path), path, (np.zeros(9), 16000), np.zeros(9), io.BytesIO(path.read_bytes())):
        with pytest.raises(TypeError, match="give one alone to predict_one"):
            predictor.predict(one)
    for wrong in (None, 5, np.zeros(9), path.read_bytes()):
        with pytest.raises(TypeError, match=f"received {type(wrong).__name__} in place 2"):
            predictor.predict([path, wrong])
    found = predictor.predict([(np.zeros(16000), 16000), path, (np.ones((2, 2, 2)), 16000), io.BytesIO(b"text")])
    assert [bool(item.problem) for item in found] == [True, False, True, True]
    for item, says in zip(found, ("waveform 1: silent", "", "waveform 3: expected", "stream 4: is not"), strict=True):
        assert item.problem.startswith(says) and "/" not in item.problem.partition(" ")[0]
    assert predictor.predict([]) == []


def test_clips_of_equal_length_go_together_and_not_more_than_fit(kept: Path, monkeypatch) -> None:
    """Counted at the encoder: half a minute of audio at a time."""
    predictor = Predictor.load(kept)
    calls: list[list[int]] = []
    encoder = predictor._inputs["a"]
    monkeypatch.setattr(
        encoder,
        "frames_batch",
        lambda waveforms: (
            calls.append([len(waveform) for waveform in waveforms])
            or [encoder.frames(waveform) for waveform in waveforms]
        ),
    )
    noise = np.random.default_rng(0).normal(size=160_000) / 9
    done: list[int] = []

    class Watch(Observer):
        def advance(self, number: int | None = None, **_: object) -> None:
            done.append(number)

    predictor.predict([(noise, 16_000)] * 7 + [(noise[:16_000], 16_000)] * 2, observer=Watch())
    assert calls == [[160_000] * 3, [160_000] * 3, [16_000] * 2]
    assert done == [3, 6, 9]


def test_bad_files_have_their_reason_and_the_others_their_answer(kept, tiny_corpus, tmp_path: Path) -> None:
    good = tiny_corpus.clips[0].path
    text, silent, short, long = (tmp_path / name for name in ("text.wav", "silent.wav", "short.wav", "long.wav"))
    text.write_text("no audio")
    soundfile.write(silent, np.zeros(16000), 16000)
    soundfile.write(short, np.random.default_rng(0).normal(size=100) / 9, 16000)
    soundfile.write(long, np.tile(soundfile.read(good)[0], 12), 16000)
    found = Predictor.load(kept).predict([tmp_path / "missing.wav", good, text, silent, short, long])
    assert [bool(item.problem) for item in found] == [True, False, True, True, True, False]
    for item, says in zip(found, ["no such file", "", "not audio", "silent", "short", ""], strict=True):
        assert says in item.problem
        assert (item.emotion is None) == bool(item.problem)
    assert "the model was trained on clips of" in found[5].unlike and not found[1].unlike


@pytest.mark.slow
def test_a_fusion_of_two_padded_poolings(make_run, store, tiny_corpus, tmp_path: Path) -> None:
    made = make_run("concat-pooled", "training.epochs=1", a="logmel@pooling=mean-std", b="logmel@pooling=time")
    config, dataset = training.of_run(made, store)
    model = training.fit_whole(made, config, dataset)
    assert {name: part.size for name, part in model.card.inputs.items()} == {"a": 320, "b": 160}
    assert model.card.keys()["a"].pad.startswith("max:")
    clips = tiny_corpus.clips[:3]
    expected = model.probabilities({name: array[:48] for name, array in dataset.arrays.items()})
    rows = dataset.rows([clip.id for clip in clips])
    bundle.save(model, tmp_path / "pair.serfuse")
    predictor = Predictor.load(tmp_path / "pair.serfuse")
    assert predictor._inputs["a"] is predictor._inputs["b"]  # one encoder for two poolings
    found = predictor.predict([clip.path for clip in clips])
    for row, item in zip(rows, found, strict=True):
        np.testing.assert_allclose(list(item.probabilities.values()), expected[row], atol=1e-5)


@pytest.mark.slow
def test_models_that_cannot_stand_alone_are_refused(make_run, store) -> None:
    other = "logmel@pooling=mean-std"
    for made, says in (
        (
            make_run("late", "options.head=fcn", "training.epochs=1", b=other),
            "networks as heads, which has no file format",
        ),
        (
            make_run("parrot", "options.points=batch", "options.iterations=2", "training.epochs=1", b=other),
            "new audio comes alone",
        ),
    ):
        with pytest.raises(RunError, match=says):
            training.fit_whole(made, *training.of_run(made, store))


def test_a_store_that_changed_is_noticed(run, store, tiny_corpus, tmp_path: Path) -> None:
    fewer = EmbeddingStore(tmp_path / "fewer")
    extract.extract(replace(tiny_corpus, clips=tiny_corpus.clips[:40]), encoders.load("logmel"), fewer)
    with pytest.raises(
        RunError, match=r"no longer holds what .* was made with: 8 clips are gone \(.*, .*, .* \.\.\.\)"
    ):
        training.of_run(run, fewer)
    with pytest.raises(StoreError, match=r"holds no corpus(.|\n)*made with another store, name that one \(--store\)"):
        training.of_run(run, EmbeddingStore(tmp_path / "elsewhere"))
    with pytest.raises(RunError, match="no finished run"):
        training.of_run(tmp_path, store)
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    text = (broken / "config.yaml").read_text()
    (broken / "config.yaml").write_text(text.replace("embeddings:", "vectors:"))
    with pytest.raises(RunError, match=r"config\.yaml is not as it was written"):
        training.of_run(broken, store)
    (broken / reading.DIGESTS).unlink()
    with pytest.raises(RunError, match=r"is not a whole run folder(.|\n)*embeddings: Field required"):
        training.of_run(broken, store)


def test_labels_and_recordings_that_changed_are_named(run, store, tiny_corpus, tmp_path: Path) -> None:
    """The same ids, of which one has another label and one another recording; a run before 0.2 knows its labels."""
    dataset = training.of_run(run, store)[1]
    clips = dataset.clips.copy()
    first, second = clips["id"].iloc[:2]
    clips.loc[first, "emotion"] = "neutral" if clips.loc[first, "emotion"] != "neutral" else "anger"
    finished = Run.read(run)
    assert finished.changes(dataset) == []
    (changed,) = finished.changes(replace(dataset, clips=clips))
    assert changed.startswith(f"1 clip has another label ({first}: ")
    clips.loc[second, "audio"] = "f" * 64
    assert finished.changes(replace(dataset, clips=clips))[1] == f"1 clip has another recording ({second})"

    arrays = {name: array + np.float32(1e-3) for name, array in dataset.arrays.items()}
    assert finished.changes(replace(dataset, arrays=arrays)) == ["the embeddings of logmel (input a) have changed"]

    before = tmp_path / "before"
    shutil.copytree(run, before)
    for name in ("clips.csv", reading.DIGESTS):
        (before / name).unlink()
    values = yaml.safe_load((before / "config.yaml").read_text())
    del values["digests"]["recordings"]
    (before / "config.yaml").write_text(yaml.safe_dump(values))
    assert Run.read(before).changes(replace(dataset, clips=clips)) == [changed], "what was heard it does not tell"

    relabelled = EmbeddingStore(tmp_path / "relabelled")
    swapped = {"anger": "sadness", "sadness": "anger", "neutral": "neutral"}
    corpus = replace(
        tiny_corpus, clips=tuple(replace(clip, emotion=swapped[clip.emotion]) for clip in tiny_corpus.clips)
    )
    extract.extract(corpus, encoders.load("logmel"), relabelled, pooling="time")
    with pytest.raises(RunError, match=r"no longer holds what .* was made with: 32 clips have another label \("):
        training.of_run(run, relabelled)


def changed_card(kept: Path, target: Path, change: Callable[[dict], object]) -> Path:
    with zipfile.ZipFile(kept) as source, zipfile.ZipFile(target, "w") as copy:
        card = json.loads(source.read("bundle.json"))
        change(card)
        copy.writestr("bundle.json", json.dumps(card))
        copy.writestr("network.keras", source.read("network.keras"))
    return target


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda card: card.update(format=99), r"has the format 99; this version of serfuse reads 1"),
        (lambda card: card.update(extra=1), r"extra: unknown key"),
        (lambda card: card.pop("classes"), r"classes: Field required"),
        (lambda card: card["classes"].append("joy"), r"its network takes .* and 4 classes"),
        (lambda card: card["inputs"]["a"].update(size=12), r"its network takes"),
        (lambda card: card["inputs"]["a"].update(size=-1), r"inputs\.a\.size: .*received -1"),
        (lambda card: card["inputs"]["a"]["key"].pop("pad"), r"cannot be read: Not the fields of an embedding key"),
        (lambda card: card["inputs"]["a"]["key"].update(weights=5), r"weights: Input should be a valid string"),
        (lambda card: card["inputs"]["a"]["key"].update(weights="random:" + "9" * 99), r"a\.key\.weights: 'random:9"),
        (lambda card: card["inputs"]["a"]["key"].update(weights="file:///etc"), r"a\.key\.weights: 'file:"),
        (lambda card: card["inputs"]["a"]["key"].update(encoder="other"), "this serfuse has no encoder 'other'"),
        (lambda card: card["inputs"]["a"]["key"].update(pad="max"), r"a\.key\.pad: 'max' is nothing that"),
        (lambda card: card["inputs"]["a"]["key"].update(pad="1e-9"), r"a\.key\.pad"),
        (lambda card: card["inputs"]["a"]["key"].update(pooling="sum"), r"a\.key\.pooling"),
        (lambda card: card["inputs"]["a"]["key"].update(layer="9" * 5000), r"a\.key\.layer"),
        (lambda card: card["inputs"]["a"]["key"].update(dtype="int1"), r"a\.key\.dtype"),
        (lambda card: card["inputs"]["a"]["key"].update(sample_rate=0), r"a\.key\.sample_rate: 0 is nothing"),
        (lambda card: card["inputs"]["a"]["key"].update(options={"mels": [80]}), r"a\.key\.options\.mels: \[80\]"),
        (lambda card: card["inputs"]["a"]["key"].update(options={"x": 1}), r"a\.key\.options\.x"),
        (lambda card: card["evaluation"].update(accuracy=float("nan")), "Out of range float values"),
        (lambda card: card["training"].update(learning_rate=float("inf")), "Out of range float values"),
        (lambda card: card["evaluation"].update(folds=10**400), r"evaluation\.folds: .*less than or equal"),
        (lambda card: card["evaluation"].update(accuracy=1e300), r"evaluation\.accuracy"),
        (lambda card: card["trained_on"].update(seconds=[-1, 2]), r"trained_on\.seconds"),
        (lambda card: card.update(seed=-1), "seed"),
        (lambda card: card["classes"].__setitem__(1, card["classes"][0]), "'anger' stands there more than once"),
        (lambda card: card["classes"].__setitem__(1, "\x1b[31mjoy"), r"x1b\[31mjoy.* holds characters that a terminal"),
        (lambda card: card["classes"].__setitem__(1, "\ud800"), "holds characters that a terminal"),
        (lambda card: card["classes"].__setitem__(1, "x\u202ejoy"), "holds characters that a terminal"),
        (lambda card: card["evaluation"].update(estimates="a\nb"), "holds characters that a terminal"),
        (lambda card: card["options"].update({"\x07": 1}), "holds characters that a terminal"),
        (lambda card: card["classes"].__setitem__(1, ""), r"classes\.1"),
        (lambda card: card["inputs"]["a"]["key"].update(options=[1]), r"cannot be read|valid dictionary"),
        (lambda card: card["inputs"].update(b=card["inputs"]["a"]), r"its network takes"),
        (lambda card: card.update(model="x" * bundle.MAX_CARD_BYTES), r"larger than \d+ bytes"),
    ],
)
def test_a_card_that_is_not_true_is_refused(kept: Path, tmp_path: Path, change, says: str) -> None:
    with pytest.raises(ModelFileError, match=says):
        bundle.load(changed_card(kept, tmp_path / "changed.serfuse", change))


def test_files_that_are_no_models_are_refused(kept: Path, tmp_path: Path) -> None:
    cut, text, other, pipe = (tmp_path / name for name in ("cut", "text", "other", "pipe"))
    os.mkfifo(pipe)
    cut.write_bytes(kept.read_bytes()[:-2000])
    text.write_text("{}")
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("../evil", "x")
    for path in (cut, text, other, tmp_path, pipe):
        with pytest.raises(ModelFileError, match="is no model that `serfuse train` wrote"):
            bundle.load(path)
    with pytest.raises(ModelFileError, match="There is no model"):
        bundle.load(tmp_path / "nothing")
    with pytest.raises(ModelFileError, match="File name too long"):
        bundle.load(tmp_path / ("x" * 300))


def test_an_encoder_that_would_give_other_numbers_is_refused(kept: Path, tmp_path: Path, tiny_corpus) -> None:
    def other_librosa(card: dict) -> None:
        card["inputs"]["a"]["key"]["libraries"] = {"librosa": "0.1"}

    model = changed_card(kept, tmp_path / "one", other_librosa)
    with pytest.raises(ModelFileError, match=r"libraries: \{'librosa': '0\.1'\} in the model"):
        Predictor.load(model)

    def weights(card: dict) -> None:
        card["inputs"]["a"]["key"].update(encoder="hubert", weights="sha256:" + "0" * 64, options={})

    model = changed_card(kept, tmp_path / "two", weights)
    with pytest.raises(WeightsError, match="hubert"):
        Predictor.load(model, weights={"hubert": str(tmp_path)}, device="cpu")
    with pytest.raises(ModelFileError, match="does not use wavlm; it takes hubert"):
        Predictor.load(model, weights={"wavlm": "x"})


@pytest.mark.parametrize("weights", ["hub:someone/anything@main", "sha256:" + "0" * 64])
def test_a_model_does_not_make_anybody_go_to_the_network(kept, tmp_path, monkeypatch, weights: str) -> None:
    asked = []

    def model_info(name: str, **_: object) -> None:
        asked.append(name)
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.model_info", model_info)
    for name in ("HF_HUB_CACHE", "SERFUSE_WEIGHTS"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    change = {"encoder": "hubert", "weights": weights, "options": {}, "libraries": {}}
    model = changed_card(kept, tmp_path / "it", lambda card: card["inputs"]["a"]["key"].update(change))
    with pytest.raises(WeightsError, match=r"nothing is fetched without being told to \(--download"):
        Predictor.load(model, device="cpu")
    assert not asked
    with pytest.raises(WeightsError, match="no network"):
        Predictor.load(model, device="cpu", download=True)
    assert asked == ["someone/anything" if weights.startswith("hub:") else "facebook/hubert-base-ls960"]


@pytest.fixture
def network_changed(kept: Path, tmp_path: Path) -> Callable[..., Path]:
    """The model with another array in the place of its last layer's weights."""

    def make(
        change: Callable[[np.ndarray], np.ndarray], kernel: Callable[[np.ndarray], np.ndarray] = lambda values: values
    ) -> Path:
        import h5py

        target, inner = tmp_path / "changed.serfuse", tmp_path / "network.keras"
        with zipfile.ZipFile(kept) as source, zipfile.ZipFile(source.open("network.keras")) as network:
            weights = Path(network.extract("model.weights.h5", tmp_path))
            with h5py.File(weights, "r+") as file:
                names = sorted(name for name in file["layers"] if name.startswith("dense"))
                for part, how in (("0", kernel), ("1", change)):
                    array = file["layers"][names[-1]]["vars"][part]
                    array[...] = how(array[...])
            with zipfile.ZipFile(inner, "w") as copy:
                for name in network.namelist():
                    copy.writestr(name, weights.read_bytes() if name == weights.name else network.read(name))
            with zipfile.ZipFile(target, "w") as copy:
                copy.writestr("bundle.json", source.read("bundle.json"))
                copy.write(inner, "network.keras")
        return target

    return make


def test_weights_that_give_no_numbers_give_no_answer(network_changed, tiny_corpus) -> None:
    path = tiny_corpus.clips[0].path
    with pytest.raises(ModelFileError, match=r"changed\.serfuse holds NaN or infinite weights"):
        bundle.load(network_changed(lambda bias: bias * np.nan))
    # finite in the file, but what is computed with them is not
    most = np.finfo("f4").max
    network = network_changed(lambda bias: np.full_like(bias, most), kernel=lambda values: np.full_like(values, most))
    answer = Predictor.load(network).predict_one(path)
    assert answer.emotion is None and "network gives no probabilities for it" in answer.problem
    json.dumps(answer.to_dict(), allow_nan=False)


def test_a_flipped_byte_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    """Before any encoder is loaded, and under the name that was given."""
    whole = VERSION_0_1 / "model.serfuse"
    content = whole.read_bytes()
    with bundle.opened(whole) as checked:
        card, network = checked.card, checked.unpacked.read_bytes()
    rng = np.random.default_rng(0)
    # everywhere, and in the archives' own records at both ends
    places = {
        *map(int, rng.integers(len(content), size=40)),
        *range(0, 80, 2),
        *range(len(content) - 160, len(content), 4),
    }
    path, noticed = tmp_path / "given.serfuse", 0
    for place in sorted(places):
        flipped = bytearray(content)
        flipped[place] ^= int(rng.integers(1, 256))
        path.write_bytes(flipped)
        try:
            with bundle.opened(path) as checked:
                assert (checked.card, checked.unpacked.read_bytes()) == (card, network)
        except ModelFileError as error:
            assert "given.serfuse" in str(error)
            noticed += 1
    assert noticed > len(places) / 2


def test_a_full_disk_or_temporary_folder_is_a_sentence(trained, kept, tmp_path: Path, monkeypatch) -> None:
    """Keeping a model needs no folder for temporary files; opening one does, and is no fault of the model's."""
    unpacked = "cannot be unpacked into the folder for temporary files: "
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        bundle.save(trained, tmp_path / "model.serfuse")
        with pytest.raises(ModelFileError, match=rf"{unpacked}No such.*TMPDIR"):
            bundle.load(kept)
    assert [path.name for path in tmp_path.iterdir()] == ["model.serfuse"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(WriteError, match="no space left"):
            bundle.save(trained, tmp_path / "other.serfuse")
        with pytest.raises(ModelFileError, match=f"{unpacked}File too large"):
            bundle.load(kept)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["model.serfuse"]
    assert bundle.read_card(tmp_path / "model.serfuse") == trained.card
