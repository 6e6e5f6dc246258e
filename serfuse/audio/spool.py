"""Open streams and waveforms as what the readers of files take, so that every check of a file is made of them too."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from ..errors import AudioError
from . import RATES

MAX_STREAM_BYTES = 2**29
"""Most bytes that are taken from a stream, or that a waveform may have: ten minutes of 48 kHz stereo take 230 MB."""

_BLOCK = 1 << 20
# Sample types that libsndfile writes as they are; others are converted to one of them without loss where possible.
_SUBTYPES = {"int16": "PCM_16", "int32": "PCM_32", "float32": "FLOAT"}


class Spooled(os.PathLike[str]):
    """A nameless file in memory. It is opened by its path and called by its name in messages."""

    def __init__(self, path: str, name: str) -> None:
        self._path, self._name = path, name

    def __fspath__(self) -> str:
        return self._path

    def __str__(self) -> str:
        return self._name


@contextmanager
def spooled(stream: BinaryIO, name: str) -> Iterator[Spooled]:
    """Give what is left of a binary stream as a file for `serfuse.audio.read` and `info` inside the block.

    The stream is read to its end and not closed; it need not be seekable.

    Args:
        stream: anything with `read(size) -> bytes`.
        name: what messages call it.

    Raises:
        AudioError: more than `MAX_STREAM_BYTES` bytes, no binary stream, or it cannot be read or held.
    """
    with _memory(name) as (file, path):
        total = 0
        while block := _block(stream, name):
            total += len(block)
            if total > MAX_STREAM_BYTES:
                raise AudioError(
                    f"{name}: longer than {MAX_STREAM_BYTES} bytes, which is the most that is read from a stream. "
                    "Give utterances, or a file."
                )
            _write(file, block, name)
        yield Spooled(path, name)


@contextmanager
def spooled_waveform(waveform: np.ndarray, sample_rate: int, name: str) -> Iterator[Spooled]:
    """Give a waveform as a file for `serfuse.audio.read` and `info` inside the block; its samples stay what they are.

    Args:
        waveform: `(samples,)` or `(samples, channels)`. Floating point with full scale 1, or int16, int32, int8 or
            uint8 (whose middle is 128), whose full scale is that of the type.
        sample_rate: Hz.
        name: what messages call it.

    Raises:
        AudioError: another shape, type or rate, or more than `MAX_STREAM_BYTES` bytes.
    """
    import soundfile

    samples = _samples(waveform, name)
    rate = _rate(sample_rate, name)
    with _memory(name) as (file, path):
        try:
            with soundfile.SoundFile(
                file,
                "w",
                samplerate=rate,
                channels=1 if samples.ndim == 1 else samples.shape[1],
                subtype=_SUBTYPES[samples.dtype.name],
                format="WAV",
            ) as sound:
                sound.write(samples)
        except (OSError, soundfile.LibsndfileError) as error:
            raise AudioError(f"{name}: cannot be held in memory: {error}.") from None
        yield Spooled(path, name)


def _samples(waveform: Any, name: str) -> np.ndarray:
    array = np.asarray(waveform)
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= max(2, len(array))):
        raise AudioError(
            f"{name}: expected a waveform of shape (samples,) or (samples, channels), received {array.shape}."
        )
    if array.nbytes > MAX_STREAM_BYTES:
        raise AudioError(f"{name}: a waveform of {array.nbytes} bytes; at most {MAX_STREAM_BYTES} are taken.")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # becomes infinite, which the reader refuses by name
            return array.astype(np.float32)
    if array.dtype == np.int8:
        return array.astype(np.int16) * 256
    if array.dtype == np.uint8:
        return (array.astype(np.int16) - 128) * 256
    if array.dtype.name in ("int16", "int32"):  # of any byte order
        return array.astype(array.dtype.name)
    raise AudioError(
        f"{name}: expected samples of a floating-point type, int16, int32, int8 or uint8, received {array.dtype}: its "
        "full scale is unknown. Divide by it and give float32."
    )


def _rate(sample_rate: Any, name: str) -> int:
    low, high = RATES
    try:
        rate = int(sample_rate)
        if rate == sample_rate and low <= rate <= high:
            return rate
    except (TypeError, ValueError, OverflowError):
        pass
    raise AudioError(f"{name}: expected a sample rate of {low} to {high} Hz, a whole number; received {sample_rate!r}.")


def _block(stream: BinaryIO, name: str) -> bytes:
    try:
        block = stream.read(_BLOCK)
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise AudioError(f"{name}: cannot be read: {error}.") from None
    if not isinstance(block, bytes | bytearray | memoryview):
        raise AudioError(
            f"{name}: expected a stream that gives bytes, received {type(block).__name__}. Open it in binary mode."
        )
    return bytes(block)


def _write(file: BinaryIO, block: bytes, name: str) -> None:
    try:
        file.write(block)
    except OSError as error:
        raise AudioError(f"{name}: cannot be held in memory: {error.strerror or error}.") from None


@contextmanager
def _memory(name: str) -> Iterator[tuple[BinaryIO, str]]:
    """Open an unbuffered file in memory, and a path to it; a temporary file where the system has none in memory."""
    try:
        if hasattr(os, "memfd_create"):
            number = os.memfd_create("serfuse")
            file, path = open(number, "w+b", buffering=0), f"/proc/self/fd/{number}"  # noqa: SIM115
        else:
            file = tempfile.NamedTemporaryFile(prefix="serfuse-", buffering=0)  # noqa: SIM115
            path = file.name
    except OSError as error:
        raise AudioError(f"{name}: cannot be held in memory: {error.strerror or error}.") from None
    with file:
        yield file, path
