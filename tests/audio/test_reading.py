"""Any file that libsndfile reads becomes mono float32 at the wanted rate; what is not whole speech is refused."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serfuse import audio
from serfuse.errors import AudioError


def tone(seconds: float = 1.0, rate: int = 16000, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype("float32")


def write(path: Path, wave: np.ndarray, rate: int = 16000, **options: str) -> Path:
    soundfile.write(path, wave, rate, **options)
    return path


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_a_tone_keeps_its_pitch_and_level_at_any_rate(tmp_path: Path, rate: int) -> None:
    found = audio.read(write(tmp_path / "a.wav", tone(rate=rate), rate, subtype="FLOAT"), 16000)
    assert found.dtype == np.float32 and found.shape == (16000,)
    middle = slice(2000, 14000)
    np.testing.assert_allclose(found[middle], tone()[middle], atol=2e-3)


def test_resampling_removes_what_the_new_rate_cannot_hold(tmp_path: Path) -> None:
    """A tone above the new Nyquist frequency must vanish rather than fold back."""
    found = audio.read(write(tmp_path / "a.wav", tone(rate=48000, hertz=12000), 48000), 16000)
    assert np.abs(found[1000:-1000]).max() < 1e-3


def test_block_by_block_reading_equals_one_piece(tmp_path: Path) -> None:
    """Longer than the blocks that are decoded at a time."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 1_300_000).astype("float32")
    path = write(tmp_path / "a.wav", noise, 44100, subtype="FLOAT")
    np.testing.assert_array_equal(audio.read(path, 16000), audio.resample(noise, 44100, 16000))
    np.testing.assert_array_equal(audio.read(path, 44100), noise)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(hertz=300), tone(hertz=500)
    found = audio.read(write(tmp_path / "a.wav", np.stack([left, right], axis=1), subtype="FLOAT"), 16000)
    np.testing.assert_allclose(found, (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "AIFF", "AU", "MP3"])
def test_formats_are_told_from_the_content(tmp_path: Path, kind: str) -> None:
    right = write(tmp_path / f"a.{kind.lower()}", tone(), format=kind)
    wrong = tmp_path / "b.wav"
    shutil.copyfile(right, wrong)
    one, two = audio.read(right, 16000), audio.read(wrong, 16000)
    np.testing.assert_array_equal(one, two)
    assert np.corrcoef(one[4000:12000], tone()[4000:12000])[0, 1] > 0.95 or kind == "MP3"
    assert abs(len(one) - 16000) <= (2400 if kind == "MP3" else 0)


def test_a_segment_is_what_the_whole_holds_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = write(tmp_path / "a.wav", rng.uniform(-0.5, 0.5, 32000).astype("float32"), subtype="FLOAT")
    np.testing.assert_array_equal(audio.read(path, 16000, start=0.5, end=1.25), audio.read(path, 16000)[8000:20000])
    np.testing.assert_array_equal(audio.read(path, 16000, end=0.25), audio.read(path, 16000)[:4000])


@pytest.mark.parametrize(
    ("start", "end"), [(3.0, None), (0.0, 9.0), (1.0, 1.0), (1.5, 0.5), (-1.0, None), (None, np.nan)]
)
def test_a_segment_outside_of_the_file(tmp_path: Path, start: float | None, end: float | None) -> None:
    with pytest.raises(AudioError, match=r"a\.wav"):
        audio.read(write(tmp_path / "a.wav", tone(2.0)), 16000, start=start, end=end)


def _bad(kind: str, folder: Path) -> Path:
    path = folder / "bad.wav"
    whole = write(folder / "whole.wav", tone())
    if kind == "missing":
        return path
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "empty":
        path.touch()
    elif kind == "no samples":
        write(path, np.zeros(0, "float32"))
    elif kind == "text":
        path.write_text("this is not audio " * 100, "utf-8")
    elif kind == "truncated":
        path.write_bytes(whole.read_bytes()[:20000])
    elif kind == "half a header":
        path.write_bytes(whole.read_bytes()[:30])
    elif kind == "truncated flac":
        data = write(
            folder / "whole.flac", np.random.default_rng(0).uniform(-1, 1, 16000).astype("float32")
        ).read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif kind == "truncated ogg":
        noise = np.random.default_rng(0).uniform(-1, 1, 160000).astype("float32")
        data = write(folder / "whole.ogg", noise).read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif kind == "silent":
        write(path, np.zeros(16000, "float32"))
    elif kind == "constant":
        write(path, np.full(16000, 0.25, "float32"))
    elif kind == "nan":
        wave = tone()
        wave[500] = np.nan
        write(path, wave, subtype="FLOAT")
    elif kind == "infinite":
        wave = tone()
        wave[500] = np.inf
        write(path, wave, subtype="FLOAT")
    elif kind == "rate":
        data = bytearray(whole.read_bytes())
        data[24:28] = (3).to_bytes(4, "little")
        path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "no such file"),
        ("folder", "is a folder"),
        ("pipe", "pipe"),
        ("empty", "empty"),
        ("no samples", "length zero"),
        ("text", "not audio"),
        ("truncated", "truncated"),
        ("half a header", "damaged"),
        ("truncated flac", "truncated"),
        ("truncated ogg", "truncated"),
        ("silent", "silent"),
        ("constant", "silent"),
        ("nan", "NaN"),
        ("infinite", "infinite"),
        ("rate", "sample rate"),
    ],
)
def test_what_is_not_whole_speech_is_refused_in_plain_words(tmp_path: Path, kind: str, says: str) -> None:
    with pytest.raises(AudioError, match=says) as caught:
        audio.read(_bad(kind, tmp_path), 16000)
    assert "bad.wav" in str(caught.value)


def test_stereo_that_cancels_out_is_silent(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="2 channels"):
        audio.read(write(tmp_path / "a.wav", np.stack([tone(), -tone()], axis=1), subtype="FLOAT"), 16000)


def test_an_absurdly_long_file_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """The header of a few bytes promises ten hours, and so does a real file of silence packed by FLAC."""
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", 16000, 1, format="FLAC") as file:
        block = np.zeros(16000 * 60, "int16")
        for _ in range(11):
            file.write(block)
    assert path.stat().st_size < 200_000
    with pytest.raises(AudioError, match="too long"):
        audio.read(path, 16000)
    with pytest.raises(AudioError, match="too long"):
        audio.read(write(tmp_path / "a.wav", tone(2.0)), 16000, max_seconds=1.0)


def test_info_and_hash(tmp_path: Path) -> None:
    import hashlib

    path = write(tmp_path / "a.wav", np.zeros((22050, 2), "float32") + 0.1, 44100)
    found = audio.info(path)
    assert (found.seconds, found.sample_rate, found.channels) == (0.5, 44100, 2)
    assert audio.content_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert audio.identify(path) == (found, audio.content_hash(path))
    with pytest.raises(AudioError):
        audio.content_hash(tmp_path / "none.wav")


@pytest.mark.parametrize("size", [0, 700, 2**20, 2**20 + 1, 2**26 + 5])
def test_what_is_no_audio_is_identified_too(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.wav"
    with path.open("wb") as file:
        file.write(b"no audio"[:size])
        file.truncate(size)
    about, digest = audio.identify(path)
    assert isinstance(about, AudioError) and digest == audio.sampled_hash(path)
    with pytest.raises(AudioError) as told:
        audio.info(path)
    assert str(about) == str(told.value)
    assert (digest == audio.content_hash(path)) == (size <= 2**26)
    with pytest.raises(AudioError, match="no such file"):
        audio.identify(tmp_path / "none.wav")


def test_every_clip_of_the_real_emodb_can_be_read(emodb_dir: Path) -> None:
    lengths = []
    for path in sorted(emodb_dir.glob("*.wav"))[::20]:
        wave = audio.read(path, 16000)
        assert wave.dtype == np.float32 and np.abs(wave).max() <= 1.0
        lengths.append(len(wave) / 16000)
        assert lengths[-1] == pytest.approx(audio.info(path).seconds, abs=1e-3)
    assert len(lengths) > 20


@pytest.mark.parametrize(("rate", "longest"), [(0, 600.0), (-16000, 600.0), (16000, 0.0), (16000, float("nan"))])
def test_rates_and_limits_that_are_none(tmp_path: Path, rate: int, longest: float) -> None:
    with pytest.raises(ValueError, match="must be positive, got"):
        audio.read(write(tmp_path / "a.wav", tone()), rate, max_seconds=longest)


def test_samples_too_large_to_resample(tmp_path: Path) -> None:
    """Finite in the file, infinite after the filter."""
    loud = np.where(np.arange(4000) // 7 % 2, 1.0, -1.0).astype("float32") * np.float32(3.4e38)
    path = write(tmp_path / "a.wav", loud, 8000, subtype="FLOAT")
    assert np.isfinite(audio.read(path, 8000)).all()
    with pytest.raises(AudioError, match=r"too large to resample \(up to 3\.4e\+38\)"):
        audio.read(path, 16000)
