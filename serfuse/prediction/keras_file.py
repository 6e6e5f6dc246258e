"""Reading a `.keras` file that somebody else may have made."""

import json
import math
import zipfile
from pathlib import Path
from typing import Any

from ..errors import ModelFileError

MAX_CONFIG_BYTES = 4 * 2**20
"""Largest architecture that is read; serfuse's own take some 20 kB."""

MAX_CLIP_VALUES = 2**26
"""Most values that one layer may compute for one clip (256 MiB of float32)."""

_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
_STANDARD = {
    ("keras", "DTypePolicy"),
    ("keras.initializers", "GlorotUniform"),
    ("keras.initializers", "Zeros"),
    ("keras.src.models.functional", "Functional"),
    *(
        ("keras.layers", name)
        for name in (
            *("Add", "Concatenate", "Conv1D", "Dense", "Dropout", "Flatten"),
            *("InputLayer", "MaxPooling1D", "Normalization", "Reshape", "ZeroPadding1D"),
        )
    ),
    (None, "__keras_tensor__"),
}
_MAX_ITERATIONS = 1000  # of Sinkhorn, whose loop is unrolled while a model is built; as in the options of `parrot`


def load(path: Path) -> Any:
    """The network in a `.keras` file, not compiled.

    The file may come from anybody. Only the layers that serfuse's models are made of are admitted, by exact name,
    before any is built; what they would allocate is counted before it is allocated, and must be in the file.

    Raises:
        ModelFileError: not such a file, damaged, names anything else, or claims more than it holds.
    """
    import keras

    from .. import layers

    config, stored = _read(path)
    own = {(cls.__module__, cls.__name__) for cls in vars(layers).values() if isinstance(cls, type)}
    _check_names(config, own, path)
    try:
        # Variables get shapes here, and no memory.
        with keras.StatelessScope(initialize_variables=False):
            claimed = keras.saving.deserialize_keras_object(config, safe_mode=True)
        _check_sizes(claimed, stored, path)
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except ModelFileError:
        raise
    except Exception as error:  # whatever Keras and h5py say about a damaged file
        raise ModelFileError(f"{path} holds no network that can be built: {_first_line(error)}.") from error


def _read(path: Path) -> tuple[Any, int]:
    """The architecture, and how many bytes of weights the file holds."""
    try:
        with zipfile.ZipFile(path) as file:
            members = {item.filename: item for item in file.infolist()}
            if set(members) != _MEMBERS or len(file.infolist()) != len(members):
                raise ModelFileError(
                    f"{path} is no .keras file: it holds {', '.join(sorted(members)[:5]) or 'nothing'}; expected "
                    f"{', '.join(sorted(_MEMBERS))}."
                )
            for item in members.values():
                if item.compress_type != zipfile.ZIP_STORED:
                    raise ModelFileError(f"{path}: {item.filename} is compressed, which Keras does not do.")
            if members["config.json"].file_size > MAX_CONFIG_BYTES:
                raise ModelFileError(f"{path}: its architecture is larger than {MAX_CONFIG_BYTES} bytes.")
            config = json.loads(file.read("config.json"))
    except (OSError, zipfile.BadZipFile, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} cannot be read as a .keras file: {_first_line(error)}.") from None
    if not isinstance(config, dict):
        raise ModelFileError(f"{path}: its architecture is a {type(config).__name__}, expected a mapping.")
    return config, members["model.weights.h5"].file_size


def _check_names(config: Any, own: set[tuple[str, str]], path: Path) -> None:
    """Refuse every object that no model of serfuse has."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        if not isinstance(value, dict):
            continue
        waiting += value.values()
        if "class_name" in value or "registered_name" in value or "module" in value:
            name = (value.get("module"), value.get("class_name"))
            registered = value.get("registered_name")
            admitted = (
                (name in own and registered == f"serfuse>{name[1]}")
                or (name in _STANDARD and registered in (None, name[1]))
                if all(isinstance(part, str | None) for part in name)
                else False
            )
            if not admitted:
                raise ModelFileError(
                    f"{path} names {name[0]}.{name[1]} (registered as {registered!r}), which no model of serfuse is "
                    "made of. It was not built."
                )
        iterations = value.get("iterations", 1)
        if not isinstance(iterations, int) or not 1 <= iterations <= _MAX_ITERATIONS:
            raise ModelFileError(
                f"{path} asks for {iterations!r} Sinkhorn iterations; expected 1 to {_MAX_ITERATIONS}."
            )


def _check_sizes(network: Any, stored: int, path: Path) -> None:
    """Refuse a network that takes more memory than its file accounts for."""
    needed = sum(math.prod(variable.shape) * 4 for variable in network.variables)
    if needed > stored:
        raise ModelFileError(
            f"{path} describes {needed} bytes of weights but holds {stored}: it is cut short, or not what it says."
        )
    for layer in network.layers:
        for output in layer.output if isinstance(layer.output, list) else [layer.output]:
            values = math.prod(size or 1 for size in output.shape[1:])
            if values > MAX_CLIP_VALUES:
                raise ModelFileError(
                    f"{path}: its layer {layer.name!r} computes {values} values for each clip; at most "
                    f"{MAX_CLIP_VALUES} are accepted."
                )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
