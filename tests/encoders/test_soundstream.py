"""The encoder soundstream."""

import numpy as np
import pytest
import torch
from codec_checkpoints import check_golden, load, save, soundstream_state, tone, whole

from serfuse import encoders
from serfuse.encoders import soundstream as family
from serfuse.errors import WeightsError

NAME = "soundstream"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load(NAME, save(NAME, tmp_path_factory.mktemp(NAME)))


def test_golden(encoder):
    # Recorded from soundstream 0.0.1 (its Encoder with C=4, D=16, strides=(2, 4, 5, 5), its state loaded with
    # codec_checkpoints.drawn, torch 2.11 on a CPU, fed tone(4801)).
    check_golden(
        encoder,
        shape=(24, 16),
        row=[-1.31513762, 1.24059451, -0.9603672, 1.64504659, -1.75068641, 0.2785897],
        last=[-1.4277674, 0.60592699, -1.82723105, 0.82416636, -2.67619371, 1.70615029],
        mean=0.0170332641,
        std=2.34324887,
    )


def test_other_strides_are_another_model(tmp_path):
    torch.save(whole(soundstream_state(strides=(2, 4, 5, 8))), tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="another shape"):
        load(NAME, tmp_path / "other.pt")


def test_full_size():
    with torch.device("meta"):
        model = family.build(encoders.preset(NAME))
    # soundstream 0.0.1 counts the same for its Encoder.
    assert sum(weight.numel() for weight in model.parameters()) == 13_207_552 == encoders.preset(NAME).parameters


def test_sees_the_past_only(encoder):
    clip = tone(16000)
    np.testing.assert_allclose(encoder.frames(clip[:8000]), encoder.frames(clip)[:40], rtol=0, atol=1e-5)
