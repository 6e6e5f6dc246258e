"""Reads a torch checkpoint that `weights_only=True` refuses, without ever running what the file names.

Audio-Mamba's checkpoints hold an `ml_collections` object beside the weights. This reader never imports or calls
anything on the file's word: a name in the pickle becomes a marker, only the exact names below mean something, and
every other one is an error. Tensors are described first and read afterwards, once the claims about their size
agree with the bytes that are there. Imports torch: for family files only.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import torch

from ...errors import WeightsError
from ..checks import shown

MAX_PICKLE = 4 << 20
"""Bytes of the pickle itself, without tensors; one of these models with its optimizer needs well under a million.
A byte can stand for an object of 64, so that this bounds the memory, and the time, that reading takes."""

_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_ORDERED = "collections.OrderedDict"

# What settings and counters beside the weights are made of. They are stepped over, not built.
_IGNORED = frozenset(
    {
        "ml_collections.config_dict.config_dict.ConfigDict",
        "ml_collections.config_dict.config_dict.FrozenConfigDict",
        "ml_collections.config_dict.config_dict.FieldReference",
        "ml_collections.config_dict.config_dict.FrozenFieldReference",
        "ml_collections.config_dict.config_dict._Op",
        "argparse.Namespace",
        "pathlib.PosixPath",
        "collections.defaultdict",
        "torch.device",
        "torch.Size",
        "numpy.dtype",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "_codecs.encode",
        *(
            f"{module}.{name}"
            for module in ("builtins", "__builtin__")
            for name in ("bool", "int", "long", "float", "str", "unicode", "bytes", "list", "tuple", "dict", "set")
        ),
    }
)
WEIGHTS = frozenset({_TENSOR, _PARAMETER, _ORDERED, *(f"torch.{name}" for name in _STORAGES)})
"""The names that a file of nothing but weights has need of."""

# Those of protocol 2, in which torch.save writes, less the ones that name or build things in older ways.
_OPCODES = (
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK),
    *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET),
    *(pickle.GLOBAL, pickle.REDUCE, pickle.BUILD, pickle.NEWOBJ, pickle.BINPERSID),
    *(pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE),
    *(pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.APPEND, pickle.APPENDS, pickle.SETITEM, pickle.SETITEMS),
    *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT, pickle.BINUNICODE),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
)


@dataclass(frozen=True)
class _Global:
    """A name that the pickle mentions; nothing but the name."""

    name: str


class _Ignored:
    """Stands for an object that is not needed; takes what is put into it and drops it."""

    def append(self, _item: Any) -> None: ...

    def extend(self, _items: Any) -> None: ...

    def __setitem__(self, _key: Any, _value: Any) -> None: ...


@dataclass(frozen=True)
class Storage:
    """Numbers that the file says it holds."""

    dtype: torch.dtype
    key: str
    count: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class _Tensor:
    """A tensor as the pickle describes it; no memory has been set aside."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.size)


class Refused(Exception):
    """The file asks for something that a checkpoint has no need of."""


class Reader(pickle._Unpickler):
    """The unpickler in Python: its memo cannot be made to claim memory, and its parts can be replaced.

    Attributes:
        storages: what the tensors of the file are said to be made of.
    """

    dispatch: ClassVar = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES}

    def __init__(self, stream: IO[bytes], admitted: Collection[str] = WEIGHTS | _IGNORED) -> None:
        super().__init__(stream)
        self.storages: list[Storage] = []
        self._admitted = admitted

    def find_class(self, module: str, name: str) -> _Global:
        full = f"{module}.{name}"
        if full not in self._admitted:
            raise Refused(f"it names {shown(full)}")
        return _Global(full)

    def persistent_load(self, pid: Any) -> Storage:
        match pid:
            # Before torch 1.6 a sixth place followed, for views of a storage.
            case ("storage", _Global(name), str(key), str(), int(count), *_) if count >= 0:
                kind = name.removeprefix("torch.")
                # A key is a number; anything else could point elsewhere in the archive.
                if kind in _STORAGES and key.isascii() and key.isdigit():
                    storage = Storage(_STORAGES[kind], key, count)
                    self.storages.append(storage)
                    return storage
        raise Refused("it describes a storage in an unknown way")

    def _call(self, function: Any, arguments: Any) -> Any:
        name = function.name if isinstance(function, _Global) else None
        if name == _ORDERED and arguments == ():
            return OrderedDict()
        if name == _TENSOR:
            return _described(arguments)
        if name == _PARAMETER and isinstance(arguments, tuple) and arguments and isinstance(arguments[0], _Tensor):
            return arguments[0]
        if name in _IGNORED:
            return _Ignored()
        raise Refused(f"it calls {name or type(function).__name__.lstrip('_')}")

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    def load_build(self) -> None:
        self.stack.pop()  # the state: a state dict's _metadata, or settings
        if not isinstance(self.stack[-1], OrderedDict | _Ignored):
            raise Refused(f"it sets attributes of a {type(self.stack[-1]).__name__.lstrip('_')}")

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        pickle._Unpickler.load_setitem(self)

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        pickle._Unpickler.load_setitems(self)

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def read_checkpoint(path: Path, entry: str = "model") -> dict[str, torch.Tensor]:
    """The tensors of one entry of a checkpoint that `torch.save` wrote (or of a bare state dict), on the CPU.

    Args:
        path: a zip archive as torch has written since 1.6.
        entry: key of the state dict within the checkpoint; the others are not read.

    Raises:
        WeightsError: not such an archive, truncated, compressed, naming anything that weights have no need of,
            claiming more than it holds, or without `entry`.
    """
    advice = (
        "Nothing in it was run. If you trust its source, load it there and save the state dict as safetensors; "
        "otherwise get the file again."
    )
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(path, archive, entry)
    except Refused as error:
        raise WeightsError(f"{path} was refused: {error}, which weights have no need of. {advice}") from error
    except WeightsError:
        raise
    except zipfile.BadZipFile as error:
        raise WeightsError(
            f"{path} is not a checkpoint in torch's zip format, or it is truncated or damaged ({error}). "
            f"Get the file again."
        ) from error
    # Whatever a damaged or made-up pickle can raise inside the machine: IndexError, KeyError (an opcode that is
    # not in the table), EOFError, UnicodeDecodeError, AttributeError, TypeError, OverflowError ...
    except Exception as error:
        raise WeightsError(
            f"{path} could not be read as a checkpoint: {type(error).__name__}: {error}. {advice}"
        ) from error


def _read(path: Path, archive: zipfile.ZipFile, entry: str) -> dict[str, torch.Tensor]:
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise WeightsError(f"{path} is a zip archive, but not of torch.save: it holds {len(pickles)} data.pkl.")
    folder = pickles[0].partition("/")[0]
    if f"{folder}/byteorder" in archive.namelist() and _member(archive, f"{folder}/byteorder", 16) != b"little":
        raise WeightsError(f"{path} was written on a big-endian machine, which is not supported.")

    content = Reader(io.BytesIO(_member(archive, pickles[0], MAX_PICKLE))).load()
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__.lstrip('_')}, expected a dict of weights.")
    state = content.get(entry, content)
    if not isinstance(state, dict):
        state = {}
    tensors = {name: value for name, value in state.items() if isinstance(name, str) and isinstance(value, _Tensor)}
    if not tensors or len(tensors) < len(state):
        listed = ", ".join(shown(str(name)) for name in list(content)[:6]) or "nothing"
        raise WeightsError(f"{path} holds no weights under {entry!r}. It holds: {listed}.")

    size = path.stat().st_size
    claimed = sum(tensor.count * tensor.storage.dtype.itemsize for tensor in tensors.values())
    if claimed > size:
        raise WeightsError(f"{path} claims {claimed} bytes of weights, but the file has {size}. Get it again.")
    return {name: _tensor(archive, folder, name, tensor) for name, tensor in tensors.items()}


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    info = archive.getinfo(name)
    # torch stores without compression, so compressed members can only be there to swell.
    if info.compress_type != zipfile.ZIP_STORED:
        raise Refused(f"{shown(name)} is compressed")
    if info.file_size > limit:
        raise Refused(f"{shown(name)} has {info.file_size} bytes, more than {limit}")
    return archive.read(info)


def _tensor(archive: zipfile.ZipFile, folder: str, name: str, described: _Tensor) -> torch.Tensor:
    storage = described.storage
    expected = storage.size
    data = _member(archive, f"{folder}/data/{storage.key}", expected)
    if len(data) < expected:
        raise WeightsError(
            f"The checkpoint holds {len(data)} bytes of {shown(name)}, expected {expected}. Get it again."
        )
    if described.count == 0:
        return torch.empty(described.size, dtype=storage.dtype)
    flat = torch.frombuffer(bytearray(data), dtype=storage.dtype)
    return flat.as_strided(described.size, described.stride, described.offset).clone()


def _described(arguments: Any) -> _Tensor:
    match arguments:
        case (Storage() as storage, int(offset), tuple(size), tuple(stride), *_):
            whole = all(type(number) is int and number >= 0 for number in (offset, *size, *stride))
            if whole and len(size) == len(stride) <= 8:
                tensor = _Tensor(storage, offset, size, stride)
                last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
                if tensor.count == 0 or (last < storage.count and tensor.count <= storage.count):
                    return tensor
    raise Refused("it describes a tensor that does not fit its storage")


def _check_keys(keys: list[Any]) -> None:
    # Hashing a tuple that is nested a million deep would exhaust the C stack.
    for key in keys:
        if not isinstance(key, str | int | float | None):
            raise Refused(f"it uses a {type(key).__name__.lstrip('_')} as a key")
