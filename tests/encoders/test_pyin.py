"""Probabilistic YIN against librosa's, and on tones of known pitch."""

import numpy as np
import pytest
from checkpoints import speechlike

from serfuse.encoders.numba_cache import import_librosa
from serfuse.encoders.pyin import F0_MAX, F0_MIN, autocorrelation, pyin

RATE, HOP, FRAME = 16000, 160, 1024


def framed(signal: np.ndarray) -> np.ndarray:
    padded = np.pad(np.asarray(signal, np.float64), FRAME // 2)
    return np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]


def signals() -> dict[str, np.ndarray]:
    random, time = np.random.RandomState(0), np.arange(2 * RATE) / RATE
    glide = np.sin(2 * np.pi * np.cumsum(80 * 2 ** (1.2 * time)) / RATE)
    speech = speechlike(2 * RATE)
    jumps = np.sin(2 * np.pi * np.cumsum(np.repeat([70.0, 480, 70, 300], RATE // 2)) / RATE)
    clicks = speech.copy()
    clicks[-FRAME // 2 % HOP :: 7 * HOP] += 8 * speech.std()
    return {
        "speech": speech,
        "frames that start on a click": clicks,
        "noisy": speech + 0.3 * speech.std() * random.standard_normal(len(speech)),
        "in silence": np.concatenate([np.zeros(RATE // 2), speech[:RATE], np.zeros(RATE // 2)]),
        "glide": glide + 0.01 * random.standard_normal(len(glide)),
        "jumps further than a voice can": jumps + 0.001 * random.standard_normal(len(jumps)),
        "noise": random.standard_normal(RATE),
        "zeros": np.zeros(RATE // 2),
    }


@pytest.mark.parametrize("name", list(signals()))
def test_the_path_is_librosas(name: str) -> None:
    signal = signals()[name]
    expected, voiced, probability = import_librosa().pyin(
        np.pad(np.asarray(signal, np.float64), FRAME // 2),
        fmin=F0_MIN,
        fmax=F0_MAX,
        sr=RATE,
        frame_length=FRAME,
        hop_length=HOP,
        resolution=0.25,
        n_thresholds=50,
        center=False,
    )
    found = pyin(framed(signal), RATE, HOP)
    np.testing.assert_array_equal(found[1], voiced)
    np.testing.assert_allclose(found[0][voiced], expected[voiced], rtol=1e-12)
    np.testing.assert_allclose(found[2], probability, rtol=0, atol=1e-9)


@pytest.mark.parametrize("pitch", [63.0, 120.0, 250.0, 470.0])
def test_a_tone_is_found_on_the_nearest_pitches_of_the_grid(pitch: float) -> None:
    tone = np.sin(2 * np.pi * pitch * np.arange(RATE // 2) / RATE)
    frequency, voiced, _ = pyin(framed(tone), RATE, HOP)
    inner = slice(5, -5)
    assert voiced[inner].all()
    assert np.abs(12 * np.log2(frequency[inner] / pitch)).max() < 0.26  # a grid of quarters of a semitone


def test_autocorrelation_is_the_sum_of_products() -> None:
    frames = np.random.RandomState(0).standard_normal((2, 100))
    expected = [[frame[: 100 - lag] @ frame[lag:] for lag in range(30)] for frame in frames]
    np.testing.assert_allclose(autocorrelation(frames, 30), expected, atol=1e-11)
