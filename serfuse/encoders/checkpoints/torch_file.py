"""Reads files of torch.save with this package's own reader, so that what is checked is what is loaded.

`torch.load(weights_only=True)` runs nothing that a file names, but it believes what a file claims, and its reader of
zip archives is another one than Python's: a file that begins as one format and ends as the other, or that has two
directories, is two different checkpoints to the two, and a check by the one says nothing about the other. Here one
reader does both. Nothing of torch's own deserialisation, in C++ or in Python, sees a byte of the file: the pickle goes
through a table of opcodes that only describe, and numbers are copied into memory whose size was compared with the bytes
that are there. Imports torch: for family files only.
"""

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from ...errors import WeightsError
from ..checks import shown
from .restricted_unpickler import IGNORED, MAX_PICKLE, WEIGHTS, Described, Reader, Refused, Storage

_LOCAL, _DESCRIPTOR, _END = b"PK\x03\x04", b"PK\x07\x08", b"PK\x05\x06"
_END_64, _LOCATOR_64 = b"PK\x06\x06", b"PK\x06\x07"
_LOCAL_SIZE, _END_SIZE, _END_64_SIZE, _LOCATOR_64_SIZE = 30, 22, 56, 20
_DESCRIPTOR_SIZES = (16, 24)  # with lengths of four or of eight bytes
_HAS_DESCRIPTOR = 0x0008
_MAX_MEMBERS = 100_000  # one for each tensor; mms-1b has under a thousand

_LEGACY_MAGIC, _LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001  # torch wrote so before 1.6


class TorchFile:
    """A file of torch.save that is open and looked through.

    Attributes:
        content: what it holds, with `Described` in the place of tensors and nothing of objects that are not needed.
        size: bytes of the file.
    """

    def __init__(self, content: Any, size: int, read: Callable[[Storage, memoryview], None]) -> None:
        self.content = content
        self.size = size
        self._read = read
        self._storages: dict[str, torch.Tensor] = {}

    def tensors(self, state: Mapping[str, Described]) -> dict[str, torch.Tensor]:
        """The tensors themselves, on the CPU. Those on one storage share its memory, as in the file.

        Raises:
            ValueError: the numbers are damaged.
        """
        with _one_error():
            return {name: self._tensor(described) for name, described in state.items()}

    def _tensor(self, described: Described) -> torch.Tensor:
        storage = described.storage
        if described.count == 0:
            return torch.empty(described.size, dtype=storage.dtype)
        if storage.key not in self._storages:
            raw = torch.empty(storage.size, dtype=torch.uint8)
            self._read(storage, memoryview(raw.numpy()))
            self._storages[storage.key] = raw
        flat = self._storages[storage.key].view(storage.dtype)
        return flat.as_strided(described.size, described.stride, described.offset)


@contextmanager
def open_torch_file(path: Path, names: Collection[str] = WEIGHTS) -> Iterator[TorchFile]:
    """Open a file of torch.save, in its zip format or the one before, and read its pickles without building anything.

    Args:
        path: of the file, which is opened once.
        names: those that its pickle may mention.

    Raises:
        ValueError: it names more than weights need, is compressed, claims more than it holds, has bytes that belong to
            no part of it, or is damaged.
        WeightsError: it is no regular file.
    """
    # Without waiting: the opening of a pipe that nobody writes to never ends.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise WeightsError(f"{path} is no regular file, expected a checkpoint.")
        with _one_error():
            zipped = stream.read(4) == _LOCAL
            stream.seek(0)
            file = (_from_archive if zipped else _from_legacy)(stream, status.st_size, names)
        yield file


@contextmanager
def _one_error() -> Iterator[None]:
    """Make a ValueError of whatever a damaged or made-up file raises inside the machine.

    That is IndexError, KeyError (an opcode that is not in the table), EOFError, UnicodeDecodeError, TypeError ...
    """
    try:
        yield
    except Refused as error:
        raise ValueError(f"{error}, which weights have no need of; nothing in it was run") from error
    except Exception as error:
        raise ValueError(f"it is truncated or damaged: {type(error).__name__}: {shown(str(error))}") from error


def read_checkpoint(path: Path, entry: str = "model") -> dict[str, torch.Tensor]:
    """The tensors of one entry of a training checkpoint (or of a bare state dict), on the CPU.

    Settings and counters beside the weights may be objects of the classes in `IGNORED`; none of them is built.

    Args:
        path: of a file of torch.save.
        entry: key of the state dict within the checkpoint; the others are not read.

    Raises:
        WeightsError: it could not be read, asks for more than weights need, or is without `entry`.
    """
    advice = (
        "Nothing in it was run. If you trust its source, load it there and save the state dict as safetensors; "
        "otherwise get the file again."
    )
    try:
        with open_torch_file(path, WEIGHTS | IGNORED) as file:
            return file.tensors(_entry(path, file, entry))
    except (ValueError, OSError) as error:
        raise WeightsError(f"{path} was refused as a checkpoint: {error}. {advice}") from error


def _entry(path: Path, file: TorchFile, entry: str) -> dict[str, Described]:
    content = file.content
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__.lstrip('_')}, expected a dict of weights.")
    state = content.get(entry, content)
    if not isinstance(state, dict):
        state = {}
    described = {name: value for name, value in state.items() if isinstance(name, str) and isinstance(value, Described)}
    if not described or len(described) < len(state):
        listed = ", ".join(shown(str(name)) for name in list(content)[:6]) or "nothing"
        raise WeightsError(f"{path} holds no weights under {entry!r}. It holds: {listed}.")
    claimed = sum(tensor.count * tensor.storage.dtype.itemsize for tensor in described.values())
    if claimed > file.size:
        raise WeightsError(f"{path} claims {claimed} bytes of weights, but the file has {file.size}. Get it again.")
    return described


# --- the zip format -----------------------------------------------------------------------------------------


def _from_archive(stream: IO[bytes], size: int, names: Collection[str]) -> TorchFile:
    archive, places = _members(stream, size)
    pickles = [name for name in archive if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise EOFError(f"a zip archive, but not of torch.save: it holds {len(pickles)} data.pkl")
    folder = pickles[0].partition("/")[0]

    def read(name: str, into: memoryview) -> None:
        stream.seek(places[name])
        _fill(stream, into)
        if zlib.crc32(into) != archive[name].CRC:
            raise ValueError(f"the numbers of {shown(name)} are not those that were written")

    def whole(name: str, limit: int) -> bytes:
        length = archive[name].file_size
        if length > limit:
            raise Refused(f"its pickle has {length} bytes, more than {limit}")
        content = bytearray(length)
        read(name, memoryview(content))
        return bytes(content)

    order = f"{folder}/byteorder"
    if order in archive and whole(order, 16) != b"little":
        raise ValueError("it was written on a big-endian machine, which is not supported")
    reader = Reader(io.BytesIO(whole(pickles[0], MAX_PICKLE)), names)
    content = reader.load()
    for storage in reader.storages:
        member = archive.get(f"{folder}/data/{storage.key}")
        if member is None or member.file_size != storage.size:
            held = 0 if member is None else member.file_size
            raise Refused(f"it claims {storage.size} bytes under data/{shown(storage.key)} and holds {held}")
    return TorchFile(content, size, lambda storage, into: read(f"{folder}/data/{storage.key}", into))


def _members(stream: IO[bytes], size: int) -> tuple[dict[str, zipfile.ZipInfo], dict[str, int]]:
    """The members by name, and where the bytes of each begin. Together they are the whole file, without a gap.

    What stands in a gap, before the first member or behind the end record could be another archive to another reader.
    """
    directory = _directory(stream, size)
    with zipfile.ZipFile(stream) as archive:
        if archive.start_dir != directory:
            raise Refused("it has two directories")
        listed = archive.infolist()
    if len(listed) > _MAX_MEMBERS:
        raise Refused(f"it has {len(listed)} members, more than {_MAX_MEMBERS}")
    # torch looks names up by rules of its own, so that none may stand there twice.
    if len({member.filename.lower() for member in listed}) < len(listed):
        raise Refused("it holds a member twice")
    places, end = {}, 0
    for member in sorted(listed, key=lambda member: member.header_offset):
        # torch stores without compression, so compressed members can only be there to swell.
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise Refused(f"{shown(member.filename)} is compressed")
        end += _descriptor(stream, end, member.header_offset - end)
        stream.seek(member.header_offset)
        header = stream.read(_LOCAL_SIZE)
        if member.header_offset != end or len(header) < _LOCAL_SIZE or header[:4] != _LOCAL:
            raise Refused(f"there are bytes before {shown(member.filename)} that belong to no member")
        name, extra = struct.unpack("<HH", header[26:])
        if stream.read(name) != member.orig_filename.encode("utf-8") or header[8:10] != b"\0\0":
            raise Refused(f"{shown(member.filename)} is another member in its own header")
        places[member.filename] = end + _LOCAL_SIZE + name + extra
        end = places[member.filename] + member.file_size
    end += _descriptor(stream, end, directory - end)
    if end != directory:
        raise Refused("its members claim other bytes than the file has")
    return {member.filename: member for member in listed}, places


def _descriptor(stream: IO[bytes], place: int, gap: int) -> int:
    """Bytes of the data descriptor that stands in a gap behind a member, 0 where there is none."""
    if place and gap in _DESCRIPTOR_SIZES:
        stream.seek(place)
        return gap if stream.read(4) == _DESCRIPTOR else 0
    return 0


def _directory(stream: IO[bytes], size: int) -> int:
    """Where the one directory begins that the last bytes of the file name."""
    tail = _END_SIZE + _LOCATOR_64_SIZE + _END_64_SIZE
    stream.seek(max(0, size - tail))
    data = stream.read(tail).rjust(tail, b"\0")
    end_64, locator, end = data[:_END_64_SIZE], data[_END_64_SIZE:-_END_SIZE], data[-_END_SIZE:]
    if end[:4] != _END or end[-2:] != b"\0\0":
        raise EOFError("its last bytes are no end of a zip archive, or more stands behind it")
    length, start = struct.unpack("<LL", end[12:20])
    behind = _END_SIZE
    if locator[:4] == _LOCATOR_64:
        behind = tail
        long_length, long_start = struct.unpack("<QQ", end_64[40:56])
        (record,) = struct.unpack("<Q", locator[8:16])
        told = (length in (long_length, 0xFFFFFFFF), start in (long_start, 0xFFFFFFFF), record == size - tail)
        if end_64[:4] != _END_64 or not all(told):
            raise Refused("it has two directories")
        length, start = long_length, long_start
    if start + length + behind != size:
        raise Refused("it has two directories, or bytes that belong to no member")
    return start


# --- the format before ---------------------------------------------------------------------------------------


def _from_legacy(stream: IO[bytes], size: int, names: Collection[str]) -> TorchFile:
    bounded = _Bounded(stream, MAX_PICKLE)

    def load() -> Any:
        return Reader(bounded, names).load()

    if load() != _LEGACY_MAGIC or load() != _LEGACY_VERSION:
        raise ValueError("it is no file of torch.save")
    machine = load()
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("it was written on a big-endian machine, which is not supported")
    reader = Reader(bounded, names)
    content = reader.load()
    described = {storage.key: storage for storage in reader.storages}
    if any(described[storage.key] != storage for storage in reader.storages):
        raise Refused("it describes a storage in two ways")
    claimed = sum(storage.size for storage in described.values())
    if claimed > size:
        raise Refused(f"it claims {claimed} bytes of weights and has {size}")
    keys = load()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(described):
        raise Refused("it lists other storages than it describes")
    places, end = {}, stream.tell()
    for key in keys:
        stream.seek(end)
        count = struct.unpack("<q", stream.read(8))[0]
        if count != described[key].count:
            raise Refused(f"it claims {described[key].count} numbers under {shown(key)} and holds {count}")
        places[key] = end + 8
        end = places[key] + described[key].size
    if end != size:
        raise Refused(f"its weights end at byte {end}, and it has {size}")

    def read(storage: Storage, into: memoryview) -> None:
        stream.seek(places[storage.key])
        _fill(stream, into)

    return TorchFile(content, size, read)


class _Bounded:
    """The beginning of a stream; asking for more is an error."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream, self._left = stream, limit

    def read(self, size: int) -> bytes:
        return self._counted(self._stream.read(min(size, self._left + 1)))

    def readline(self) -> bytes:
        return self._counted(self._stream.readline(self._left + 1))

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise Refused(f"its pickle has more than {MAX_PICKLE} bytes")
        return data


def _fill(stream: IO[bytes], into: memoryview) -> None:
    done = 0
    while done < len(into):
        count = stream.readinto(into[done:])
        if not count:
            raise EOFError(f"it ends {len(into) - done} bytes too early")
        done += count
