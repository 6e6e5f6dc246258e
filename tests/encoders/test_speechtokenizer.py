"""The encoder speechtokenizer."""

import numpy as np
import pytest
import torch
from codec_checkpoints import check_golden, encodec_state, load, save, tone, whole

from serfuse import encoders
from serfuse.encoders import speechtokenizer as family
from serfuse.errors import WeightsError

NAME = "speechtokenizer"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load(NAME, save(NAME, tmp_path_factory.mktemp(NAME)))


def test_golden(encoder):
    # Recorded from speechtokenizer 1.0.1 (its SEANetEncoder with n_filters=4, dimension=16, ratios=[8, 5, 4, 2],
    # lstm=2, bidirectional=True, its state loaded with codec_checkpoints.drawn, torch 2.11 on a CPU, fed tone(4801)).
    check_golden(
        encoder,
        shape=(16, 16),
        row=[-0.34346104, 0.02634943, -0.07872843, -0.46225691, 0.14369598, -0.29926246],
        last=[-0.64013374, 0.39000714, -0.00593898, -0.28426188, 0.23934543, -0.33924764],
        mean=-0.076429262,
        std=0.452754205,
    )


def test_encodec_is_told_apart(tmp_path):
    torch.save(whole(encodec_state()), tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="one direction, as EnCodec"):
        load(NAME, tmp_path / "other.pt")


@pytest.mark.slow
def test_full_size():
    with torch.device("meta"):
        model = family.build(encoders.preset(NAME))
    # speechtokenizer 1.0.1 counts the same for its SEANetEncoder.
    assert sum(weight.numel() for weight in model.parameters()) == 67_705_856 == encoders.preset(NAME).parameters


def test_sees_the_whole_clip(encoder):
    clip = tone(16000)
    changed = clip.copy()
    changed[-320:] = 0
    assert np.abs(encoder.frames(changed)[0] - encoder.frames(clip)[0]).max() > 0
