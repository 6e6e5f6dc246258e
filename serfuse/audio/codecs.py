"""Formats that libsndfile does not read (m4a, webm, amr, wma ...), by PyAV where it is installed.

PyAV carries FFmpeg's decoders. It is an extra (`pip install 'serfuse[codecs]'`): without it, these files are known by
their first bytes and refused with that advice.
"""

import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from ..errors import AudioError

INSTALL = "pip install 'serfuse[codecs]'"
"""What brings the decoder."""

# First bytes, FFmpeg's name of the container, and its name for people. Only these are given to FFmpeg, each by its
# name: formats that are lists of other files or addresses (m3u8, concat) are never opened.
_KNOWN: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb".{4}(?:ftyp|moov|mdat|wide|free|skip)", re.S), "mov", "MP4 (m4a, mp4, 3gp, mov)"),
    (re.compile(rb"\x1a\x45\xdf\xa3"), "matroska", "WebM or Matroska"),
    (re.compile(rb"#!AMR"), "amr", "AMR"),
    (re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), "asf", "Windows Media (wma)"),
    (re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"), "aac", "AAC"),
    (re.compile(rb"RIFF.{4}AVI ", re.S), "avi", "AVI"),
    (re.compile(rb"FLV\x01"), "flv", "Flash video"),
    (re.compile(rb"\.RMF"), "rm", "RealMedia"),
    (re.compile(rb"wvpk"), "wv", "WavPack"),
    (re.compile(rb"MAC "), "ape", "Monkey's Audio"),
    (re.compile(rb"TTA1"), "tta", "True Audio"),
    (re.compile(rb"\x0b\x77"), "ac3", "AC-3"),
    (re.compile(rb"\x00\x00\x01\xba"), "mpeg", "MPEG video"),
    (re.compile(rb"\x47.{187}\x47", re.S), "mpegts", "MPEG transport stream"),
    (re.compile(rb"OggS"), "ogg", "Ogg with a codec of its own"),
    (re.compile(rb"RIFF.{4}WAVE", re.S), "wav", "WAV with a codec of its own"),
    (re.compile(rb"caff"), "caf", "CAF with a codec of its own"),
)
# A container rounds its length, and its last packet may be filled up.
_LENGTH_SLACK = 0.5
# No recording that is read lasts longer, in seconds; counting its samples ends here.
_LONGEST = 24 * 3600.0


def known(head: bytes) -> tuple[str, str] | None:
    """Name the container that begins with `head` (192 bytes are enough): as FFmpeg does, and as people do."""
    for pattern, name, words in _KNOWN:
        if pattern.match(head):
            return name, words
    return None


class _Inside:
    """A file for FFmpeg, which is told where it cannot move to: of an exception PyAV prints a page."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read, self.tell = file.read, file.tell

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, OverflowError):
            return -1


class AvDecoder:
    """The first audio stream of a file that FFmpeg reads.

    Args:
        path: for messages.
        file: the open file.
        kind: what `known` gave.

    Attributes:
        sample_rate: in Hz.
        channels: number of channels.
        frames: samples per channel. They are counted by decoding once: containers' own lengths are estimates.
        format: "AV".
        notes: none.

    Raises:
        AudioError: PyAV is not installed, there is no audio inside, or the file is damaged or cut off.
    """

    format = "AV"
    notes: tuple[str, ...] = ()

    def __init__(self, path: Any, file: BinaryIO, kind: tuple[str, str]) -> None:
        self._path, self._file, (self._kind, self._words) = path, file, kind
        try:
            import av
            from av.error import FFmpegError
        except ImportError:
            raise AudioError(
                f"{path}: is {self._words}, which needs a decoder that is not installed. Install it with "
                f"{INSTALL}, or convert the file to wav or flac."
            ) from None
        self._av, self._failure = av, (FFmpegError, OSError, ValueError, TypeError, AttributeError)
        self.sample_rate, self.channels, promised = self._header()
        self.frames = sum(block.shape[0] for block in self._decoded())
        if promised is not None and promised - self.frames / self.sample_rate > _LENGTH_SLACK:
            raise AudioError(
                f"{path}: truncated: its header promises {promised:.2f} s of audio, "
                f"{self.frames / self.sample_rate:.2f} s are there. Copy or download it again."
            )

    def blocks(self, first: int, count: int) -> Iterator[np.ndarray]:
        """Decode blocks of float32 `(frames, channels)` from frame `first` on, `count` frames in all.

        Raises:
            AudioError: the decoder fails.
        """
        place = 0
        for block in self._decoded():
            wanted = block[max(0, first - place) : max(0, first + count - place)]
            place += len(block)
            if len(wanted):
                yield wanted
            if place >= first + count:
                return

    def _header(self) -> tuple[int, int, float | None]:
        """Read rate, channels and the length in seconds that the container states."""
        try:
            with self._open() as container:
                if not container.streams.audio:
                    raise AudioError(f"{self._path}: is {self._words} without any audio in it. Leave it out.")
                stream = container.streams.audio[0]
                seconds = None if stream.duration is None else float(stream.duration * stream.time_base)
                if seconds is None and self._kind == "matroska" and container.duration and not container.streams.video:
                    seconds = container.duration / 1e6
                return int(stream.rate), int(stream.channels), seconds
        except self._failure as error:
            raise self._damaged(error) from None

    def _open(self) -> Any:
        self._file.seek(0)
        return self._av.open(_Inside(self._file), format=self._kind)

    def _decoded(self) -> Iterator[np.ndarray]:
        done = 0
        try:
            with self._open() as container:
                stream = container.streams.audio[0]
                convert = self._av.AudioResampler(format="fltp", layout=stream.layout, rate=self.sample_rate)
                for frame in container.decode(stream):
                    for piece in convert.resample(frame):
                        done += piece.samples
                        if done > _LONGEST * self.sample_rate:
                            raise AudioError(f"{self._path}: too long: more than {_LONGEST / 3600:g} hours.")
                        yield np.ascontiguousarray(piece.to_ndarray().T)
                for piece in convert.resample(None):
                    yield np.ascontiguousarray(piece.to_ndarray().T)
        except self._failure as error:
            raise self._damaged(error, f" after {done} samples") from None

    def _damaged(self, error: Exception, where: str = "") -> AudioError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return AudioError(
            f"{self._path}: damaged: {self._words} whose decoding failed{where} ({reason}). Copy or download it again."
        )
