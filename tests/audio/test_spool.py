"""Streams and waveforms are read as the files that they could be, with the same checks."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serfuse import audio
from serfuse.audio import spool
from serfuse.errors import AudioError

RATE = 22_050


@pytest.fixture
def voice() -> np.ndarray:
    """Two channels that differ, within a quarter of full scale."""
    time = np.arange(RATE) / RATE
    return np.stack([np.sin(2 * np.pi * 150 * time), np.sin(2 * np.pi * 310 * time)], axis=1) / 4


@pytest.mark.parametrize(("form", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("MP3", None)])
def test_a_stream_is_read_as_its_file_is(voice: np.ndarray, tmp_path: Path, form: str, subtype: str | None) -> None:
    path = tmp_path / "voice"
    soundfile.write(path, voice, RATE, format=form, subtype=subtype)
    with path.open("rb") as stream, spool.spooled(stream, "upload") as found:
        np.testing.assert_array_equal(audio.read(found, 16_000), audio.read(path, 16_000))
        assert audio.info(found) == audio.info(path)
    cut = io.BytesIO(path.read_bytes()[: path.stat().st_size // 2])
    with spool.spooled(cut, "upload") as found, pytest.raises(AudioError, match=r"^upload: (truncated|has a damaged)"):
        audio.read(found, 16_000)


@pytest.mark.parametrize("kind", ["float64", "float32", "int16", "int32"])
def test_a_waveform_is_read_as_its_file_is(voice: np.ndarray, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "voice.wav"
    scale = 1 if kind.startswith("float") else np.iinfo(kind).max
    samples = (voice * scale).astype(kind)
    soundfile.write(path, samples, RATE, subtype={"int16": "PCM_16", "int32": "PCM_32"}.get(kind, "FLOAT"))
    for waveform in (samples, np.asfortranarray(samples), samples.astype(samples.dtype.newbyteorder(">"))):
        with spool.spooled_waveform(waveform, RATE, "array") as found:
            np.testing.assert_array_equal(audio.read(found, 16_000), audio.read(path, 16_000))


def test_eight_bits_have_their_own_full_scale(voice: np.ndarray) -> None:
    signed = np.round(voice[:, 0] * 127).astype("int8")
    expected = signed / 128
    for waveform in (signed, (signed.astype(int) + 128).astype("uint8")):
        with spool.spooled_waveform(waveform, RATE, "array") as found:
            np.testing.assert_array_equal(audio.read(found, RATE), expected.astype("float32"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: (x.T, RATE), r"shape \(samples,\) or \(samples, channels\), received \(2, 22050\)"),
        (lambda x: (x[None], RATE), r"received \(1, 22050, 2\)"),
        (lambda x: (x.astype(complex), RATE), "received complex128: its full scale is unknown"),
        (lambda x: ((x * 100).astype(int), RATE), "received int64: its full scale is unknown"),
        (lambda x: (x, 0), "expected a sample rate of 1000 to 768000 Hz, a whole number; received 0"),
        (lambda x: (x, "high"), "received 'high'"),
        (lambda x: (x, 16000.5), "received 16000.5"),
        (lambda x: (x[:0], RATE), "length zero"),
        (lambda x: (x * 0, RATE), "silent"),
        (lambda x: (x * np.nan, RATE), "NaN or infinite"),
        (lambda x: (x * 1e300, RATE), "NaN or infinite"),
        (lambda x: (np.broadcast_to(np.int16(1), (2**28 + 1,)), RATE), "a waveform of 536870914 bytes"),
        (lambda x: (np.tile(x[:1000], (602, 1)), 1000), "too long: 602.0 s"),
    ],
)
def test_waveforms_that_are_none_are_refused_by_name(voice, change: Callable, says: str) -> None:
    with pytest.raises(AudioError, match=f"^array: .*{says}"), spool.spooled_waveform(*change(voice), "array") as found:
        audio.read(found, 16_000)


class Endless(io.RawIOBase):
    """A stream that never ends."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        return len(buffer)


def test_streams_that_are_none_are_refused_by_name() -> None:
    closed = io.BytesIO(b"RIFF")
    closed.close()
    for stream, says in (
        (Endless(), f"longer than {spool.MAX_STREAM_BYTES} bytes"),
        (io.StringIO("text"), "gives bytes, received str. Open it in binary mode"),
        (closed, "cannot be read: I/O operation on closed file"),
        (io.BytesIO(b""), r"is empty \(0 bytes\)"),
        (io.BytesIO(b"no audio"), "is not audio"),
    ):
        with pytest.raises(AudioError, match=f"^upload: .*{says}"), spool.spooled(stream, "upload") as found:
            audio.read(found, 16_000)
