"""Models that are no networks, kept as plain numbers: exact, small, and refused where a byte is wrong."""

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import serfuse
from serfuse.errors import ModelFileError, RunError
from serfuse.experiment import fitting
from serfuse.experiment.dataset import Part
from serfuse.prediction import bundle, plain_model, training
from serfuse.store import EmbeddingStore

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
    few = {name: array[:3] for name, array in new.items()}
    np.testing.assert_allclose(loaded.probabilities(few), expected[:3], rtol=0, atol=1e-10)
    safetensors = pytest.importorskip("safetensors.numpy")
    assert set(safetensors.load_file(path)) == set(made.record.shapes()), "other programs can read it"


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
