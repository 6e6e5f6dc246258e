"""What is odd about audio is said by name; ordinary speech raises no remark."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from serfuse import audio
from serfuse.audio import quality
from serfuse.audio.quality import Remark

RATE = 16000
TIME = np.arange(2 * RATE) / RATE


def voice(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * np.cumsum(140 + 25 * np.sin(2 * np.pi * 1.3 * TIME + seed)) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 12))
    return 0.15 * tone * np.clip(np.sin(2 * np.pi * 2 * TIME) ** 2, 0.02, 1) + 0.002 * rng.standard_normal(len(TIME))


NOISE = np.random.default_rng(1).standard_normal(len(TIME))
ONE_BIT = np.concatenate([np.zeros(len(TIME) - 1), [1 / 32768]])
ODD = {
    "integers' range": (voice() * 32768, "scale"),
    "huge": (voice() * 1e29, "scale"),
    "offset": (voice() + 0.5, "offset"),
    "small offset beside soft speech": (0.1 * voice() + 0.02, "offset"),
    "clipped": (np.clip(voice() * 20, -1, 1), "clipping"),
    "clipped, then made softer": (0.2 * np.clip(voice() * 20, -1, 1), "clipping"),
    "one bit": (ONE_BIT, "level"),
    "dither": (np.round(NOISE) / 32768, "level"),
    "far too soft": (voice() * 1e-4, "level"),
    "noise": (0.1 * NOISE, "speech"),
    "bursts of noise": (0.1 * NOISE * (np.sin(2 * np.pi * 3 * TIME) > 0), "speech"),
    "tone": (0.3 * np.sin(2 * np.pi * 440 * TIME), "speech"),
    "hum": (0.01 * sum(np.sin(2 * np.pi * 50 * k * TIME) / k for k in range(1, 6)), "speech"),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_odd_is_named(case: str) -> None:
    wave, kind = ODD[case]
    assert [remark.kind for remark in quality.inspect(wave, RATE)] == [kind]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("gain", [0.02, 0.3, 1.0])
def test_speech_is_not_odd(seed: int, gain: float) -> None:
    for wave in (gain * voice(seed), gain * voice(seed) + 0.01 * gain * NOISE, np.pad(gain * voice(seed), RATE)):
        assert quality.inspect(wave, RATE) == ()


@pytest.mark.parametrize(("voiced", "kinds"), [(0, ["speech"]), (2, ["speech"]), (12, [])])
def test_a_voice_is_found_wherever_it_is_loud(voiced: int, kinds: list[str]) -> None:
    """In a tenth of the louder frames, and not in the loudest."""
    rng = np.random.default_rng(5)
    frames = rng.standard_normal((100, 512)) * np.r_[np.full(50, 0.001), np.full(50, 0.1)][:, None]
    tone = sum(np.sin(2 * np.pi * 150 * k * np.arange(512) / RATE) / k for k in range(1, 12))
    frames[50 : 50 + voiced] = 0.05 * tone  # louder than the quiet half, softer than the noise
    wave = rng.permutation(frames).ravel()
    assert [remark.kind for remark in quality.inspect(wave, RATE)] == kinds


def test_nothing_and_very_little_are_not_odd() -> None:
    assert quality.inspect(np.zeros(0), RATE) == ()
    assert quality.inspect(voice()[4000:4100], RATE) == ()


def test_clipping_is_seen_before_resampling(tmp_path: Path) -> None:
    """And in each channel, where the mean of all is not flat."""
    both = np.stack([np.clip(voice() * 20, -1, 1), 0.3 * voice(1)], axis=1)
    soundfile.write(tmp_path / "a.wav", both, 44100)
    found = audio.read_recording(tmp_path / "a.wav", RATE)
    assert [remark.kind for remark in found.remarks] == ["clipping"] and found.sample_rate == RATE


def test_the_digest_of_samples_knows_copies(tmp_path: Path) -> None:
    """In another lossless container, behind another header, or once more as two channels."""
    wave = np.round(voice() * 32767) / 32768
    for name, content in (("a.wav", wave), ("b.flac", wave), ("c.aiff", wave), ("d.wav", np.stack([wave, wave], 1))):
        soundfile.write(tmp_path / name, content, RATE, subtype="PCM_16")
    soundfile.write(tmp_path / "e.wav", wave, RATE, subtype="PCM_24")
    (tmp_path / "f.wav").write_bytes((tmp_path / "a.wav").read_bytes() + b"LIST\x04\0\0\0INFO")
    paths = sorted(tmp_path.iterdir())
    assert len({audio.content_hash(path) for path in paths}) == 6
    # At any rate that is asked for.
    assert len({audio.read_recording(path, rate).sound for path in paths for rate in (RATE, 8000)}) == 1
    soundfile.write(tmp_path / "g.wav", wave, 22050, subtype="PCM_16")
    soundfile.write(tmp_path / "h.wav", wave[:-1], RATE, subtype="PCM_16")
    assert len({audio.read_recording(path, RATE).sound for path in tmp_path.iterdir()}) == 3


def test_clips_are_counted_once_per_kind() -> None:
    odd = {"a": [Remark("level", "x"), Remark("file", "y"), Remark("file", "z")], "b": [Remark("file", "y")], "c": []}
    assert quality.counts(odd) == {"file": 2, "level": 1}


def test_no_clip_of_the_real_emodb_is_odd(emodb_dir: Path) -> None:
    for path in sorted(emodb_dir.glob("*.wav"))[::20]:
        assert audio.read_recording(path, RATE).remarks == (), path
