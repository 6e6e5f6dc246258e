"""From frames to one vector: shapes, exactness and the papers' sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from serfuse import encoders
from serfuse.encoders.pooling import POOLINGS, check_pooling, pool, vector_size
from serfuse.errors import ConfigError

HUBERT, ENCODEC = encoders.preset("hubert"), encoders.preset("encodec")

FRAMES = npst.arrays(
    np.float32,
    npst.array_shapes(min_dims=2, max_dims=2, max_side=20),
    elements=st.floats(-1e4, 1e4, width=32),
)


@given(FRAMES)
def test_shapes_and_finiteness(frames: np.ndarray) -> None:
    count, size = frames.shape
    expected = {"time": size, "mean-std": 2 * size, "paper": size}
    for pooling in POOLINGS:
        vector = pool(frames, pooling, HUBERT)
        assert vector.shape == (expected[pooling],) and vector.dtype == np.float32 and np.isfinite(vector).all()
    assert pool(frames, "paper", ENCODEC).shape == (count,)


@given(FRAMES, st.randoms())
def test_order_and_repetition_of_frames_do_not_matter(frames: np.ndarray, random) -> None:
    order = list(range(len(frames)))
    random.shuffle(order)
    for pooling in ("time", "mean-std"):
        vector = pool(frames, pooling, HUBERT)
        np.testing.assert_allclose(pool(frames[order], pooling, HUBERT), vector, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(pool(np.tile(frames, (3, 1)), pooling, HUBERT), vector, rtol=1e-5, atol=1e-3)


@given(FRAMES)
def test_one_frame_and_constant_frames_have_no_deviation(frames: np.ndarray) -> None:
    size = frames.shape[1]
    one = pool(frames[:1], "mean-std", HUBERT)
    np.testing.assert_array_equal(one, np.concatenate([frames[0], np.zeros(size, np.float32)]))
    constant = pool(np.repeat(frames[:1], 7, axis=0), "mean-std", HUBERT)
    np.testing.assert_allclose(constant[size:], 0, atol=1e-8 * max(1, np.abs(frames[0]).max()))


def test_values() -> None:
    frames = np.array([[1.0, 10.0], [3.0, 50.0]], np.float32)
    np.testing.assert_array_equal(pool(frames, "time", HUBERT), [2, 30])
    np.testing.assert_array_equal(pool(frames, "mean-std", HUBERT), [2, 30, 1, 20])
    np.testing.assert_array_equal(pool(frames, "paper", HUBERT), [2, 30])
    np.testing.assert_array_equal(pool(frames, "paper", ENCODEC), [5.5, 26.5])


def test_sums_do_not_lose_digits() -> None:
    # In float32 the deviation of 1000 + noise over 20,000 frames comes out 0.3 % off.
    frames = (1000 + np.random.RandomState(0).standard_normal((20_000, 2))).astype(np.float32)
    exact = frames.astype(np.float64)
    np.testing.assert_allclose(pool(frames, "mean-std", HUBERT)[2:], exact.std(axis=0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 5), (300, 1), (300, 7), (9000, 3)])
def test_a_mean_is_that_of_the_frames_in_float64_to_the_digit(shape) -> None:
    """However they lie in memory."""
    frames = (1000 + np.random.RandomState(0).standard_normal(shape)).astype(np.float32)
    for laid in (frames, np.asfortranarray(frames), frames[::-1]):
        expected = laid.astype(np.float64).mean(axis=0).astype(np.float32)
        np.testing.assert_array_equal(pool(laid, "time", HUBERT), expected)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,), (2, 3, 4)])
def test_what_is_no_matrix_of_frames(shape) -> None:
    with pytest.raises(ValueError, match=r"shape \(T, D\)"):
        pool(np.zeros(shape), "time", HUBERT)


def test_unknown_pooling() -> None:
    for call in (check_pooling, lambda name: pool(np.ones((2, 2)), name, HUBERT), lambda n: vector_size(HUBERT, n)):
        with pytest.raises(ConfigError, match=r"Unknown pooling 'max'\. Choose one of: time, paper, mean-std"):
            call("max")


# What HYFuse and PARROT print (their tables of representations).
PAPERS = {
    "wavlm": 768,
    "wav2vec2": 768,
    "hubert": 768,
    "unispeech-sat": 768,
    "mms-1b": 1280,
    "xvector": 512,
    "audiomamba-tiny": 960,
    "audiomamba-small": 1920,
    "audiomamba-base": 3840,
    "encodec": 375,
    "dac": 251,
    "speechtokenizer": 250,
    "soundstream": 256,
}


@pytest.mark.parametrize("name", encoders.names())
def test_sizes_of_the_presets(name) -> None:
    preset = encoders.preset(name)
    assert vector_size(preset, "time") == preset.vector_size
    assert vector_size(preset, "mean-std") == 2 * preset.vector_size
    paper = vector_size(preset, "paper")
    assert paper == PAPERS.get(name, preset.vector_size)
    assert preset.paper_vector_size == PAPERS.get(name)
    seconds = vector_size(preset, "paper", 9.0)
    # Only where the mean is over channels does the length of the clips show.
    expected = {"encodec": 675, "dac": 451, "speechtokenizer": 450}
    assert seconds == expected.get(name, paper)
    assert vector_size(preset, "paper", 5.0) == paper
