"""Audio files to mono float32 waveforms at a given rate."""

import hashlib
import math
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ..errors import AudioError
from .decoding import Decoder, decoder
from .quality import Meter, Remark

MAX_SECONDS = 600.0
"""Longest piece of audio that is decoded unless told otherwise, in seconds."""

# A segment may end this much after the file: label files round their times to 10 ms or so.
_END_SLACK = 0.05
# Bytes from which on a file that is no audio is not hashed as a whole, and those hashed at each of its ends then.
_LARGE, _END = 64 * 2**20, 2**20


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says.

    Attributes:
        seconds: length in seconds.
        sample_rate: in Hz.
        channels: number of channels.
        notes: what is wrong with the file without being in the way of reading it, in words that follow its name.
    """

    seconds: float
    sample_rate: int
    channels: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recording:
    """A decoded clip, and what was noticed on the way.

    Attributes:
        waveform: float32 `(samples,)`, mono at `sample_rate`.
        sample_rate: of the waveform in Hz.
        remarks: what is odd about the audio or its file; see `serfuse.audio.quality`.
        sound: SHA-256 of the decoded mono samples at the file's own rate, and of that rate, as 64 hexadecimal digits:
            the same for copies that differ in a header or in a lossless container only.
    """

    waveform: np.ndarray
    sample_rate: int
    remarks: tuple[Remark, ...]
    sound: str


def info(path: str | os.PathLike[str]) -> AudioInfo:
    """Read length, rate and channels of a file, from its header: nothing is decoded.

    Raises:
        AudioError: the file is missing, not a file, empty, not audio, damaged or truncated.
    """
    with _opened(path) as sound:
        return _info(sound)


def identify(path: str | os.PathLike[str]) -> tuple[AudioInfo | AudioError, str]:
    """Compute what `info` and `content_hash` do, opening the file once.

    Returns:
        what its header says and the hash of its content; of a file that is no audio, why, and its `sampled_hash`.

    Raises:
        AudioError: the file is missing, not a file or unreadable.
    """
    with _regular_file(path) as file:
        # Whether it is audio is asked first: what is none, however large, is not worth reading as a whole.
        try:
            about: AudioInfo | AudioError = _info(decoder(path, file, os.fstat(file.fileno()).st_size))
        except AudioError as error:
            return error, _sampled(path, file)
        return about, _content(path, file)


def _info(sound: Decoder) -> AudioInfo:
    return AudioInfo(sound.frames / sound.sample_rate, sound.sample_rate, sound.channels, sound.notes)


def read(
    path: str | os.PathLike[str],
    sample_rate: int,
    *,
    start: float | None = None,
    end: float | None = None,
    max_seconds: float = MAX_SECONDS,
) -> np.ndarray:
    """Read one file, or a segment of one, as a mono waveform at `sample_rate`.

    The format is told from the content, never from the extension. Channels are averaged; resampling is soxr's
    high quality. The samples keep the file's scale (full scale of an integer format is 1).

    Args:
        path: any file libsndfile reads (wav, flac, ogg, opus, mp3, aiff, au, sphere, ...), and with the extra `codecs`
            what FFmpeg reads (m4a, webm, amr, wma, ...). Joined recordings are read one behind the other.
        sample_rate: rate of the result in Hz.
        start: first second of the segment, `None` for the beginning.
        end: last second of the segment, `None` for the end of the file.
        max_seconds: longest piece that is decoded. Checked before decoding, which goes block by block, so that
            memory stays within that of the result whatever a header claims.

    Returns:
        float32 array of shape `(samples,)`, finite and not constant.

    Raises:
        AudioError: the file is missing, a folder, empty, not audio, damaged, truncated (its header promises more
            samples than there are), of length zero, too long, silent (all samples are equal) or holds NaN or
            infinite samples; or the segment lies outside of the file.
        ValueError: `sample_rate` or `max_seconds` is not positive.
    """
    return read_recording(path, sample_rate, start=start, end=end, max_seconds=max_seconds).waveform


def read_recording(
    path: str | os.PathLike[str],
    sample_rate: int,
    *,
    start: float | None = None,
    end: float | None = None,
    max_seconds: float = MAX_SECONDS,
) -> Recording:
    """Read one file, or a segment of one, as `read` gives it, with what was noticed in decoding it once.

    Raises:
        AudioError, ValueError: as in `read`.
    """
    found = read_recordings(path, [sample_rate], start=start, end=end, max_seconds=max_seconds)[sample_rate]
    if isinstance(found, AudioError):
        raise found
    return found


def read_recordings(
    path: str | os.PathLike[str],
    sample_rates: Iterable[int],
    *,
    start: float | None = None,
    end: float | None = None,
    max_seconds: float = MAX_SECONDS,
) -> dict[int, Recording | AudioError]:
    """Read one file, or a segment of one, at several rates, decoding it once.

    Args:
        sample_rates: in Hz.
        path, start, end, max_seconds: as in `read`.

    Returns:
        for each rate the waveform that `read_recording` gives, to the last digit, or the reason why there is none at
        this rate. The remarks are made at the first rate that has one.

    Raises:
        AudioError, ValueError: as in `read`, where it concerns every rate.
    """
    rates = list(dict.fromkeys(sample_rates))
    for sample_rate in rates:
        if sample_rate <= 0:
            raise ValueError(f"sample_rate must be positive, got {sample_rate}.")
    if not max_seconds > 0:
        raise ValueError(f"max_seconds must be positive, got {max_seconds}.")
    with _opened(path) as sound:
        rate = sound.sample_rate
        if sound.frames == 0:
            raise AudioError(f"{path}: has a header but no samples (length zero). Record or copy it again.")
        first, count = _segment(path, sound, start, end)
        if count > max_seconds * rate:
            raise AudioError(
                f"{path}: too long: {count / rate:.1f} s, at most {max_seconds:g} s are read. Cut it into "
                "utterances, or give start and end in a table."
            )
        made = _Resampled(rate, rates)
        low, high, seen = math.inf, -math.inf, 0
        meter = Meter()
        digest = hashlib.sha256(f"{rate}:".encode())
        for block in sound.blocks(first, count):
            with np.errstate(over="ignore", invalid="ignore"):
                mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
            if not np.isfinite(mono).all():
                raise AudioError(f"{path}: holds NaN or infinite samples. Export the file again.")
            low, high, seen = min(low, float(mono.min())), max(high, float(mono.max())), seen + len(mono)
            meter.add(block, mono)
            digest.update(np.ascontiguousarray(mono, dtype="<f4") + np.float32(0))  # -0 is 0
            made.add(mono)
    if low == high:
        mixed = f" after averaging its {sound.channels} channels" if sound.channels > 1 else ""
        raise AudioError(f"{path}: silent: all {seen} samples are {low:g}{mixed}. Leave it out.")
    notes = tuple(Remark("file", note) for note in sound.notes)
    sound_id = digest.hexdigest()
    found: dict[int, Recording | AudioError] = {}
    remarks: tuple[Remark, ...] | None = None
    for to in rates:
        waveform = made.at(to)
        if len(waveform) == 0:
            found[to] = AudioError(f"{path}: too short: {seen} samples at {rate} Hz are none at {to} Hz.")
        elif to != rate and not np.isfinite(waveform).all():
            found[to] = AudioError(f"{path}: its samples are too large to resample (up to {max(-low, high):.3g}).")
        else:
            remarks = notes + meter.remarks(waveform, to) if remarks is None else remarks
            found[to] = Recording(waveform, to, remarks, sound_id)
    return found


class _Resampled:
    """Blocks of a mono recording as one waveform at each of several rates.

    Args:
        rate: of the blocks in Hz.
        rates: that are asked for, in Hz.
    """

    def __init__(self, rate: int, rates: Sequence[int]) -> None:
        self._rate, self._rates = rate, rates
        self._blocks: list[np.ndarray] = []  # at the rate that they have; all of them only where it is asked for
        self._streams: dict[int, Any] = {}
        self._pieces: dict[int, list[np.ndarray]] = {}

    def add(self, mono: np.ndarray) -> None:
        """Take the next block, float32 `(samples,)`."""
        import soxr

        if self._blocks and not self._streams:
            others = [to for to in self._rates if to != self._rate]
            self._streams = {to: soxr.ResampleStream(self._rate, to, 1, "float32", "HQ") for to in others}
            self._pieces = {to: [stream.resample_chunk(self._blocks[0])] for to, stream in self._streams.items()}
        for to, stream in self._streams.items():
            self._pieces[to].append(stream.resample_chunk(mono))
        if self._rate in self._rates or not self._blocks:
            self._blocks.append(mono)

    def at(self, rate: int) -> np.ndarray:
        """The whole, float32 `(samples,)`, at one of the rates; asked once for each, after the last block."""
        if not self._blocks:
            return np.zeros(0, np.float32)
        if rate == self._rate:
            return self._blocks[0] if len(self._blocks) == 1 else np.concatenate(self._blocks)
        if rate in self._streams:
            last = self._streams[rate].resample_chunk(np.zeros(0, np.float32), last=True)
            return np.concatenate([*self._pieces[rate], last])
        return resample(self._blocks[0], self._rate, rate)  # in one go: the same digits in half of the time


def resample(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample a mono waveform to another rate (soxr, high quality), float32 `(samples,)`."""
    import soxr

    waveform = np.asarray(waveform, dtype=np.float32)
    if from_rate == to_rate:
        return waveform
    return soxr.resample(waveform, from_rate, to_rate, "HQ")


def content_hash(path: str | os.PathLike[str]) -> str:
    """Compute the SHA-256 of the bytes of a file, as 64 hexadecimal digits. The file is streamed, not held in memory.

    Raises:
        AudioError: the file is missing, not a file or unreadable.
    """
    with _regular_file(path) as file:
        return _content(path, file)


def _content(path: str | os.PathLike[str], file: BinaryIO) -> str:
    try:
        file.seek(0)
        if os.fstat(file.fileno()).st_size <= _END:  # without the large buffer that streaming takes
            return hashlib.sha256(file.read()).hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror or error}.") from None


def sampled_hash(path: str | os.PathLike[str]) -> str:
    """Identify a file that is no audio, by `content_hash`, or for a large file that of its size and its two ends.

    Raises:
        AudioError: the file is missing, not a file or unreadable.
    """
    with _regular_file(path) as file:
        return _sampled(path, file)


def _sampled(path: str | os.PathLike[str], file: BinaryIO) -> str:
    size = os.fstat(file.fileno()).st_size
    if size <= _LARGE:
        return _content(path, file)
    digest = hashlib.sha256(f"{size} bytes:".encode())
    for offset in (0, size - _END):
        file.seek(offset)
        digest.update(file.read(_END))
    return digest.hexdigest()


# -- opening, checking, decoding ---------------------------------------------------------------------------


@contextmanager
def _regular_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open the file, once it is known to be an ordinary file (opening a pipe would wait for ever)."""
    try:
        _check_ordinary(path, os.stat(path).st_mode)
        # Should a pipe have taken its place meanwhile, opening it does not wait either.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = open(path, "rb", buffering=0, opener=lambda name, _: os.open(name, flags))  # noqa: SIM115
    except FileNotFoundError:
        raise AudioError(f"{path}: there is no such file. Check the path.") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise AudioError(f"{path}: cannot be opened: {reason}.") from None
    with file:
        _check_ordinary(path, os.fstat(file.fileno()).st_mode)
        yield file


def _check_ordinary(path: str | os.PathLike[str], mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise AudioError(f"{path}: is a folder, expected an audio file.")
    if not stat.S_ISREG(mode):
        raise AudioError(f"{path}: is a pipe or a device, expected an audio file.")


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Decoder]:
    """Choose the decoder of a file, after every check that needs the header only."""
    with _regular_file(path) as file:
        yield decoder(path, file, os.fstat(file.fileno()).st_size)


def _segment(
    path: Any,
    sound: Decoder,
    start: float | None,
    end: float | None,
) -> tuple[int, int]:
    """Compute the first frame and the number of frames to decode."""
    seconds = sound.frames / sound.sample_rate
    for name, value in (("start", start), ("end", end)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise AudioError(f"{path}: {name} is {value}, expected seconds from 0 on.")
    first = 0 if start is None else round(start * sound.sample_rate)
    last = sound.frames if end is None else round(end * sound.sample_rate)
    if start is not None and end is not None and last <= first:
        raise AudioError(f"{path}: the segment {start} to {end} s is empty, expected start < end.")
    if (start is not None and first >= sound.frames) or (end is not None and end > seconds + _END_SLACK):
        raise AudioError(
            f"{path}: the segment {0 if start is None else start} to {'the end' if end is None else end} s "
            f"reaches beyond the file, which lasts {seconds:.3f} s."
        )
    return first, min(last, sound.frames) - first
