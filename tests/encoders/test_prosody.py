"""Prosodic contours on sounds whose pitch, level and voice are known."""

import numpy as np
import pytest
from checkpoints import speechlike
from scipy.signal import lfilter, sawtooth

from serfuse import encoders
from serfuse.encoders import LoadRequest
from serfuse.encoders.prosody import CONTOURS
from serfuse.errors import AudioError, ConfigError, WeightsError

TIME = np.arange(16000) / 16000

# Means over `speechlike(16000)`, recorded from this code with librosa 0.11 and numpy 2.4: a change shows.
GOLDEN = {
    "f0": 25.1116,
    "f0_change": 0.5685,
    "voiced": 0.9406,
    "voicing_probability": 0.1228,
    "level": -27.4341,
    "level_change": 1.2299,
    "hnr": 8.7031,
    "jitter": 0.0329,
    "shimmer": 0.8266,
    "h1_h2": 6.3508,
    "alpha_ratio": 18.3661,
    "hammarberg": 40.3238,
    "slope_low": 2.9258,
    "slope_mid": -1.832,
    "centroid": 4.151,
    "bandwidth": 4.776,
    "rolloff": 4.7193,
    "flatness": -23.0042,
    "onset": 1.3582,
    "rate": 4.7438,
}


def saw(hertz: np.ndarray | float, time: np.ndarray = TIME) -> np.ndarray:
    """A sawtooth of constant or of changing frequency."""
    return 0.3 * sawtooth(2 * np.pi * np.cumsum(np.broadcast_to(hertz, time.shape)) / 16000)


@pytest.fixture(scope="module")
def contours():
    encoder = encoders.load("prosody")

    def measure(waveform: np.ndarray) -> dict[str, np.ndarray]:
        frames = encoder.frames(waveform.astype(np.float32))
        assert frames.dtype == np.float32 and np.isfinite(frames).all()
        assert frames.shape == (1 + len(waveform) // 160, 26)
        return dict(zip(CONTOURS, frames.T, strict=True))

    return measure


def hertz(contour: dict[str, np.ndarray]) -> np.ndarray:
    return 27.5 * 2 ** (contour["f0"] / 12)


@pytest.mark.parametrize("pitch", [70, 110, 200, 320, 450])
def test_pitch_of_a_sawtooth(pitch, contours) -> None:
    found = contours(saw(pitch))
    assert found["voiced"].mean() > 0.95
    assert np.median(hertz(found)) == pytest.approx(pitch, rel=0.02)
    assert found["jitter"].mean() < 0.003 and found["shimmer"].mean() < 0.1
    assert found["voiced_run"].max() == pytest.approx(1.0, abs=0.05)
    assert found["hnr"].mean() > 8


def test_pitch_follows_a_glide_and_its_slope(contours) -> None:
    # One octave up in a second: 12 semitones over 100 frames.
    rising, falling = contours(saw(100 * 2**TIME)), contours(saw(200 * 2**-TIME))
    middle = slice(10, 90)
    np.testing.assert_allclose(hertz(rising)[middle], 100 * 2 ** (np.arange(101) / 100)[middle], rtol=0.02)
    assert rising["f0_slope"][middle].mean() == pytest.approx(0.12, abs=0.01)
    assert falling["f0_slope"][middle].mean() == pytest.approx(-0.12, abs=0.01)
    assert falling["f0_change"][middle].mean() == pytest.approx(0.12, abs=0.01)


def test_a_shaken_voice_has_jitter_and_a_breathy_one_noise(contours) -> None:
    random = np.random.RandomState(0)
    steady = contours(saw(150))
    # The period changes every 10 ms by 3 %.
    shaken = contours(saw(np.repeat(150 * (1 + 0.03 * random.standard_normal(100)), 160)))
    assert shaken["jitter"].mean() > 5 * steady["jitter"].mean()
    breathy = contours(saw(150) + 0.1 * random.standard_normal(16000))
    assert breathy["hnr"].mean() < steady["hnr"].mean() - 5
    trembling = contours(saw(150) * np.repeat(1 + 0.3 * random.standard_normal(50), 320))
    assert trembling["shimmer"].mean() > 0.2 > 10 * steady["shimmer"].mean()


def test_noise_and_silence_have_no_pitch(contours) -> None:
    noise = contours(0.1 * np.random.RandomState(0).standard_normal(16000))
    assert noise["voiced"].mean() < 0.05 and noise["hnr"].mean() < 0
    silence = contours(np.zeros(16000))
    for name in ("voiced", "jitter", "shimmer", "h1_h2", "f0_change", "rate", "onset", "level_change"):
        assert not silence[name].any(), name
    np.testing.assert_allclose(silence["level"], -100)
    # The middle of the range stands for a pitch that is not there.
    np.testing.assert_allclose(hertz(silence), np.sqrt(60 * 500), rtol=1e-4)


def test_level_in_decibels_of_full_scale(contours) -> None:
    sine = np.sin(2 * np.pi * 200 * TIME)
    full, tenth = contours(sine), contours(0.1 * sine)
    assert full["level"][10:-10].mean() == pytest.approx(10 * np.log10(0.5), abs=0.1)
    np.testing.assert_allclose(tenth["level"][10:-10], full["level"][10:-10] - 20, atol=0.01)
    rising = contours(sine * 10 ** (TIME - 1))  # 20 dB in 100 frames
    assert rising["level_slope"][10:-10].mean() == pytest.approx(0.2, abs=0.02)


# Quiet bins and bands reach the floor of -100 dB, which does not move with the level.
SEES_THE_FLOOR = {"slope_low": 0.3, "slope_mid": 0.1, "flatness": 2, "onset": 1, "rate": 1.5}


def test_pitch_and_voice_are_deaf_to_loudness(contours) -> None:
    clip = speechlike(16000)
    loud, soft = contours(clip), contours(0.25 * clip)
    for name in CONTOURS:
        shift = 20 * np.log10(4) if name == "level" else 0
        atol = SEES_THE_FLOOR.get(name, 0.005)
        np.testing.assert_allclose(loud[name].mean() - soft[name].mean(), shift, atol=atol, err_msg=name)


def test_bursts_are_counted(contours) -> None:
    time = np.arange(48000) / 16000
    found = contours(saw(150.0, time) * (np.sin(2 * np.pi * 4 * time) > 0))
    assert found["rate"][50:-50].mean() == pytest.approx(4, abs=0.7)
    assert 0.2 < found["quiet"].mean() < 0.6 and 0.4 < found["voiced"].mean() < 0.85


def test_a_tilted_spectrum_shows(contours) -> None:
    bright = contours(saw(150))
    dark = contours(lfilter([1 - 0.95], [1, -0.95], saw(150)))
    for name in ("centroid", "rolloff"):
        assert dark[name].mean() < bright[name].mean() - 0.3, name
    for name in ("alpha_ratio", "hammarberg"):
        assert dark[name].mean() > bright[name].mean() + 3, name
    octave = contours(np.sin(2 * np.pi * 1000 * TIME))["centroid"][10:-10]
    np.testing.assert_allclose(octave, 4, atol=0.02)  # 1000 Hz is four octaves above 62.5
    # The first harmonic 20 dB above the second.
    two = np.sin(2 * np.pi * 200 * TIME) + 0.1 * np.sin(2 * np.pi * 400 * TIME)
    assert np.median(contours(two)["h1_h2"]) == pytest.approx(20, abs=1.5)


def test_golden_values(contours) -> None:
    found = contours(speechlike(16000))
    means = {name: float(found[name].mean()) for name in GOLDEN}
    assert means == pytest.approx(GOLDEN, rel=2e-3, abs=2e-3)


def test_shortest_clip(contours) -> None:
    assert len(contours(saw(200)[:1024])["f0"]) == 7
    encoder = encoders.load("prosody")
    with pytest.raises(AudioError, match="at least 1024"):
        encoder.frames(np.zeros(1023, np.float32))
    with pytest.raises(AudioError, match="NaN"):
        encoder.frames(np.full(2000, np.nan, np.float32))


def test_a_clip_is_the_same_whatever_came_before() -> None:
    encoder = encoders.load("prosody")
    clip = speechlike(8000)
    first = encoder.frames(clip)
    encoder.frames(saw(300))
    np.testing.assert_array_equal(encoder.frames(clip), first)


@pytest.mark.parametrize("offset", [0.02, -0.3])
def test_a_direct_current_offset_is_no_sound(offset: float, contours) -> None:
    """Two percent beside soft speech hid all of its pitch; zeros behind the clip are padding, not part of it."""
    clip = 0.1 * speechlike(16000)
    plain, shifted = contours(clip), contours(clip + offset)
    padded, both = (contours(np.pad(wave, (0, 16000))) for wave in (clip, clip + offset))
    for one, other in ((plain, shifted), (padded, both)):
        assert one["voiced"].mean() > 0.4
        np.testing.assert_allclose(other["voiced"].mean(), one["voiced"].mean(), atol=0.02)
        np.testing.assert_allclose(np.median(other["f0"]), np.median(one["f0"]), atol=0.02)
        np.testing.assert_allclose(other["level"].mean(), one["level"].mean(), atol=0.5)


def test_the_offset_is_kept_as_before_where_asked_and_left_alone_where_it_is_none() -> None:
    clip = speechlike(8000)
    before = encoders.load("prosody", LoadRequest(options={"offset": "kept"}))
    now = encoders.load("prosody")
    assert before.options == {} and now.options == {"offset": "removed"}
    np.testing.assert_array_equal(before.frames(clip), now.frames(clip))
    moved = (clip + 0.5).astype(np.float32)
    assert before.frames(moved)[:, 6].mean() > now.frames(moved)[:, 6].mean() + 5


@pytest.mark.slow
def test_long_audio_in_blocks_is_what_it_is_in_one() -> None:
    """Half a minute fits one block; this has two, and the middle of it must not show where they meet."""
    encoder = encoders.load("prosody")
    clip = np.tile(speechlike(16000), 32)
    whole, last = encoder.frames(clip), encoder.frames(clip[16000 * 10 :])
    assert whole.shape == (3201, 26)
    # Away from the ends, the second piece is one block; `quiet` knows of the whole clip.
    np.testing.assert_allclose(whole[1500:3100], last[500:2100], atol=1e-4)


def test_what_it_does_not_have() -> None:
    with pytest.raises(ConfigError, match=r"no option mels\. Its options: offset"):
        encoders.load("prosody", LoadRequest(options={"mels": 80}))
    with pytest.raises(ConfigError, match="offset of prosody is removed or kept, got 'half'"):
        encoders.load("prosody", LoadRequest(options={"offset": "half"}))
    with pytest.raises(WeightsError, match="has no weights"):
        encoders.load("prosody", LoadRequest(weights="random"))
    assert len(CONTOURS) == len(set(CONTOURS)) == encoders.preset("prosody").vector_size
