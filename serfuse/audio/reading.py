"""Audio files to mono float32 waveforms at a given rate."""

import hashlib
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..errors import AudioError

if TYPE_CHECKING:
    from soundfile import SoundFile

MAX_SECONDS = 600.0
"""Longest piece of audio that is decoded unless told otherwise, in seconds."""

RATES = (1_000, 768_000)
"""Lowest and highest sample rate a file may claim, in Hz; a header outside is damaged or not speech."""

# A segment may end this much after the file: label files round their times to 10 ms or so.
_END_SLACK = 0.05
# Interleaved samples decoded at a time. Bounds memory for files of many channels.
_BLOCK = 1 << 20
# What programs that write to a pipe, not knowing the length, put into a WAV header for it.
_UNKNOWN_SIZE = 0x7FFFF000
# libsndfile says so for a length that its format does not state.
_UNKNOWN_FRAMES = 1 << 62
# An MP3's length is an estimate of its decoder, good to its padding (two frames of 1152 samples).
_MP3_SLACK = 2304
# libsndfile's own words, in its header log, for an audio chunk that is longer than the file.
_CUT_CHUNK = re.compile(r"^\s*(?:data|SSND|BODY|riff|Data Size|Data length)\s*:?\s*(\d+) \(?should be (\d+)", re.M)
_CUT_RF64 = re.compile(r"frame count \d+ does not match value from 'ds64' chunk of (\d+)")
_SPHERE_COUNT = re.compile(rb"^sample_count -i (\d+)", re.M)
# Longest page of an Ogg stream in bytes, and the flag of its last one (RFC 3533, section 6).
_OGG_PAGE = 65_307
_OGG_END = 4


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says.

    Attributes:
        seconds: length in seconds.
        sample_rate: in Hz.
        channels: number of channels.
    """

    seconds: float
    sample_rate: int
    channels: int


def info(path: str | os.PathLike[str]) -> AudioInfo:
    """Length, rate and channels of a file, from its header: nothing is decoded.

    Raises:
        AudioError: the file is missing, not a file, empty, not audio, damaged or truncated.
    """
    with _opened(path) as sound:
        return AudioInfo(sound.frames / sound.samplerate, sound.samplerate, sound.channels)


def read(
    path: str | os.PathLike[str],
    sample_rate: int,
    *,
    start: float | None = None,
    end: float | None = None,
    max_seconds: float = MAX_SECONDS,
) -> np.ndarray:
    """One file, or a segment of one, as a mono waveform at `sample_rate`.

    The format is told from the content, never from the extension. Channels are averaged; resampling is soxr's
    high quality. The samples keep the file's scale (full scale of an integer format is 1).

    Args:
        path: any file libsndfile reads (wav, flac, ogg, opus, mp3, aiff, au, sphere, ...).
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
    import soxr

    if sample_rate <= 0:
        raise ValueError(f"sample_rate must be positive, got {sample_rate}.")
    if not max_seconds > 0:
        raise ValueError(f"max_seconds must be positive, got {max_seconds}.")
    with _opened(path) as sound:
        rate = sound.samplerate
        if sound.frames == 0:
            raise AudioError(f"{path}: has a header but no samples (length zero). Record or copy it again.")
        first, count = _segment(path, sound, start, end)
        if count > max_seconds * rate:
            raise AudioError(
                f"{path}: too long: {count / rate:.1f} s, at most {max_seconds:g} s are read. Cut it into "
                "utterances, or give start and end in a table."
            )
        resampler = None if rate == sample_rate else soxr.ResampleStream(rate, sample_rate, 1, "float32", "HQ")
        pieces: list[np.ndarray] = []
        low, high, seen = math.inf, -math.inf, 0
        for block in _blocks(path, sound, first, count):
            with np.errstate(over="ignore", invalid="ignore"):
                mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
            if not np.isfinite(mono).all():
                raise AudioError(f"{path}: holds NaN or infinite samples. Export the file again.")
            low, high, seen = min(low, float(mono.min())), max(high, float(mono.max())), seen + len(mono)
            pieces.append(mono if resampler is None else resampler.resample_chunk(mono))
        if resampler is not None:
            pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    if low == high:
        mixed = f" after averaging its {sound.channels} channels" if sound.channels > 1 else ""
        raise AudioError(f"{path}: silent: all {seen} samples are {low:g}{mixed}. Leave it out.")
    waveform = np.concatenate(pieces).astype(np.float32, copy=False)
    if len(waveform) == 0:
        raise AudioError(f"{path}: too short: {seen} samples at {rate} Hz are none at {sample_rate} Hz.")
    if not np.isfinite(waveform).all():
        raise AudioError(f"{path}: its samples are too large to resample (up to {max(-low, high):.3g}).")
    return waveform


def resample(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """A mono waveform at another rate (soxr, high quality), float32 `(samples,)`."""
    import soxr

    waveform = np.asarray(waveform, dtype=np.float32)
    if from_rate == to_rate:
        return waveform
    return soxr.resample(waveform, from_rate, to_rate, "HQ")


def content_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the bytes of a file, as 64 hexadecimal digits. The file is streamed, not held in memory.

    Raises:
        AudioError: the file is missing, not a file or unreadable.
    """
    with _regular_file(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise AudioError(f"{path}: cannot be read: {error.strerror or error}.") from None


# -- opening, checking, decoding ---------------------------------------------------------------------------


@contextmanager
def _regular_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """The file, opened, once it is known to be an ordinary file (opening a pipe would wait for ever)."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise AudioError(f"{path}: is a folder, expected an audio file.")
        if not stat.S_ISREG(mode):
            raise AudioError(f"{path}: is a pipe or a device, expected an audio file.")
        file = open(path, "rb", buffering=0)  # noqa: SIM115
    except FileNotFoundError:
        raise AudioError(f"{path}: there is no such file. Check the path and the corpus folder.") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise AudioError(f"{path}: cannot be opened: {reason}.") from None
    with file:
        yield file


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator["SoundFile"]:
    """The file as libsndfile sees it, after every check that needs the header only."""
    import soundfile

    with _regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise AudioError(f"{path}: is empty (0 bytes). Copy or download it again.")
        try:
            # By descriptor: by name, libsndfile and soundfile would trust extensions such as .raw or .gsm.
            sound = soundfile.SoundFile(file.fileno(), closefd=False)
        except soundfile.LibsndfileError as error:
            if error.code == 1:  # SF_ERR_UNRECOGNISED_FORMAT
                raise AudioError(
                    f"{path}: is not audio, or of a format libsndfile does not read (expected wav, flac, ogg, "
                    "mp3, aiff ...). Convert it first."
                ) from None
            # Where a header ends too early, libsndfile's words are about pipes: they would mislead.
            words = error.error_string.rstrip(".")
            reason = "it ends too early" if not words or "pipe" in words else words
            raise AudioError(f"{path}: has a damaged header: {reason}. Copy or download it again.") from None
        with sound:
            low, high = RATES
            if not low <= sound.samplerate <= high:
                raise AudioError(
                    f"{path}: has a damaged header: a sample rate of {sound.samplerate} Hz, expected {low} to {high}."
                )
            if sound.frames >= _UNKNOWN_FRAMES:
                raise AudioError(
                    f"{path}: its header states no length (it was written to a pipe). Convert it to a file that does."
                )
            _refuse_cut(path, size, sound)
            yield sound


def _refuse_cut(path: str | os.PathLike[str], size: int, sound: "SoundFile") -> None:
    """Raise if the file is shorter than its own header or last page says.

    libsndfile mends this silently and gives the audio that is there; its header log is where it says so. It keeps
    silent about Sphere and Ogg files, which are looked at here. FLAC and MP3 show it in decoding (`_blocks`).
    """
    promised, there, unit = 0, sound.frames, "samples"
    if found := _CUT_CHUNK.search(sound.extra_info):
        promised, there, unit = int(found[1]), int(found[2]), "bytes"
        if promised >= _UNKNOWN_SIZE:
            return
    elif found := _CUT_RF64.search(sound.extra_info):
        promised = int(found[1])
    elif sound.format == "NIST":
        found = _SPHERE_COUNT.search(_bytes_at(path, 0, 1024))
        promised = int(found[1]) if found else 0
    elif sound.format == "OGG":
        tail = _bytes_at(path, max(0, size - _OGG_PAGE), _OGG_PAGE)
        page = tail.rfind(b"OggS")
        if page < 0 or not tail[page + 5] & _OGG_END:
            raise AudioError(f"{path}: truncated: its last page is missing. Copy or download it again.")
    if promised > there:
        raise AudioError(
            f"{path}: truncated: its header promises {promised} {unit} of audio, the file holds {there}. "
            "Copy or download it again."
        )


def _bytes_at(path: str | os.PathLike[str], offset: int, count: int) -> bytes:
    # A descriptor of its own: libsndfile keeps its place in the file by the one it was given.
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(count)


def _segment(
    path: str | os.PathLike[str],
    sound: "SoundFile",
    start: float | None,
    end: float | None,
) -> tuple[int, int]:
    """First frame and number of frames to decode."""
    seconds = sound.frames / sound.samplerate
    for name, value in (("start", start), ("end", end)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise AudioError(f"{path}: {name} is {value}, expected seconds from 0 on.")
    first = 0 if start is None else round(start * sound.samplerate)
    last = sound.frames if end is None else round(end * sound.samplerate)
    if start is not None and end is not None and last <= first:
        raise AudioError(f"{path}: the segment {start} to {end} s is empty, expected start < end.")
    if (start is not None and first >= sound.frames) or (end is not None and end > seconds + _END_SLACK):
        raise AudioError(
            f"{path}: the segment {0 if start is None else start} to {'the end' if end is None else end} s "
            f"reaches beyond the file, which lasts {seconds:.3f} s."
        )
    return first, min(last, sound.frames) - first


def _blocks(
    path: str | os.PathLike[str],
    sound: "SoundFile",
    first: int,
    count: int,
) -> Iterator[np.ndarray]:
    """Decoded blocks of float32 `(frames, channels)` from frame `first` on, `count` frames in all.

    Raises:
        AudioError: the decoder fails, or the audio ends before `count` frames.
    """
    import soundfile

    size = max(1, _BLOCK // sound.channels)
    done = 0
    try:
        if sound.seekable():
            sound.seek(first)
        else:
            while first and (skipped := len(sound.read(min(size, first), always_2d=True))):
                first -= skipped
        while done < count:
            block = sound.read(min(size, count - done), dtype="float32", always_2d=True)
            if len(block) == 0:
                break
            done += len(block)
            yield block
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".") or "the decoder gives no reason"
        raise AudioError(
            f"{path}: truncated or damaged: decoding failed after {done} samples ({reason}). Copy or download it again."
        ) from None
    slack = _MP3_SLACK if sound.format == "MP3" else 0
    if done < count - slack:
        raise AudioError(
            f"{path}: truncated: {count} samples were promised, {done} are there. Copy or download it again."
        )
