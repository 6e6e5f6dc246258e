"""The log-mel spectrogram against librosa's own function and against arithmetic."""

import numpy as np
import pytest
from checkpoints import speechlike

from serfuse import encoders
from serfuse.encoders import LoadRequest
from serfuse.encoders.numba_cache import import_librosa
from serfuse.encoders.pooling import pool
from serfuse.errors import AudioError, ConfigError, WeightsError


def load(**options):
    return encoders.load("logmel", LoadRequest(options=options))


@pytest.mark.parametrize("mels", [64, 80])
def test_is_librosas_mel_spectrogram(mels) -> None:
    clip = speechlike(16000)
    power = import_librosa().feature.melspectrogram(
        y=clip, sr=16000, n_fft=400, hop_length=160, n_mels=mels, center=False
    )
    frames = load(mels=mels).frames(clip)
    assert frames.shape == (98, 2 * mels) and frames.dtype == np.float32
    np.testing.assert_allclose(frames[:, :mels], np.log(power.T + 1e-6), atol=1e-5)
    np.testing.assert_array_equal(load(mels=mels, change=False).frames(clip), frames[:, :mels])


def test_the_second_half_is_the_absolute_slope() -> None:
    # 20 dB a second in power: ln(10) * 2 per second, a hundredth of it per frame.
    time = np.arange(16000) / 16000
    tone = 0.02 * 10 ** (time) * np.sin(2 * np.pi * 1000 * time)
    encoder = load()
    rising, falling = (encoder.frames(clip.astype(np.float32)) for clip in (tone, tone[::-1]))
    band = rising[50, :80].argmax()
    np.testing.assert_allclose(rising[10:-10, 80 + band], np.log(10) * 2 / 100, rtol=0.02)
    np.testing.assert_allclose(falling[10:-10, 80 + band], np.log(10) * 2 / 100, rtol=0.02)


@pytest.mark.parametrize("hertz", [250, 1000, 4000])
def test_a_tone_is_in_its_band(hertz) -> None:
    frames = load().frames(np.sin(2 * np.pi * hertz * np.arange(8000) / 16000).astype(np.float32))
    centres = import_librosa().mel_frequencies(n_mels=82, fmax=8000)[1:-1]
    found = frames[:, :80].mean(axis=0).argmax()
    assert abs(found - np.abs(centres - hertz).argmin()) <= 1


def test_frames_stay_within_the_clip() -> None:
    encoder = load()
    assert encoder.frames(speechlike(400)).shape == (1, 160)
    assert encoder.frames(speechlike(559)).shape == (1, 160)
    assert encoder.frames(speechlike(560)).shape == (2, 160)
    with pytest.raises(AudioError, match="at least 400"):
        encoder.frames(speechlike(399))
    clip = speechlike(16000)
    np.testing.assert_array_equal(encoder.frames(clip[:8000])[:30], encoder.frames(clip)[:30])


def test_silence_is_the_floor() -> None:
    frames = load().frames(np.zeros(4000, np.float32))
    np.testing.assert_allclose(frames[:, :80], np.log(1e-6), rtol=1e-6)
    assert np.abs(frames[:, 80:]).max() < 1e-6


def test_sizes_follow_the_options() -> None:
    for options, size in (({}, 160), ({"mels": 64}, 128), ({"change": False}, 80)):
        encoder = load(**options)
        frames = encoder.frames(speechlike(4000))
        assert encoder.preset.vector_size == size == frames.shape[1]
        assert pool(frames, "mean-std", encoder.preset).shape == (2 * size,)
        assert encoder.options == {"mels": 80, "change": True, **options}  # they are part of the key
        assert encoder.weights_id == "none"


def test_what_it_does_not_have() -> None:
    with pytest.raises(ConfigError, match="64 or 80 mels, got mels=13"):
        load(mels=13)
    with pytest.raises(ConfigError, match="true or false, got 'yes'"):
        load(change="yes")
    with pytest.raises(ConfigError, match=r"no option window\. Its options: mels, change"):
        load(window=3)
    with pytest.raises(WeightsError, match="has no weights, so --weights random does not apply"):
        encoders.load("logmel", LoadRequest(weights="random"))
    with pytest.raises(ConfigError, match="no layers"):
        encoders.load("logmel", LoadRequest(layer="1"))
    with pytest.raises(ConfigError, match="computes in float32"):
        encoders.load("logmel", LoadRequest(dtype="float16"))
