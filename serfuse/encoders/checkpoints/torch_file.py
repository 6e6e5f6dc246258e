"""Looks through a file of torch.save before torch opens it.

`torch.load(weights_only=True)` runs nothing that a file names, but it believes what a file claims: a compressed member
swells a thousandfold, and a key nested a million deep ends the process. Imports torch: for family files only.
"""

import io
import zipfile
from pathlib import Path
from typing import IO

from ..checks import shown
from .restricted_unpickler import MAX_PICKLE, WEIGHTS, Reader, Refused

_LEGACY_PICKLES = 4  # a magic number, a version, facts of the machine, the weights; torch wrote so before 1.6


def check_torch_file(path: Path) -> None:
    """Read a checkpoint's pickles without building anything, and compare the sizes it claims with the file's.

    Args:
        path: of a file of tensors by name, in torch's zip format or the one before.

    Raises:
        ValueError: it names more than weights need, is compressed, claims more than it holds, or is damaged.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _check_archive(archive, path.stat().st_size)
        else:
            with path.open("rb") as stream:
                _check_legacy(stream, path.stat().st_size)
    except Refused as error:
        raise ValueError(f"{error}, which weights have no need of; nothing in it was run") from error
    # Whatever a damaged or made-up pickle can raise inside the machine: IndexError, KeyError, EOFError ...
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {shown(str(error))}") from error


def _check_archive(archive: zipfile.ZipFile, size: int) -> None:
    members = {member.filename: member for member in archive.infolist()}
    # torch looks names up by rules of its own, so that none may stand there twice.
    if len({name.lower() for name in members}) < len(archive.infolist()):
        raise Refused("it holds a member twice")
    for name, member in members.items():
        # torch stores without compression, so compressed members can only be there to swell.
        if member.compress_type != zipfile.ZIP_STORED:
            raise Refused(f"{shown(name)} is compressed")
    if sum(member.file_size for member in members.values()) > size:
        raise Refused("its members claim more bytes than the file has")
    pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise EOFError(f"a zip archive, but not of torch.save: it holds {len(pickles)} data.pkl")
    if members[pickles[0]].file_size > MAX_PICKLE:
        raise Refused(f"its pickle has {members[pickles[0]].file_size} bytes, more than {MAX_PICKLE}")
    reader = Reader(io.BytesIO(archive.read(pickles[0])), WEIGHTS)
    reader.load()
    folder = pickles[0].partition("/")[0]
    for storage in reader.storages:
        member = members.get(f"{folder}/data/{storage.key}")
        if member is None or member.file_size != storage.size:
            held = 0 if member is None else member.file_size
            raise Refused(f"it claims {storage.size} bytes under data/{shown(storage.key)} and holds {held}")


def _check_legacy(stream: IO[bytes], size: int) -> None:
    bounded = _Bounded(stream, MAX_PICKLE)
    for _ in range(_LEGACY_PICKLES):
        reader = Reader(bounded, WEIGHTS)
        reader.load()
    claimed = sum({storage.key: storage.size for storage in reader.storages}.values())
    if claimed > size:
        raise Refused(f"it claims {claimed} bytes of weights and has {size}")


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
