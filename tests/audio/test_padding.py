"""Padding of waveforms, and the pad policies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serfuse.audio import padding
from serfuse.audio.padding import PadPolicy
from serfuse.errors import ConfigError


@given(st.integers(1, 300), st.integers(0, 400))
def test_padding_adds_zeros_at_the_end_or_cuts_there(n: int, samples: int) -> None:
    wave = np.arange(1, n + 1, dtype="float32")
    found = padding.pad(wave, samples)
    assert len(found) == samples
    np.testing.assert_array_equal(found[: min(n, samples)], wave[: min(n, samples)])
    assert (found[n:] == 0).all()


@pytest.mark.parametrize(
    ("text", "name", "samples"), [("none", "none", 1234), ("5", "5.000", 80000), ("0.1234", "0.123", 1968)]
)
def test_pad_policies(text: str, name: str, samples: int) -> None:
    policy = PadPolicy.parse(text)
    assert policy.name == name and policy.samples(1234, 16000) == samples
    assert PadPolicy.parse(policy.name) == policy


def test_max_is_the_longest_clip_and_never_cuts() -> None:
    policy = PadPolicy.parse("max")
    with pytest.raises(ValueError, match="resolve"):
        policy.samples(10, 16000)
    known = policy.resolve(5.005)
    assert known.name == "max:5.005" and PadPolicy.parse(known.name) == known
    assert known.samples(10, 16000) == 80080
    assert known.samples(90000, 16000) == 90000


@pytest.mark.parametrize("text", ["", "0", "-1", "601", "nan", "inf", "long", "max:0"])
def test_a_bad_pad_policy_lists_the_choices(text: str) -> None:
    with pytest.raises(ConfigError, match="Choose none, max"):
        PadPolicy.parse(text)


@pytest.mark.parametrize(
    ("wave", "samples", "says"),
    [(np.ones(3), -1, "must not be negative, got -1"), (np.ones((1, 3)), 4, r"got \(1, 3\)")],
)
def test_what_cannot_be_padded(wave: np.ndarray, samples: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        padding.pad(wave, samples)
