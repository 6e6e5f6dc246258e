"""Joined recordings are read to the end, wrong lengths are mended with a remark, and what is cut off is refused."""

import io
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serfuse import audio
from serfuse.audio import containers
from serfuse.errors import AudioError

RATE = 16000


def voice(seconds: float = 1.5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(140 + 30 * np.sin(2 * np.pi * 1.5 * time + seed)) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 12))
    return 0.2 * tone * np.clip(np.sin(2 * np.pi * 2 * time) ** 2, 0.02, 1) + 0.003 * rng.standard_normal(len(time))


def encoded(path: Path, wave: np.ndarray, kind: str, rate: int = RATE) -> bytes:
    name, _, subtype = kind.partition("/")
    soundfile.write(path, wave, rate, format=name, subtype=subtype or None)
    return path.read_bytes()


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


KINDS = ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG/VORBIS", "OGG/OPUS", "MP3"]


@pytest.mark.parametrize("kind", KINDS)
def test_joined_recordings_are_read_one_behind_the_other(tmp_path: Path, kind: str) -> None:
    parts = [encoded(tmp_path / f"{n}.bin", voice(1.5 + n, n), kind) for n in range(3)]
    alone = [audio.read(put(tmp_path / "one.bin", part), RATE) for part in parts]
    joined = put(tmp_path / "joined.bin", b"".join(parts))
    found = audio.read_recording(joined, RATE)
    np.testing.assert_array_equal(found.waveform, np.concatenate(alone))
    assert [remark.kind for remark in found.remarks] == ["file"] and "3 recordings" in found.remarks[0].text
    about = audio.info(joined)
    assert about.seconds == pytest.approx(7.5, abs=0.01) and about.notes
    # A segment that begins in the first recording and ends in the last.
    piece = audio.read(joined, RATE, start=1.0, end=5.0)
    middle = slice(1000, -1000)  # lossy decoders start anew after a jump
    np.testing.assert_allclose(piece[middle], found.waveform[RATE : 5 * RATE][middle], atol=2e-3)


def test_joined_mp3_with_tags_between(tmp_path: Path) -> None:
    one, two = (encoded(tmp_path / "a", voice(1.5, n), "MP3") for n in range(2))
    tag = b"ID3\x03\0\0\0\0\x02\x00" + bytes(256)
    joined = put(tmp_path / "a.mp3", tag + one + b"TAG" + b"x" * 125 + tag + two + b"TAG" + b"y" * 125)
    assert len(audio.read(joined, RATE)) == 3 * RATE


def frames_of(mp3: bytes) -> bytes:
    """Without the first frame, which counts the others."""
    second = mp3.index(mp3[:2], 100)
    return mp3[second:]


def test_an_mp3_of_changing_bit_rate_without_a_count_is_read_whole(tmp_path: Path) -> None:
    """The decoder guesses the length from the first frame, which is small where a recording begins softly."""
    wave = np.concatenate([0.001 * voice(1.0), voice(9.0, 1)])
    whole = audio.read(put(tmp_path / "a.mp3", encoded(tmp_path / "a", wave, "MP3")), RATE)
    found = audio.read(put(tmp_path / "b.mp3", frames_of((tmp_path / "a.mp3").read_bytes())), RATE)
    late = found[len(found) - len(whole) :] if len(found) > len(whole) else found
    assert abs(len(found) - len(whole)) < 4000
    assert max(np.correlate(late[-60000:], whole[-50000:], "valid")) > 0.9 * np.sum(whole[-50000:] ** 2)


def test_a_count_of_the_first_recording_only(tmp_path: Path) -> None:
    one = encoded(tmp_path / "a", voice(2.0), "MP3")
    found = audio.read_recording(put(tmp_path / "a.mp3", one + frames_of(one)), RATE)
    assert len(found.waveform) == pytest.approx(4 * RATE, abs=2000) and found.remarks[0].kind == "file"


def test_recordings_of_different_kinds_are_refused_by_name(tmp_path: Path) -> None:
    one = encoded(tmp_path / "a", voice(), "MP3")
    other = encoded(tmp_path / "b", np.stack([voice(), voice()], axis=1), "MP3", 44100)
    with pytest.raises(AudioError, match=r"different kinds .* \(16000 Hz with 1 channels, 44100 Hz with 2\)"):
        audio.read(put(tmp_path / "a.mp3", one + other), RATE)


def header(size: int, whole: int | None = None) -> bytes:
    """Of a WAV file of 16 bits."""
    riff = 36 + size if whole is None else whole
    fmt = struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + fmt + b"data" + struct.pack("<I", size)


PCM = bytes(9000) + (voice() * 32767).astype("<i2").tobytes()  # begins with digital silence
WHOLE = {
    "never closed": header(0, 0) + PCM,
    "never closed, as Python's wave module writes it": header(0, 36) + PCM,
    "unknown": header(0xFFFFFFFF, 0xFFFFFFFF) + PCM,
    "unknown, with a sign": header(0x7FFFFFFF, 0xFFFFFFFF) + PCM,
    "counts the header": header(len(PCM) + 44) + PCM,
    "counts its own chunks": header(len(PCM) + 36, len(PCM) + 36) + PCM,
    "one byte too many": header(len(PCM) + 1) + PCM,
    "the outer length is right": header(10**6, 36 + len(PCM)) + PCM,
}


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_wav_with_a_wrong_length_is_read_with_a_remark(tmp_path: Path, case: str) -> None:
    found = audio.read_recording(put(tmp_path / "a.wav", WHOLE[case]), RATE)
    np.testing.assert_array_equal(found.waveform, np.frombuffer(PCM, "<i2").astype("float32") / 32768)
    assert [remark.kind for remark in found.remarks] == ["file"]


def test_never_closed_wavs_behind_each_other(tmp_path: Path) -> None:
    joined = header(0, 0) + PCM + header(0xFFFFFFFF, 0xFFFFFFFF) + PCM + header(len(PCM)) + PCM
    found = audio.read(put(tmp_path / "a.wav", joined), RATE)
    np.testing.assert_array_equal(found, np.tile(np.frombuffer(PCM, "<i2").astype("float32") / 32768, 3))


@pytest.mark.parametrize(
    "behind",
    [
        b"LIST" + struct.pack("<I", 4) + b"INFO",
        b"\x01garbage" * 9,
        bytes(5000),
        b"id3 " + struct.pack("<I", 3) + b"abc",
    ],
)
def test_what_lies_behind_the_audio_is_no_audio_and_no_remark(tmp_path: Path, behind: bytes) -> None:
    found = audio.read_recording(put(tmp_path / "a.wav", header(len(PCM)) + PCM + behind), RATE)
    assert len(found.waveform) == len(PCM) // 2 and not found.remarks
    with pytest.raises(AudioError, match="length zero"):
        audio.read(put(tmp_path / "b.wav", header(0) + b"LIST" + struct.pack("<I", 4) + b"INFO"), RATE)


def test_audio_that_the_header_does_not_count_is_told(tmp_path: Path) -> None:
    found = audio.read_recording(put(tmp_path / "a.wav", header(20000) + PCM), RATE)
    assert len(found.waveform) == 10000 and "bytes behind the audio" in found.remarks[0].text


def pages(ogg: bytes) -> list[tuple[int, int]]:
    """Offset and length of each page."""
    found, at = [], 0
    while at < len(ogg):
        length = 27 + ogg[at + 26] + sum(ogg[at + 27 : at + 27 + ogg[at + 26]])
        found.append((at, length))
        at += length
    return found


def checksum(page: bytes) -> bytes:
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value.to_bytes(4, "little")


@pytest.mark.parametrize("kind", ["OGG/OPUS", "OGG/VORBIS"])
def test_an_ogg_without_its_end_flag_is_whole(tmp_path: Path, kind: str) -> None:
    content = bytearray(encoded(tmp_path / "a.ogg", voice(6.0), kind))
    at, length = pages(content)[-1]
    content[at + 5] &= ~4
    content[at + 22 : at + 26] = bytes(4)
    content[at + 22 : at + 26] = checksum(content[at : at + length])
    whole = audio.read(tmp_path / "a.ogg", RATE)
    found = audio.read_recording(put(tmp_path / "b.ogg", bytes(content)), RATE)
    np.testing.assert_array_equal(found.waveform, whole)
    assert "no mark of its end" in found.remarks[0].text
    with pytest.raises(AudioError, match="truncated: its last page needs"):
        audio.read(put(tmp_path / "c.ogg", bytes(content[: at + length - 1])), RATE)


def test_a_flac_that_states_no_length(tmp_path: Path) -> None:
    content = bytearray(encoded(tmp_path / "a.flac", voice(), "FLAC"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path = put(tmp_path / "b.flac", bytes(content))
    found = audio.read_recording(path, RATE)
    np.testing.assert_array_equal(found.waveform, audio.read(tmp_path / "a.flac", RATE))
    assert audio.info(path).seconds == 1.5 and "states no length" in found.remarks[0].text
    piece = audio.read(path, RATE, start=0.5, end=1.0)
    np.testing.assert_array_equal(piece, found.waveform[RATE // 2 : RATE])


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_file_is_refused(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    content = encoded(tmp_path / "a.bin", rng.uniform(-0.5, 0.5, 10 * RATE), kind)
    half = put(tmp_path / "b.bin", content[: len(content) // 2])
    with pytest.raises(AudioError, match=r"truncated|damaged"):
        audio.read(half, RATE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_raises_no_remark(tmp_path: Path, kind: str) -> None:
    encoded(tmp_path / "a.bin", voice(), kind)
    assert audio.read_recording(tmp_path / "a.bin", RATE).remarks == ()


def test_damaged_files_never_raise_anything_else(tmp_path: Path) -> None:
    """Every file with a few wrong bytes is read or refused by name."""
    rng = np.random.default_rng(0)
    outcomes: set[type | None] = set()
    for kind in KINDS:
        content = np.frombuffer(encoded(tmp_path / "a.bin", voice(0.5), kind), np.uint8)
        for _ in range(25):
            wrong = content.copy()
            wrong[rng.integers(0, min(len(wrong), 400), 3)] = rng.integers(0, 256, 3)
            outcomes.add(_outcome(put(tmp_path / "b.bin", wrong.tobytes())))
    assert outcomes == {None, AudioError}


def _outcome(path: Path) -> type | None:
    try:
        audio.read(path, RATE)
    except Exception as error:
        return type(error)
    return None


def test_a_large_sparse_file_is_judged_at_once(tmp_path: Path) -> None:
    """Ten gigabytes of nothing: whether it is audio is asked before it is read."""
    path = tmp_path / "a.wav"
    with open(path, "wb") as file:
        file.truncate(10 * 2**30)
    begun = time.process_time()
    with pytest.raises(AudioError, match="is not audio"):
        audio.info(path)
    first = audio.sampled_hash(path)
    assert time.process_time() - begun < 3
    with open(path, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert audio.sampled_hash(path) != first


class Counted(io.BytesIO):
    """A file that counts what is read of it."""

    times = taken = 0

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        self.times, self.taken = self.times + 1, self.taken + len(found)
        return found


FRAME = b"\xff\xf3\x14\xc4" + bytes(20)  # of 24 bytes: layer III, 8 kbit/s, 24 kHz
PAGE = b"OggS\0\0" + bytes(20) + b"\0"


@pytest.mark.parametrize(
    "content", [(2 * FRAME + b"x") * 4000, (PAGE + b"x") * 4000], ids=["frames with dirt between", "pages with dirt"]
)
def test_damage_everywhere_does_not_have_a_file_read_again_and_again(content: bytes) -> None:
    file = Counted(content)
    containers.layout(file, len(content))
    assert file.taken < 200 * len(content)


def test_what_can_be_no_frame_is_not_looked_at() -> None:
    file = Counted(2 * FRAME + b"\xff" * 100_000)
    assert len(containers.layout(file, len(file.getvalue())).parts) == 1
    assert file.times < 1000


@pytest.mark.parametrize(
    "content",
    [b"fLaC\0\0\0\x22" * 20_000, (PAGE[:5] + b"\2" + PAGE[6:] + PAGE) * 20_000],
    ids=["flac", "ogg"],
)
def test_more_recordings_than_are_taken_are_not_listed(tmp_path: Path, content: bytes) -> None:
    assert len(containers.layout(io.BytesIO(content), len(content)).parts) <= containers.MAX_PARTS + 1
    with pytest.raises(AudioError, match="more than 1000 recordings"):
        audio.info(put(tmp_path / "a.bin", content))


def test_a_header_of_gigabytes_is_not_held(tmp_path: Path) -> None:
    """An empty chunk as long as that costs its writer nothing, and stands in front of audio whose length is zero."""
    size = 1 << 29
    path = put(tmp_path / "a.wav", b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16))
    with open(path, "r+b") as file:
        file.seek(0, 2)
        file.write(b"LIST" + struct.pack("<I", size))
        file.seek(size, 1)
        file.write(b"data\0\0\0\0" + b"\x01\x80" * 4000)
    tracemalloc.start()
    try:
        with pytest.raises(AudioError, match="no samples"):
            audio.read(path, RATE)
        assert tracemalloc.get_traced_memory()[1] < size / 8
    finally:
        tracemalloc.stop()
