"""Models that are no networks, kept as plain numbers: exact, small, and refused where a byte is wrong."""

import json
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import serfuse
from serfuse import encoders
from serfuse.audio.padding import PadPolicy
from serfuse.cli import main
from serfuse.errors import ModelFileError, RunError
from serfuse.experiment import fitting
from serfuse.experiment.dataset import Part
from serfuse.extraction import extract
from serfuse.prediction import bundle, plain_model, training
from serfuse.store import EmbeddingStore

VERSION_0_1 = Path(__file__).resolve().parent.parent / "compatibility" / "version_0_1"
WIDE = {"COLUMNS": "200"}
ONE, TWO = {"a": 7}, {"a": 7, "b": 4}


def part(sizes: dict[str, int], classes: int, rows: int = 60, seed: int = 0, missing: int | None = None) -> Part:
    rng = np.random.default_rng(seed)
    known = [number for number in range(classes) if number != missing]
    labels = np.resize(known, rows)
    centres = {name: rng.normal(size=(classes, size)) for name, size in sizes.items()}
    arrays = {
        name: (centres[name][labels] + rng.normal(size=(rows, size)) + 5).astype("float32")
        for name, size in sizes.items()
    }
    return Part(arrays, labels, np.arange(rows).astype(str))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(
    ("model", "sizes", "options"),
    [
        ("svm", ONE, {}),
        ("svm", ONE, {"probabilities": "one-vs-rest"}),
        ("svm", ONE, {"kernel": "linear", "standardize": False}),
        ("svm", ONE, {"kernel": "poly", "C": 3.0}),
        ("svm", ONE, {"kernel": "sigmoid", "probabilities": "one-vs-rest"}),
        ("svm", TWO, {}),
        ("svm", TWO, {"kernel": "linear"}),
        ("kernel", TWO, {}),
        ("kernel", TWO, {"standardize": False, "probabilities": "one-vs-rest"}),
        ("late", TWO, {"weights": [2.0, 1.0]}),
        ("stacked", TWO, {"folds": 2}),
    ],
)
def test_what_is_kept_predicts_as_what_was_fitted(tmp_path: Path, model, sizes, options, classes) -> None:
    # A class that the corpus has and this part has not.
    training_part = part(sizes, classes + 1, missing=1)
    config = serfuse.configure({"model": model, "options": options})
    fitted = fitting.fit(config, training_part, training_part.take(np.arange(0)), classes + 1, 0)
    made = plain_model.plain(fitted, classes + 1, sizes)
    path = tmp_path / "model.safetensors"
    path.write_bytes(plain_model.write(made))
    loaded = plain_model.read(path)
    new = part(sizes, classes + 1, rows=700, seed=1).arrays
    expected = fitted.probabilities(new)
    np.testing.assert_allclose(loaded.probabilities(new), expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(loaded.probabilities(new).sum(axis=1), 1)
    np.testing.assert_array_equal(loaded.labels(new), fitted.predict(new))
    few = {name: array[:3] for name, array in new.items()}
    np.testing.assert_allclose(loaded.probabilities(few), expected[:3], rtol=0, atol=1e-10)
    safetensors = pytest.importorskip("safetensors.numpy")
    assert set(safetensors.load_file(path)) == set(made.record.shapes()), "other programs can read it"


@pytest.mark.parametrize("classes", [2, 6])
def test_the_label_of_a_machine_is_its_own(classes: int) -> None:
    # Noise: votes tie, and the most probable class is another for many clips.
    rng = np.random.default_rng(3)
    noise = Part({"a": rng.normal(size=(90, 5)).astype("float32")}, np.resize(range(classes), 90), np.arange(90))
    fitted = fitting.fit(serfuse.configure({"model": "svm"}), noise, noise.take(np.arange(0)), classes, 0)
    new = {"a": rng.normal(size=(400, 5)).astype("float32")}
    probabilities, labels = plain_model.plain(fitted, classes, {"a": 5}).answers(new)
    np.testing.assert_array_equal(labels, fitted.predict(new))
    assert classes == 2 or (labels != probabilities.argmax(axis=1)).mean() > 0.02


@pytest.fixture
def kept(make_store: Callable[..., EmbeddingStore], tmp_path: Path) -> tuple[bundle.Bundle, Path]:
    store = make_store({"hubert": 6, "soundstream": 4})
    config = serfuse.configure("late", inputs=["hubert", "soundstream"], split="loso")
    run = serfuse.cross_validate(config, store, tmp_path / "run")
    return serfuse.train(run, store, tmp_path / "model.serfuse"), tmp_path / "model.serfuse"


def test_a_late_fusion_is_trained_kept_and_read(kept, tmp_path: Path) -> None:
    made, path = kept
    card = bundle.read_card(path)
    assert card == made.card and card.format == 2 and card.model == "late" and card.backend == "scikit-learn"
    assert card.trained_on.clips == 36 and card.trained_on.validation_clips == card.trained_on.epochs == 0
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == ["bundle.json", "model.safetensors"]
    loaded = bundle.load(path)
    store = EmbeddingStore(tmp_path / "store")
    dataset = training.of_run(tmp_path / "run", store)[1]
    np.testing.assert_array_equal(loaded.probabilities(dataset.arrays), made.probabilities(dataset.arrays))
    with pytest.raises(ModelFileError, match="takes vectors of the shapes"):
        loaded.probabilities({"a": np.zeros((1, 3), "float32")})


def repacked(path: Path, *, content: bytes | None = None, format: int | None = None) -> Path:
    with zipfile.ZipFile(path) as archive:
        card, model = archive.read("bundle.json"), archive.read("model.safetensors")
    if format is not None:
        card = json.dumps({**json.loads(card), "format": format}).encode()
    target = path.with_name("other.serfuse")
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("bundle.json", card)
        archive.writestr("model.safetensors", model if content is None else content)
    return target


def header_of(content: bytes) -> tuple[dict, bytes]:
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def packed(header: dict, numbers: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def change_record(header: dict, **values: object) -> dict:
    record = json.loads(header["__metadata__"]["model"])
    return {**header, "__metadata__": {"model": json.dumps({**record, **values})}}


def test_damage_and_lies_are_refused_by_name(kept) -> None:
    _, path = kept
    with zipfile.ZipFile(path) as archive:
        content = archive.read("model.safetensors")
    header, numbers = header_of(content)
    machines = json.loads(header["__metadata__"]["model"])["machines"]
    huge = {**machines, "a": {**machines["a"], "vectors": [10**7] * 3}}
    nan = struct.pack("<d", float("nan"))
    cases = {
        "no model has": b"\xff" * 16,
        "cannot be read": packed({"x": 1}, numbers),
        "are not those that it needs": packed(header, numbers[:-8]),
        "arrays of its model are not": packed(change_record(header, machines=huge), numbers),
        "not finite": packed(header, nan + numbers[8:]),
        "divided by zero": packed(header, numbers[:48] + bytes(8) + numbers[56:]),
        "other inputs, or gives other classes": packed(change_record(header, classes=4), numbers),
        "does not fit together": packed(change_record(header, weights=[1.0]), numbers),
        "unknown key": packed(change_record(header, code="import os"), numbers),
        "kind": packed(change_record(header, kind="pickle"), numbers),
    }
    for message, other in cases.items():
        with pytest.raises(ModelFileError, match=message) as caught:
            bundle.load(repacked(path, content=other))
        assert "other.serfuse" in str(caught.value), message
    with pytest.raises(ModelFileError, match="has the format 1"):
        bundle.load(repacked(path, format=1))


# --- files that are whole, and would not give an answer -------------------------------------------------------------


def machine(**values: object) -> dict:
    usual = {"inputs": ["a"], "sizes": [3], "kernel": "rbf", "widths": [0.1], "vectors": [1, 1], "classes": [0, 1]}
    return {**usual, "probabilities": "pairwise", **values}


def written(path: Path, record: dict, numbers: dict[str, float] | None = None, fill: float = 1.0) -> Path:
    """A file of a record, whose arrays hold one number, or that of the array's name."""
    made = {"classes": 2, "kind": "machine", "weights": None, "known": None, **record}
    model = plain_model.ModelRecord.model_construct(
        **{**made, "machines": {k: plain_model.MachineRecord.model_construct(**v) for k, v in made["machines"].items()}}
    )
    arrays = {name: np.full(shape, (numbers or {}).get(name, fill)) for name, shape in model.shapes().items()}
    path.write_bytes(plain_model.write(plain_model.PlainModel(model, arrays)))
    return path


TWICE = {"a": machine(), "b": machine()}
MANY = {"vectors": [1] * 200, "classes": list(range(200))}


@pytest.mark.parametrize(
    ("record", "numbers", "says"),
    [
        ({"kind": "late", "machines": {"a": machine(), "b": machine(sizes=[2])}}, {}, "a has 3 columns, and 2 in b"),
        ({"machines": {"all": machine(inputs=["a", "a"], sizes=[1, 2])}}, {}, "more than once: a, a"),
        ({"machines": {"all": machine(vectors=[0, 0])}}, {}, "no support vectors"),
        ({"kind": "stacked", "known": [], "machines": TWICE}, {}, "classes of the regression"),
        ({"kind": "late", "known": [], "machines": TWICE}, {}, "a regression, which only"),
        ({"kind": "late", "weights": [1e308, 1e-308], "machines": TWICE}, {}, "counts as nothing"),
        (
            {"kind": "late", "classes": 200, "machines": {name: machine(**MANY) for name in "abcd"}},
            {},
            "79600 pairs of classes, at most 65536",
        ),
        ({"machines": {"all": machine()}}, {"all.scale": 1e-300}, "divided by zero"),
        ({"machines": {"all": machine()}}, {"all.scale": 1e300}, "all.scale holds numbers beyond"),
        ({"machines": {"all": machine()}}, {"all.mean": 1e300}, "all.mean holds numbers beyond"),
        ({"machines": {"all": machine()}}, {"all.vectors": -1e308}, "all.vectors holds numbers beyond"),
        ({"machines": {"regression": machine()}}, {}, "regression"),
        ({"machines": {"all": machine(inputs=["A"])}}, {}, "inputs"),
    ],
)
def test_what_could_not_answer_is_refused(tmp_path: Path, record: dict, numbers: dict, says: str) -> None:
    with pytest.raises(ModelFileError, match=says) as caught:
        plain_model.read(written(tmp_path / "x.safetensors", record, numbers))
    assert "x.safetensors" in str(caught.value)


@pytest.mark.parametrize("strange", ["\x1b[31m", "x\n  a line of its own", "\u202e", "\u2028", "X" * 5000])
def test_names_in_messages_command_no_terminal(tmp_path: Path, strange: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        plain_model.read(written(tmp_path / "x.safetensors", {"machines": {strange: machine()}}))
    assert str(caught.value).replace("\n  ", "").isprintable() and "a line of its own" not in str(caught.value)
    assert all(len(line) <= 310 for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        ({}, {"all.scale": 1e-38}),
        ({"kernel": "poly", "widths": [1e300]}, {}),
        ({}, {"all.coefficients": 1e308}),
        ({"probabilities": "one-vs-rest"}, {"all.coefficients": 1e308}),
        ({}, {"all.slopes": 1e308, "all.coefficients": 1e10}),
    ],
)
def test_numbers_that_run_out_of_range_are_no_answer_and_no_traceback(tmp_path: Path, values, numbers) -> None:
    model = plain_model.read(written(tmp_path / "x", {"machines": {"all": machine(**values)}}, numbers))
    probabilities, labels = model.answers({"a": np.full((2, 3), 1e3, "float32") * [[1], [0.5]]})
    good = np.isfinite(probabilities).all(axis=1)
    assert (labels[~good] == -1).all() and np.isnan(probabilities[~good]).all() and (labels[good] >= 0).all()
    if "all.slopes" not in numbers and "all.coefficients" not in numbers:
        assert not good.any()


def test_an_answer_is_the_label_and_needs_no_process(tmp_path: Path) -> None:
    """The machine decides for the first class, the regression finds the last one most probable."""
    key = extract.make_key(encoders.load("logmel"), "time", PadPolicy.parse("none"))
    takes = {"a": bundle.Input(key=key.to_dict(), size=160)}
    update = {"format": 2, "model": "svm", "classes": ["x", "y", "z"], "inputs": takes}
    card = bundle.read_card(VERSION_0_1 / "model.serfuse").model_copy(update=update)
    clip = VERSION_0_1 / "clip.wav"
    zero = {f"all.{name}": 0.0 for name in ("mean", "vectors", "coefficients", "slopes")}
    record = {"classes": 3, "machines": {"all": machine(sizes=[160], vectors=[1] * 3, classes=[0, 1, 2])}}
    for scale in (1.0, 1e-45):
        model = plain_model.read(written(tmp_path / "x", record, {**zero, "all.scale": scale}))
        model.arrays["all.offsets"] = np.arange(3.0)
        bundle.save(bundle.Bundle(card, model), tmp_path / "model.serfuse")
        with serfuse.Predictor.load(tmp_path / "model.serfuse", isolated=True) as predictor:
            assert isinstance(predictor._model, bundle.Bundle)
            answer = predictor.predict_one(clip)
        if scale == 1:
            assert answer.emotion == answer.to_dict()["emotion"] == "x"
            assert max(answer.probabilities, key=answer.probabilities.get) == "z"
            shown = CliRunner().invoke(main, ["predict", str(tmp_path / "model.serfuse"), str(clip)], env=WIDE)
            row = next(line for line in shown.output.splitlines() if clip.name in line)
            assert [cell.strip() for cell in row.split("│")[3:6]] == ["x", "9", "z 67"], shown.output
        else:
            assert answer.emotion is None and "machine gives no probabilities" in answer.problem


def test_many_classes_take_no_more_time_than_their_file_is_long(tmp_path: Path) -> None:
    known = {"vectors": [1] + [0] * 127, "classes": list(range(128)), "probabilities": "one-vs-rest"}
    machines = {name: machine(**known, kernel="linear") for name in "abcdefgh"}
    model = plain_model.read(written(tmp_path / "x", {"kind": "late", "classes": 128, "machines": machines}))
    started = time.process_time()
    found = model.probabilities({"a": np.ones((1, 3), "float32")})
    assert time.process_time() - started < 5 and found.sum() == pytest.approx(1)


def test_weights_of_any_size_are_shares(tmp_path: Path) -> None:
    record = {"kind": "late", "weights": [1e308, 1e308], "machines": TWICE}
    found = plain_model.read(written(tmp_path / "x", record)).probabilities({"a": np.ones((1, 3), "float32")})
    np.testing.assert_allclose(found, 0.5)


@pytest.mark.slow
def test_every_flipped_byte_is_found_or_harmless(kept) -> None:
    _, path = kept
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(data), 60, replace=False):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << int(rng.integers(8))]) + data[place + 1 :])
        try:
            bundle.load(path)
        except ModelFileError as error:
            assert str(path) in str(error)


def test_models_without_a_format_say_so() -> None:
    class Strange:
        calibrated = None

    with pytest.raises(RunError, match="Strange has no file format"):
        plain_model.plain(Strange(), 3, ONE)
