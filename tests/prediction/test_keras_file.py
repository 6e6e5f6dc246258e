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


def test_a_layer_that_the_weights_cannot_be_given_to_is_refused_without_a_notice(rewritten, recwarn) -> None:
    def unbuilt(config: dict) -> None:
        layer(config, "Dense")["build_config"] = {"other": 1}

    with pytest.raises(ModelFileError, match="holds no network that can be built: Skipping nested container"):
        keras_file.load(rewritten(unbuilt))
    assert not [notice for notice in recwarn if "Skipping" in str(notice.message)]


def wide(after: Callable[[object], object], size: int = 20) -> object:
    """A network whose one output is made of what `after` makes of an input of `size` values."""
    import keras

    inputs = keras.Input((size,), name="a")
    return keras.Model(inputs, keras.layers.Dense(3)(after(inputs)))


def padded(tensor: object, to: int) -> object:
    """A long and narrow tensor, made short again: few weights, many values."""
    import keras

    long = keras.layers.ZeroPadding1D((0, to))(keras.layers.Reshape((-1, 1))(tensor))
    return keras.layers.Flatten()(keras.layers.MaxPooling1D(to)(long))


def nested(tensor: object) -> object:
    import keras

    inner = keras.Input((20,))
    return keras.Model(inner, padded(inner, 2**28))(tensor)


def transported(sinkhorns: int = 1, iterations: int = 20) -> Callable[[object], object]:
    from serfuse.layers import FeatureTransport

    def build(tensor: object) -> object:
        for _ in range(sinkhorns):
            tensor = FeatureTransport(iterations=iterations)([tensor, tensor])[0]
        return tensor

    return build


def referenced(tensor: object) -> object:
    """A transport between two large sets that the network makes of one small one."""
    import keras

    from serfuse.layers import ReferenceSet, ReferenceTransport

    many = keras.layers.Reshape((1,))(keras.layers.Reshape((-1, 1))(ReferenceSet(shape=(2**15, 1))(tensor)))
    one = keras.layers.Dense(1)(tensor)
    return ReferenceTransport()([one, one, many, many])[0]


@pytest.mark.parametrize(
    ("after", "size", "says"),
    [
        (lambda x: padded(x, 2**28), 20, r"holds 26843\d{4} values for one clip; at most 268435456"),
        (nested, 20, r"holds 26843\d{4} values for one clip"),
        (transported(), 2**15, r"holds 7516\d{6} values for one clip"),
        (referenced, 20, r"holds 7516\d{6} values for one clip"),
        (transported(3, 1000), 20, "takes 3000 Sinkhorn iterations for one clip; at most 2000"),
        (transported(1, 1000), 6000, r"takes 144\d{10} floating-point operations for one clip"),
    ],
)
def test_what_computes_without_bound_is_refused(tmp_path: Path, after: Callable, size: int, says: str) -> None:
    backend.set_up_backend()
    wide(after, size).save(tmp_path / "wide.keras")
    with pytest.raises(ModelFileError, match=says):
        keras_file.load(tmp_path / "wide.keras")


def test_fewer_clips_go_together_where_each_takes_much(tmp_path: Path) -> None:
    backend.set_up_backend()
    assert keras_file.clips_at_once(wide(lambda x: x), "it") == keras_file.BATCH
    assert keras_file.clips_at_once(wide(lambda x: padded(x, 2**24)), "it") == 8  # of 16 that one tensor would allow


def test_networks_that_call_each_other_without_end_are_refused(rewritten) -> None:
    def tower(config: dict) -> None:
        for level in range(8):
            node = {"args": [], "kwargs": {}}
            config["config"] = {"layers": [{**config, "inbound_nodes": [node] * 10, "name": str(level)}]}

    with pytest.raises(ModelFileError, match="calls more than 2000 layers"):
        keras_file.load(rewritten(tower))


def test_statistics_in_the_architecture_are_refused(rewritten) -> None:
    def spread(config: dict) -> None:
        layer(config, "Normalization")["config"].update(mean=0.0, variance=1.0)
        config["config"]["layers"][0]["config"]["batch_shape"] = [None, 2**40]

    with pytest.raises(ModelFileError, match="a Normalization has its statistics in the architecture"):
        keras_file.load(rewritten(spread))


def first_array(file: object) -> tuple[object, str]:
    """The first array of weights: the group it stands in, and its name."""
    import h5py

    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) and item.size > 9 else None)
    return file[found[0]].parent, found[0].rpartition("/")[2]


def replaced(**how: object) -> Callable[[object], None]:
    """The first array is written in another way."""

    def change(file: object) -> None:
        group, name = first_array(file)
        values = group[name][()]
        del group[name]
        group.create_dataset(name, **({"data": values} | how))

    return change


def changed_values(value: float) -> Callable[[object], None]:
    def change(file: object) -> None:
        group, name = first_array(file)
        group[name][..., -1] = value

    return change


def other_type(file: object) -> None:
    group, name = first_array(file)
    group[name].attrs["dtype"] = "bfloat16"


def too_large(file: object) -> None:
    group, name = first_array(file)
    replaced(data=group[name][()].astype("f8") + 1e300)(file)


def linked(to: object) -> Callable[[object], None]:
    def change(file: object) -> None:
        group, name = first_array(file)
        del group[name]
        group[name] = file if to is None else to

    return change


def virtual(file: object) -> None:
    import h5py

    group, name = first_array(file)
    values = group[name][()]
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[...] = h5py.VirtualSource("/etc/hostname", "x", values.shape)
    del group[name]
    group.create_virtual_dataset(name, layout)


def soft(file: object) -> None:
    import h5py

    linked(h5py.SoftLink("/layers"))(file)


def external(file: object) -> None:
    import h5py

    linked(h5py.ExternalLink("/etc/hostname", "/x"))(file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed_values(np.nan), r"holds NaN or infinite weights \(/layers/.*\): it can give no answer"),
        (changed_values(np.inf), "holds NaN or infinite weights"),
        (replaced(compression="gzip"), "is compressed, in chunks, or in another file"),
        (replaced(chunks=True), "is compressed, in chunks, or in another file"),
        (replaced(data=None, shape=(4,), dtype="f4", external=[("/etc/hostname", 0, 16)]), "or in another file"),
        (replaced(data=None, shape=(2**40,), dtype="f4"), "claims 4398046511104 bytes, which the file does not hold"),
        (replaced(data=None, shape=(16,), dtype="f4"), "claims 64 bytes, which the file does not hold"),
        (replaced(data=b"text"), "is no array of numbers"),
        (other_type, "is no array of numbers"),
        (too_large, "holds NaN or infinite weights"),
        (virtual, "or in another file"),
        (soft, "is a link. It was not followed"),
        (external, "is a link. It was not followed"),
        (linked(None), "stands there twice"),
    ],
)
def test_weights_that_keras_does_not_write_are_refused(rewritten, tmp_path: Path, change: Callable, says: str) -> None:
    import h5py

    with zipfile.ZipFile(rewritten()) as source:
        path = Path(source.extract("model.weights.h5", tmp_path))
    with h5py.File(path, "r+") as file:
        change(file)
    made = rewritten(model=path.read_bytes())
    with pytest.raises(ModelFileError, match=rf"^given\.serfuse.*{says}"):
        keras_file.check(made, "given.serfuse")


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
        ({"metadata": b"[]"}, "its architecture is a list"),
        ({"model": b"no weights" * 10**4}, "is damaged, or cannot be read"),
        ({"model": b""}, "is damaged, or cannot be read"),
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
