"""Reads the pickle of a torch checkpoint without ever running what the file names.

It never imports or calls anything on the file's word: a name in the pickle becomes a marker, only the exact names below
mean something, and every other one is an error. Tensors are described only; `torch_file` reads their numbers once the
claims about their size agree with the bytes that are there. Imports torch: for family files only.
"""

import math
import pickle
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import IO, Any, ClassVar

import torch

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

IGNORED = frozenset(
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
"""What settings and counters beside the weights are made of (Audio-Mamba's hold an `ml_collections` object, which
`torch.load(weights_only=True)` refuses). They are stepped over, not built."""
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
class Described:
    """A tensor as the pickle describes it; no memory has been set aside."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many numbers."""
        return math.prod(self.size)


class Refused(Exception):
    """The file asks for something that a checkpoint has no need of."""


class Reader(pickle._Unpickler):
    """The unpickler in Python: its memo cannot be made to claim memory, and its parts can be replaced.

    Attributes:
        storages: what the tensors of the file are said to be made of.
    """

    dispatch: ClassVar = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES}

    def __init__(self, stream: IO[bytes], admitted: Collection[str] = WEIGHTS | IGNORED) -> None:
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
            # Before torch 1.6 a sixth place followed, for views of a storage; since 0.4 there are none.
            case ("storage", _Global(name), str(key), str(), int(count), *views) if count >= 0 and not any(views):
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
        if name == _PARAMETER and isinstance(arguments, tuple) and arguments and isinstance(arguments[0], Described):
            return arguments[0]
        if name in IGNORED:
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


def _described(arguments: Any) -> Described:
    match arguments:
        case (Storage() as storage, int(offset), tuple(size), tuple(stride), *_):
            whole = all(type(number) is int and number >= 0 for number in (offset, *size, *stride))
            if whole and len(size) == len(stride) <= 8:
                tensor = Described(storage, offset, size, stride)
                last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
                if tensor.count == 0 or (last < storage.count and tensor.count <= storage.count):
                    return tensor
    raise Refused("it describes a tensor that does not fit its storage")


def _check_keys(keys: list[Any]) -> None:
    # Hashing a tuple that is nested a million deep would exhaust the C stack.
    for key in keys:
        if not isinstance(key, str | int | float | None):
            raise Refused(f"it uses a {type(key).__name__.lstrip('_')} as a key")
