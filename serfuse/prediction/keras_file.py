"""Reading a `.keras` file that somebody else may have made."""

import importlib
import itertools
import json
import math
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExtensionError, ModelFileError

MAX_CONFIG_BYTES = 4 * 2**20
"""Largest architecture that is read; serfuse's own take some 20 kB."""

MAX_CALLS = 2000
"""Most calls of layers, those of networks within networks counted each time; serfuse's own make some 40."""

MAX_VALUES = 2**28
"""Most values that a network may hold while it computes (1 GiB of float32)."""

MAX_OPERATIONS = 2**40
"""Most floating-point operations for one clip, a minute or so of two cores; serfuse's own take some 10^8."""

MAX_ITERATIONS = 2000
"""Most Sinkhorn iterations of a whole network, each of which is several operations of the backend."""

BATCH = 128
"""Most clips that go through a network together."""

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_STANDARD = {
    ("keras", "DTypePolicy"),
    ("keras.initializers", "GlorotUniform"),
    ("keras.initializers", "Zeros"),
    ("keras.src.models.functional", "Functional"),
    *(
        ("keras.layers", name)
        for name in (
            *("Add", "Concatenate", "Conv1D", "Dense", "Dropout", "Flatten"),
            *("GlobalAveragePooling1D", "InputLayer", "MaxPooling1D", "Normalization", "RepeatVector", "Reshape"),
            "ZeroPadding1D",
        )
    ),
    (None, "__keras_tensor__"),
}
_MAX_ITERATIONS = 1000  # of one Sinkhorn, whose loop is unrolled; as in the options of `parrot`


def check(path: Path, shown: Path | str | None = None) -> tuple[Any, int]:
    """Look at all that can be looked at without Keras: that the file is whole, and holds finite weights and no more.

    Args:
        path: the file.
        shown: what messages call it, where it was unpacked from another one.

    Returns:
        the architecture, and how many bytes the arrays of weights have.

    Raises:
        ModelFileError: not such a file, damaged, of unusual parts, or with weights that are not finite.
    """
    shown = shown or path
    with unpacking(shown) as folder, _damage_named(shown), zipfile.ZipFile(path) as file:
        members = {item.filename: item for item in file.infolist()}
        expected = {_CONFIG, _METADATA, _WEIGHTS}
        if set(members) != expected or len(file.infolist()) != len(members):
            raise ModelFileError(
                f"{shown} is no .keras file: it holds {', '.join(sorted(members)[:5]) or 'nothing'}; expected "
                f"{', '.join(sorted(expected))}."
            )
        for item in members.values():
            if item.compress_type != zipfile.ZIP_STORED:
                raise ModelFileError(f"{shown}: {item.filename} is compressed, which Keras does not do.")
        for name in (_CONFIG, _METADATA):
            if members[name].file_size > MAX_CONFIG_BYTES:
                raise ModelFileError(f"{shown}: its architecture is larger than {MAX_CONFIG_BYTES} bytes ({name}).")
        for value in (config := json.loads(file.read(_CONFIG)), json.loads(file.read(_METADATA))):
            if not isinstance(value, dict):
                raise ModelFileError(f"{shown}: its architecture is a {type(value).__name__}, expected a mapping.")
        if _calls(config) > MAX_CALLS:
            raise ModelFileError(f"{shown} calls more than {MAX_CALLS} layers, which no model of serfuse does.")
        stored = _check_weights(unpacked(file, _WEIGHTS, folder, shown), shown)
    return config, stored


def load(path: Path, shown: Path | str | None = None, model: str = "") -> Any:
    """The network in a `.keras` file, not compiled.

    The file may come from anybody. Only the layers that serfuse's models are made of are admitted, by exact name,
    before any is built; what they would hold and compute is counted before any of it is.

    Args:
        path: the file.
        shown: what messages call it.
        model: registered name of the model it is said to be, whose own layers are admitted too.

    Raises:
        ExtensionError: the model comes from another package, which is broken.
        ModelFileError: what `check` refuses; a network that names anything else, claims more than the file holds, or
            takes too much.
    """
    import keras

    shown = shown or path
    config, stored = check(path, shown)
    _check_names(config, admitted(model), shown)
    try:
        # Variables get shapes here, and no memory.
        with keras.StatelessScope(initialize_variables=False):
            claimed = keras.saving.deserialize_keras_object(config, safe_mode=True)
        _check_sizes(claimed, stored, shown)
        clips_at_once(claimed, shown)
        with warnings.catch_warnings():
            # Of layers that the file has no weights for: refused at once, not after a notice on the screen.
            warnings.filterwarnings("error", "(?s).*freshly-initialized weights")
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except ModelFileError:
        raise
    except Exception as error:  # whatever Keras says about a file that is not what it says
        raise ModelFileError(f"{shown} holds no network that can be built: {_first_line(error)}.") from error


@contextmanager
def unpacking(shown: Path | str) -> Iterator[Path]:
    """A folder to unpack a file into, for as long as the block lasts.

    Raises:
        ModelFileError: the folder for temporary files cannot be written.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="serfuse-")
    except OSError as error:
        raise _no_room(shown, error) from None
    with folder as name:
        yield Path(name)


def unpacked(archive: zipfile.ZipFile, member: str, folder: Path, shown: Path | str) -> Path:
    """A member of an archive as a file in `folder`, compared with its checksum.

    Raises:
        ModelFileError: the folder is full, or cannot be written.
        zipfile.BadZipFile: it is damaged.
    """
    try:
        return Path(archive.extract(member, folder))
    except OSError as error:
        raise _no_room(shown, error) from None


def _no_room(shown: Path | str, error: OSError) -> ModelFileError:
    return ModelFileError(
        f"{shown} cannot be unpacked into the folder for temporary files: {error.strerror or error}. Free some space "
        "there, or set TMPDIR to another folder."
    )


@contextmanager
def _damage_named(shown: Path | str) -> Iterator[None]:
    """Turn whatever `zipfile`, `json` and `h5py` say about a damaged file into one error that names the file."""
    try:
        yield
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(
            f"{shown} is damaged, or cannot be read as a .keras file: {_first_line(error)}. Copy it again."
        ) from error


# -- what the architecture names ---------------------------------------------------------------------------


def admitted(model: str = "") -> set[tuple[str | None, str, str | None]]:
    """Module, class and registered name of what a network may name beside the usual parts of Keras.

    The layers of this package, and what the model of that name declares (`Model.layers`); nothing for a name that is
    not installed here.

    Raises:
        ExtensionError: the model comes from another package, which is broken.
    """
    import keras

    from .. import layers, models

    own = [cls for cls in vars(layers).values() if isinstance(cls, type)]
    found = {(cls.__module__, cls.__name__, f"serfuse>{cls.__name__}") for cls in own}
    for target in models.get(model).layers if model in models.MODELS else ():
        module, _, name = target.partition(":")
        if module.partition(".")[0] == "keras":
            found |= {(module, name, None), (module, name, name)}
            continue
        try:
            cls = getattr(importlib.import_module(module), name)
        except Exception as error:  # whatever another package does while it is imported
            raise ExtensionError(
                f"The model {model!r} from {models.MODELS.origin(model)} declares the layer {target}, which cannot be "
                f"imported ({type(error).__name__}: {_first_line(error)})."
            ) from error
        found.add((cls.__module__, cls.__name__, keras.saving.get_registered_name(cls)))
    return found


def check_declared(network: Any, model: str) -> None:
    """Refuse a network whose file could not be read again, since its model does not declare all of its layers.

    Raises:
        ModelFileError: naming the first one that is missing.
        ExtensionError: a declared layer cannot be imported.
    """
    import keras

    try:
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(network)))
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"The network of {model!r} cannot be kept: {_first_line(error)}.") from error
    known = admitted(model)
    for name, registered in _named(config):
        if not _is_known(name, registered, known):
            raise ModelFileError(
                f"The network of {model!r} has {name[0]}.{name[1]} in it, which its model does not declare: its file "
                f'could not be read again. Add "{name[0]}:{name[1]}" to `layers` of the model.'
            )


def _calls(value: Any) -> int:
    """How often layers are called while a network is built; a network within it calls its own each time."""
    if isinstance(value, list):
        return sum(map(_calls, value))
    if not isinstance(value, dict):
        return 0
    if "inbound_nodes" not in value:
        return sum(map(_calls, value.values()))
    nodes = value["inbound_nodes"]
    times = len(nodes) if isinstance(nodes, list) else 1
    return max(1, times) * max(1, _calls(value.get("config")))


def _named(config: Any) -> Iterator[tuple[tuple[Any, Any], Any]]:
    """(module, class) and registered name of every object of an architecture."""
    for value in _mappings(config):
        if "class_name" in value or "registered_name" in value or "module" in value:
            yield (value.get("module"), value.get("class_name")), value.get("registered_name")


def _mappings(config: Any) -> Iterator[dict[str, Any]]:
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        if isinstance(value, dict):
            waiting += value.values()
            yield value


def _is_known(name: tuple[Any, Any], registered: Any, known: set[tuple[str | None, str, str | None]]) -> bool:
    if not all(isinstance(part, str | None) for part in (*name, registered)):
        return False
    return (*name, registered) in known or (name in _STANDARD and registered in (None, name[1]))


def _check_names(config: Any, known: set[tuple[str | None, str, str | None]], shown: Path | str) -> None:
    """Refuse every object that no model of serfuse has, and every setting that makes one large by itself."""
    for name, registered in _named(config):
        if not _is_known(name, registered, known):
            raise ModelFileError(
                f"{shown} names {name[0]}.{name[1]} (registered as {registered!r}), which no model of serfuse is "
                "made of. It was not built. Where its model comes from another package, install that."
            )
    for value in _mappings(config):
        if value.get("class_name") == "Normalization":
            _check_statistics(value.get("config"), shown)
        iterations = value.get("iterations", 1)
        if not isinstance(iterations, int) or not 1 <= iterations <= _MAX_ITERATIONS:
            raise ModelFileError(
                f"{shown} asks for {iterations!r} Sinkhorn iterations; expected 1 to {_MAX_ITERATIONS}."
            )


def _check_statistics(config: Any, shown: Path | str) -> None:
    # Keras would spread them over an input of any size while it builds the layer.
    if isinstance(config, dict) and (config.get("mean") is not None or config.get("variance") is not None):
        raise ModelFileError(f"{shown}: a Normalization has its statistics in the architecture, not in the weights.")


# -- what the weights are ----------------------------------------------------------------------------------


def _check_weights(path: Path, shown: Path | str) -> int:
    """Refuse HDF5 that Keras does not write, before Keras opens it; give the bytes of its arrays.

    Plain arrays in the file itself: no links, no data elsewhere, no filters, no chunks, nothing claimed that is not
    there, nothing twice. Keras refuses part of this by itself; which part depends on its release.
    """
    import h5py

    size, stored = path.stat().st_size, 0
    with h5py.File(path, "r") as file:
        seen, waiting = set(), [file["/"]]
        while waiting:
            group = waiting.pop()
            for name in group:
                where = f"{group.name.rstrip('/')}/{name}"[:200]
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ModelFileError(f"{shown}: {where!r} of its weights is a link. It was not followed.")
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    raise ModelFileError(f"{shown}: {where!r} of its weights stands there twice.")
                seen.add(address)
                if isinstance(item, h5py.Group):
                    waiting.append(item)
                else:
                    stored += _check_array(item, size - stored, where, shown)
    return stored


def _check_array(item: Any, left: int, where: str, shown: Path | str) -> int:
    """Refuse anything but a plain array of finite numbers that the file holds; give its bytes."""
    import h5py

    numbers = isinstance(item, h5py.Dataset) and item.dtype.kind in "fiub" and item.dtype.itemsize <= 8
    # An attribute would make Keras take the numbers for those of another type.
    if not numbers or h5py.h5a.get_num_attrs(item.id):
        raise ModelFileError(f"{shown}: {where!r} of its weights is no array of numbers.")
    made = item.id.get_create_plist()
    plain = made.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
    if not plain or made.get_nfilters() or made.get_external_count() or item.is_virtual:
        raise ModelFileError(
            f"{shown}: {where!r} of its weights is compressed, in chunks, or in another file, which Keras does not do."
        )
    size = math.prod(item.shape or ()) * item.dtype.itemsize
    if size > left or item.id.get_storage_size() != size:
        raise ModelFileError(f"{shown}: {where!r} of its weights claims {size} bytes, which the file does not hold.")
    with np.errstate(over="ignore"):  # float64 that is finite may not be once Keras has taken it for float32
        finite = item.dtype.kind != "f" or np.isfinite(item[()].astype("float32")).all()
    if not finite:
        raise ModelFileError(f"{shown} holds NaN or infinite weights ({where}): it can give no answer. Train it again.")
    return size


# -- what the network takes --------------------------------------------------------------------------------


def _check_sizes(network: Any, stored: int, shown: Path | str) -> None:
    """Refuse a network whose weights take more memory than its file accounts for."""
    needed = sum(math.prod(variable.shape) * 4 for variable in network.weights)
    if needed > stored:
        raise ModelFileError(
            f"{shown} describes {needed} bytes of weights but holds {stored}: it is cut short, or not what it says."
        )


def clips_at_once(network: Any, shown: Path | str) -> int:
    """How many clips may go through a network together, at most `BATCH`, so that it holds at most `MAX_VALUES`.

    Args:
        network: `keras.Model`; shapes are all that is looked at.
        shown: what messages call it.

    Raises:
        ModelFileError: one clip alone takes more than `MAX_VALUES`, `MAX_OPERATIONS` or `MAX_ITERATIONS`.
    """
    one = _cost(network, 1, shown)
    for sentence, taken, most in (
        ("holds {} values", one.values, MAX_VALUES),
        ("takes {} floating-point operations", one.operations, MAX_OPERATIONS),
        ("takes {} Sinkhorn iterations", one.iterations, MAX_ITERATIONS),
    ):
        if taken > most:
            raise ModelFileError(
                f"{shown}: its network {sentence.format(taken)} for one clip; at most {most} are accepted."
            )
    clips = BATCH
    while clips > 1 and _cost(network, clips, shown).values > MAX_VALUES:
        clips //= 2
    return clips


@dataclass(frozen=True)
class _Cost:
    """Values held, floating-point operations, Sinkhorn iterations."""

    values: int = 0
    operations: int = 0
    iterations: int = 0

    def __add__(self, other: "_Cost") -> "_Cost":
        return _Cost(self.values + other.values, self.operations + other.operations, self.iterations + other.iterations)


def _cost(network: Any, clips: int, shown: Path | str) -> _Cost:
    """What one call takes: the outputs of all layers, which Keras holds to the end, and what layers hold inside."""
    total = _Cost()
    for node in itertools.chain.from_iterable(network._nodes_by_depth.values()):
        layer = node.operation
        given = [_shape(tensor, clips, shown) for tensor in node.arguments.keras_tensors]
        made = [_shape(tensor, clips, shown, made_by=layer) for tensor in node.output_tensors]
        if hasattr(layer, "_nodes_by_depth"):  # a network within the network
            if given != [_shape(tensor, clips, shown) for tensor in layer.inputs]:
                raise ModelFileError(f"{shown}: its network {layer.name!r} is called on other shapes than its own.")
            total += _cost(layer, clips, shown)
        else:
            total += _layer_cost(layer, given, made)
    return total


def _shape(tensor: Any, clips: int, shown: Path | str, made_by: Any = None) -> tuple[int, ...]:
    from ..layers import SinkhornTransport

    shape = tuple(tensor.shape)
    if isinstance(made_by, SinkhornTransport):  # of whole clips: its plan is clips by clips
        shape = tuple(clips if size is None else size for size in shape)
    if None in shape[1:]:
        raise ModelFileError(f"{shown}: a layer of its network has the shape {shape}; only the first axis may be open.")
    return (clips, *shape[1:]) if shape[:1] == (None,) else shape


def _layer_cost(layer: Any, given: list[tuple[int, ...]], made: list[tuple[int, ...]]) -> _Cost:
    import keras

    from ..layers.transport_layer import TransportLayer

    values = sum(map(math.prod, made))
    weights = sum(math.prod(variable.shape) for variable in getattr(layer, "weights", ()))
    # A matrix of weights is applied at every place of the output; all else is elementwise, or a window.
    places = sum(math.prod(shape[:-1]) for shape in made)
    window = math.prod(getattr(layer, "pool_size", (1,)))
    cost = _Cost(values, 2 * weights * places + 10 * (window * values + sum(map(math.prod, given))))
    if isinstance(layer, TransportLayer):
        cost += _transport_cost(layer, given)
    if isinstance(layer, keras.layers.MultiHeadAttention):
        (query, value), heads = (given[0], given[-1]), layer.get_config()["num_heads"]
        entries = heads * math.prod(query[:-1]) * math.prod(value[1:-1])
        cost += _Cost(3 * entries, 4 * entries * (query[-1] + value[-1]))
    return cost


def _transport_cost(layer: Any, given: list[tuple[int, ...]]) -> _Cost:
    """Of the matrices of points by points that a transport plan is computed in."""
    from ..layers import FeatureTransport, ReferenceTransport

    if isinstance(layer, FeatureTransport):  # a plan for each clip, of features on a line
        plans, rows, columns, width = given[0][0], given[0][1], given[1][1], 1
    else:  # a plan between two sets of points; beside the one between reference sets, the rows for the clips
        first, second = given[2:4] if isinstance(layer, ReferenceTransport) else given[:2]
        plans, rows, columns, width = math.prod(first[:-2]), first[-2], second[-2], first[-1]
    entries = plans * rows * columns
    if isinstance(layer, ReferenceTransport):
        entries += given[0][0] * (rows + columns)
    # Some six such matrices live at a time; an iteration on logarithms takes some 40 operations for each entry.
    return _Cost(6 * entries, entries * (6 * width + 40 * layer.iterations), layer.iterations)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]
