"""A `.keras` file from anybody is read without building what serfuse's models are not made of."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serfuse import models
from serfuse.errors import ModelFileError
from serfuse.experiment import backend, fitting
from serfuse.prediction import keras_file

ARRAYS = {
    "a": np.random.default_rng(0).normal(size=(70, 20)).astype("float32"),
    "b": np.random.default_rng(1).normal(size=(70, 16)).astype("float32"),
}


def built(name: str = "fcn", **options: object) -> tuple[object, dict[str, np.ndarray]]:
    backend.set_up_backend()
    model = models.get(name)
    arrays = ARRAYS if model.inputs == 2 else {"a": ARRAYS["a"]}
    return model.build(arrays, 3, model.options(**options), 0), arrays


@pytest.fixture
def rewritten(tmp_path: Path) -> Callable[..., Path]:
    """A small network's file with its architecture changed by a function, or its members by name."""

    def make(change: Callable[[dict], object] = lambda config: None, **members: bytes) -> Path:
        plain, changed = tmp_path / "plain.keras", tmp_path / "changed.keras"
        built()[0].save(plain)
        with zipfile.ZipFile(plain) as source, zipfile.ZipFile(changed, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                if name == "config.json":
                    config = json.loads(content)
                    change(config)
                    content = json.dumps(config).encode()
                target.writestr(name, members.get(name.partition(".")[0], content))
        return changed

    return make


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in models.names() if models.get(name).library == "keras"),
        ("hyfuse", {"align": "project"}),
        ("hyfuse", {"kappa": 1.0}),
        ("hyfuse-symmetric", {"form": "midpoint"}),
        ("parrot", {"points": "reference", "references": 8}),
    ],
)
def test_every_model_comes_back_as_it_was(name: str, options: dict, tmp_path: Path) -> None:
    network, arrays = built(name, **options)
    network.save(tmp_path / "network.keras")
    loaded = keras_file.load(tmp_path / "network.keras")
    np.testing.assert_array_equal(fitting.probabilities(loaded, arrays), fitting.probabilities(network, arrays))


def layer(config: dict, kind: str) -> dict:
    return next(item for item in config["config"]["layers"] if item["class_name"] == kind)


def rename(kind: str, **fields: object) -> Callable[[dict], object]:
    return lambda config: layer(config, kind).update(fields)


@pytest.mark.parametrize(
    "change",
    [
        rename("Dense", class_name="Lambda"),
        rename("Dense", class_name="TorchModuleWrapper"),
        rename("Dense", module="os", class_name="system"),
        rename("Dense", registered_name="serfuse>ReferenceSet"),
        rename("Dense", module="builtins", class_name="function", config="x"),
        rename("Dense", module=["keras.layers"]),
        lambda config: layer(config, "Dense")["config"].update(
            activation={"class_name": "function", "config": "eval", "module": "builtins", "registered_name": "function"}
        ),
        lambda config: layer(config, "Dense")["config"].update(kernel_regularizer={"class_name": "L2", "config": {}}),
        lambda config: config.update(module="keras", class_name="Sequential"),
    ],
)
def test_other_objects_are_refused_by_name(rewritten, change: Callable[[dict], object]) -> None:
    with pytest.raises(ModelFileError, match=r"names .* which no model of serfuse is made of"):
        keras_file.load(rewritten(change))


def test_weights_that_the_file_does_not_hold_are_not_allocated(rewritten) -> None:
    # 128 x 10^12 values of 4 bytes would be 512 terabytes
    path = rewritten(lambda config: config["config"]["layers"][-1]["config"].update(units=10**12))
    with pytest.raises(ModelFileError, match=r"describes \d{15} bytes of weights but holds \d{5}:"):
        keras_file.load(path)


def test_a_layer_that_computes_without_bound_is_refused(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((20,), name="a")
    wide = keras.layers.ZeroPadding1D((0, 2**27))(keras.layers.Reshape((-1, 1))(inputs))
    narrow = keras.layers.Flatten()(keras.layers.MaxPooling1D(2**26)(wide))
    keras.Model(inputs, keras.layers.Dense(3)(narrow)).save(tmp_path / "wide.keras")
    with pytest.raises(ModelFileError, match=r"computes 134217748 values for each clip; at most 67108864"):
        keras_file.load(tmp_path / "wide.keras")


def test_endless_sinkhorn_iterations_are_refused_before_they_are_unrolled(tmp_path: Path) -> None:
    network, _ = built("parrot")
    network.save(tmp_path / "plain.keras")
    with (
        zipfile.ZipFile(tmp_path / "plain.keras") as source,
        zipfile.ZipFile(tmp_path / "long.keras", "w") as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(b'"iterations": 20', b'"iterations": 1000000000'))
    with pytest.raises(ModelFileError, match=r"asks for 1000000000 Sinkhorn iterations; expected 1 to 1000"):
        keras_file.load(tmp_path / "long.keras")


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"config": b"[]"}, "its architecture is a list"),
        ({"config": b"{"}, r"cannot be read as a \.keras file"),
        ({"config": b"[" * 10**6}, r"cannot be read as a \.keras file"),
        ({"config": b" " * (keras_file.MAX_CONFIG_BYTES + 1)}, r"its architecture is larger than \d+ bytes"),
        ({"config": b"{}"}, r"(holds no network that can be built|describes)"),
        ({"model": b"no weights" * 10**4}, "holds no network that can be built"),
        ({"model": b""}, r"describes \d+ bytes of weights but holds 0"),
    ],
)
def test_damaged_members_are_named(rewritten, members: dict[str, bytes], says: str) -> None:
    with pytest.raises(ModelFileError, match=says):
        keras_file.load(rewritten(**members))


def test_other_archives_and_other_files_are_refused(rewritten, tmp_path: Path) -> None:
    text = tmp_path / "text.keras"
    text.write_text("not an archive")
    with pytest.raises(ModelFileError, match=r"cannot be read as a \.keras file"):
        keras_file.load(text)
    extra = rewritten()
    with zipfile.ZipFile(extra, "a") as file:
        file.writestr("assets/run.py", "print('run')")
    with pytest.raises(ModelFileError, match=r"is no \.keras file: it holds assets/run\.py"):
        keras_file.load(extra)
    packed = tmp_path / "packed.keras"
    with zipfile.ZipFile(rewritten()) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(ModelFileError, match="is compressed, which Keras does not do"):
        keras_file.load(packed)
