"""An open file of audio as blocks of samples: by libsndfile, part by part, or by another decoder."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np

from ..errors import AudioError
from . import codecs, containers
from .containers import Layout, Part

if TYPE_CHECKING:
    from soundfile import SoundFile

RATES = (1_000, 768_000)
"""Lowest and highest sample rate a file may claim, in Hz; a header outside is damaged or not speech."""

BLOCK = 1 << 20
"""Interleaved samples decoded at a time. Bounds memory for files of many channels."""

# What programs that write to a pipe, not knowing the length, put into a header for it.
_UNKNOWN_SIZE = 0x7FFFF000
# libsndfile says so for a length that its format does not state.
_UNKNOWN_FRAMES = 1 << 62
# No recording that is read lasts longer, in seconds; counting samples that no header counts ends here.
_LONGEST = 24 * 3600
# An MP3's length is an estimate of its decoder, good to its padding (two frames of 1152 samples); by its frames it
# is longer by what the encoder put before and behind the audio.
_MP3_SLACK = 2304
_MP3_FILLING = 4608
# libsndfile's own words, in its header log, for an audio chunk that is longer than the file.
_CUT_CHUNK = re.compile(r"^\s*(?:data|SSND|BODY|riff|Data Size|Data length)\s*:?\s*(\d+) \(?should be (\d+)", re.M)
_CUT_RF64 = re.compile(r"frame count \d+ does not match value from 'ds64' chunk of (\d+)")
_SPHERE_COUNT = re.compile(rb"^sample_count -i (\d+)", re.M)
_WAVE = ("WAV", "WAVEX")
_COPY = "Copy or download it again."


class Decoder(Protocol):
    """An open file of audio.

    Attributes:
        sample_rate: in Hz.
        channels: number of channels.
        frames: samples per channel.
        format: libsndfile's name of the format, or the decoder's.
        notes: what is wrong with the file without being in the way of reading it, in words that follow its name.
    """

    sample_rate: int
    channels: int
    frames: int
    format: str
    notes: tuple[str, ...]

    def blocks(self, first: int, count: int) -> Iterator[np.ndarray]:
        """Decode blocks of float32 `(frames, channels)` from frame `first` on, `count` frames in all.

        Raises:
            AudioError: the decoder fails, or the audio ends before `count` frames.
        """


def decoder(path: Any, file: BinaryIO, size: int) -> Decoder:
    """Choose the decoder of an open file, after every check that needs the headers only.

    Args:
        path: the file's name, for messages.
        file: open as long as the decoder is used, can be moved in. A file with a descriptor is decoded faster.
        size: in bytes.

    Raises:
        AudioError: the file is empty, not audio, damaged, truncated, or of a format whose decoder is not installed.
    """
    if size == 0:
        raise AudioError(f"{path}: is empty (0 bytes). {_COPY}")
    shape = _layout(file, size)
    if len(shape.parts) > containers.MAX_PARTS:
        raise AudioError(
            f"{path}: holds more than {containers.MAX_PARTS} recordings joined to one file. Cut it into files."
        )
    if shape.cut:
        raise AudioError(f"{path}: truncated: {shape.cut}. {_COPY}")
    try:
        found: Decoder = _SndfileDecoder(path, file, size, shape)
    except _Unreadable as error:
        file.seek(0)
        kind = codecs.known(file.read(192))
        if kind is None:
            raise AudioError(str(error)) from None
        found = codecs.AvDecoder(path, file, kind)
    low, high = RATES
    if not low <= found.sample_rate <= high:
        raise AudioError(
            f"{path}: has a damaged header: a sample rate of {found.sample_rate} Hz, expected {low} to {high}."
        )
    return found


def _layout(file: BinaryIO, size: int) -> Layout:
    if not isinstance(file, io.RawIOBase):
        return containers.layout(file, size)
    # Many small reads. Without a buffer afterwards: libsndfile moves in the same file by its descriptor.
    buffered = io.BufferedReader(file, 1 << 16)
    try:
        return containers.layout(buffered, size)
    finally:
        buffered.detach()


class _Unreadable(AudioError):
    """libsndfile does not know the format; another decoder may."""


@dataclass(frozen=True)
class _Piece:
    """A part of a file, as libsndfile sees it."""

    part: Part
    frames: int
    sample_rate: int
    channels: int
    format: str
    seekable: bool


class _SndfileDecoder:
    """What libsndfile reads: one recording, or several joined ones, one behind the other."""

    def __init__(self, path: Any, file: BinaryIO, size: int, shape: Layout) -> None:
        self._path, self._file, self._size = path, file, size
        self._kept: SoundFile | None = None
        notes = list(shape.notes)
        self._pieces = [self._examine_counted(part, notes) for part in shape.parts]
        first = self._pieces[0]
        for piece in self._pieces:
            if piece.sample_rate != first.sample_rate or piece.channels != first.channels:
                raise AudioError(
                    f"{path}: holds recordings of different kinds joined to one file ({first.sample_rate} Hz with "
                    f"{first.channels} channels, {piece.sample_rate} Hz with {piece.channels}). Cut it into one file "
                    "per recording."
                )
        self.sample_rate, self.channels, self.format = first.sample_rate, first.channels, first.format
        self.frames = sum(piece.frames for piece in self._pieces)
        self.notes = tuple(dict.fromkeys(notes))

    def blocks(self, first: int, count: int) -> Iterator[np.ndarray]:
        for piece in self._pieces:
            here = min(count, piece.frames - first)
            if here > 0:
                yield from self._piece_blocks(piece, first, here)
                count -= here
            first = max(0, first - piece.frames)

    @contextmanager
    def _opened(self, part: Part) -> Iterator["SoundFile"]:
        sound, self._kept = self._kept or self._open(part), None
        with sound:
            yield sound

    def _open(self, part: Part) -> "SoundFile":
        import soundfile

        try:
            return soundfile.SoundFile(self._source(part), closefd=False)
        except soundfile.LibsndfileError as error:
            if error.code == 1:  # SF_ERR_UNRECOGNISED_FORMAT
                raise _Unreadable(
                    f"{self._path}: is not audio, or of a format libsndfile does not read (expected wav, flac, ogg, "
                    "mp3, aiff ...). Convert it first."
                ) from None
            # Where a header ends too early, libsndfile's words are about pipes: they would mislead.
            words = error.error_string.rstrip(".")
            reason = "it ends too early" if not words or "pipe" in words else words
            kind = _Unreadable if "unimplemented" in words or "unsupported" in words.lower() else AudioError
            raise kind(f"{self._path}: has a damaged header: {reason}. {_COPY}") from None

    def _source(self, part: Part) -> Any:
        """Give what libsndfile opens: never a name, whose extension (.raw, .gsm) it and soundfile would trust."""
        if part.start == 0 and part.end == self._size and not part.head and not part.tail:
            self._file.seek(0)
            try:
                return self._file.fileno()
            except OSError:  # a stream in memory
                pass
        return _Window(self._file, part)

    def _examine_counted(self, part: Part, notes: list[str]) -> _Piece:
        """Look at a part, once more with a right count of its frames where libsndfile knows or guesses a wrong one."""
        piece = self._examine(part, notes)
        if part.frames is None or part.frames - _MP3_FILLING <= piece.frames:
            if part.frames is None or not part.guessed or piece.frames <= part.frames + _MP3_SLACK:
                return piece
        elif not part.guessed:
            notes.append(f"has a header that counts {piece.frames} of its {part.frames} samples: all are read")
        piece = self._examine(containers.counted(self._file, part), notes)
        if part.frames - _MP3_FILLING > piece.frames:
            raise AudioError(
                f"{self._path}: its frames hold {part.frames} samples, of which the decoder knows {piece.frames} only. "
                "Convert it to wav or flac."
            )
        return piece

    def _examine(self, part: Part, notes: list[str]) -> _Piece:
        with ExitStack() as closing:
            sound = closing.enter_context(self._open(part))
            note = _whole(self._path, self._file, part, sound)
            frames, seekable = sound.frames, sound.seekable()
            if frames >= _UNKNOWN_FRAMES:
                note = "has a header that states no length: all audio that is there is read"
                sound.seekable = _never  # soundfile would move to the end, which this libsndfile cannot
                frames, seekable = self._counted(sound), False
            if note:
                notes.append(note)
            if seekable and part.end == self._size and not part.start and sound.format in _WAVE:
                self._kept = sound  # the usual file is opened once
                closing.pop_all()
            return _Piece(part, frames, sound.samplerate, sound.channels, sound.format, seekable)

    def _counted(self, sound: "SoundFile") -> int:
        import soundfile

        done = 0
        try:
            while got := len(sound.read(BLOCK // sound.channels, dtype="float32", always_2d=True)):
                done += got
                if done > _LONGEST * sound.samplerate:
                    raise AudioError(f"{self._path}: too long: more than {_LONGEST // 3600} hours. Cut it into pieces.")
        except soundfile.LibsndfileError as error:
            raise self._failed(error, done) from None
        return done

    def _piece_blocks(self, piece: _Piece, first: int, count: int) -> Iterator[np.ndarray]:
        import soundfile

        size = max(1, BLOCK // piece.channels)
        done = 0
        with self._opened(piece.part) as sound:
            try:
                if piece.seekable:
                    sound.seek(first)
                else:
                    sound.seekable = _never
                    while first and (skipped := len(sound.read(min(size, first), always_2d=True))):
                        first -= skipped
                while done < count:
                    block = sound.read(min(size, count - done), dtype="float32", always_2d=True)
                    if len(block) == 0:
                        break
                    done += len(block)
                    yield block
            except soundfile.LibsndfileError as error:
                raise self._failed(error, done) from None
        slack = _MP3_SLACK if piece.format == "MP3" else 0
        if done < count - slack:
            raise AudioError(f"{self._path}: truncated: {count} samples were promised, {done} are there. {_COPY}")

    def _failed(self, error: Any, done: int) -> AudioError:
        reason = error.error_string.rstrip(".") or "the decoder gives no reason"
        return AudioError(
            f"{self._path}: truncated or damaged: decoding failed after {done} samples ({reason}). {_COPY}"
        )


def _never() -> bool:
    return False


def _whole(path: Any, file: BinaryIO, part: Part, sound: "SoundFile") -> str:
    """Remark on a wrong length, or give "".

    libsndfile mends a length that is too large silently and gives the audio that is there; its header log is where
    it says so. It keeps silent about Sphere files. WAV and Ogg are looked at by `containers`, and FLAC and MP3 show it
    in decoding.

    Raises:
        AudioError: the part is shorter than its own header says.
    """
    promised, there, unit = 0, sound.frames, "samples"
    if sound.format in _WAVE:
        return ""
    if found := _CUT_CHUNK.search(sound.extra_info):
        promised, there, unit = int(found[1]), int(found[2]), "bytes"
        if promised >= _UNKNOWN_SIZE:
            return "has a header that states no length: all audio that is there is read"
        if there < promised <= part.end - part.start:  # the header counts itself as audio
            return f"has a header that promises {promised - there} bytes too many: all that is there is read"
    elif found := _CUT_RF64.search(sound.extra_info):
        promised = int(found[1])
    elif sound.format == "NIST":
        file.seek(part.start)
        found = _SPHERE_COUNT.search(file.read(1024))
        promised = int(found[1]) if found else 0
    if promised > there:
        raise AudioError(
            f"{path}: truncated: its header promises {promised} {unit} of audio, the file holds {there}. {_COPY}"
        )
    return ""


class _Window(io.RawIOBase):
    """Some bytes of a file as a file of their own, with its head and tail as mended."""

    def __init__(self, file: BinaryIO, part: Part) -> None:
        self._file, self._head, self._tail, self._at = file, part.head, part.tail, 0
        self._first, self._last = part.start + part.replaced, part.end - len(part.tail)
        self._size = len(self._head) + self._last - self._first + len(self._tail)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and (data := self._piece(len(view) - done)):
            view[done : done + len(data)] = data
            done += len(data)
            self._at += len(data)
        return done

    def _piece(self, count: int) -> bytes:
        """Read up to `count` bytes from here on, out of the head, the file, or the tail."""
        offset = self._at - len(self._head)
        if offset < 0:
            return self._head[self._at : self._at + count]
        behind = offset - (self._last - self._first)
        if behind >= 0:
            return self._tail[behind : behind + count]
        self._file.seek(self._first + offset)
        return self._file.read(min(count, -behind))
