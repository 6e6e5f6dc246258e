"""The encoder soundstream."""

from pathlib import Path

import codec_laws as laws
import numpy as np
import pytest
import torch
from codec_checkpoints import soundstream_state, tone, whole

from serfuse import encoders
from serfuse.encoders import soundstream as family
from serfuse.errors import WeightsError

NAME = "soundstream"
FILE = "soundstream_variant_naturalspeech2.pt"


@pytest.fixture(scope="module")
def state():
    return whole(soundstream_state())


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp(NAME) / "small.pt"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return laws.load(NAME, checkpoint)


def test_golden(encoder):
    # Recorded from soundstream 0.0.1 (its Encoder with C=4, D=16, strides=(2, 4, 5, 5), its state loaded with
    # codec_checkpoints.drawn, torch 2.11 on a CPU, fed tone(4801)).
    laws.check_golden(
        encoder,
        shape=(24, 16),
        row=[-1.31513762, 1.24059451, -0.9603672, 1.64504659, -1.75068641, 0.2785897],
        last=[-1.4277674, 0.60592699, -1.82723105, 0.82416636, -2.67619371, 1.70615029],
        mean=0.0170332641,
        std=2.34324887,
    )


def test_small_checkpoint_tells_its_own_size(encoder, checkpoint):
    assert encoder.preset.vector_size == 16
    assert encoders.weights_status(NAME, checkpoint) == (True, str(checkpoint.parent))


def test_batch_equals_alone(encoder):
    laws.check_batch_equals_alone(encoder)


def test_shortest(encoder):
    laws.check_shortest(encoder, 2200)


def test_paper_size(encoder):
    # The papers' mean over time of what this codec returns: here 16 channels, at full size 256.
    assert laws.check_paper_size(encoder, 256).shape == (16,)
    assert encoder.frames(tone(80000)).shape == (400, 16)


def test_two_processes(checkpoint):
    laws.check_two_processes(NAME, checkpoint, Path(__file__).parent)


def test_requests(checkpoint, tmp_path, monkeypatch):
    laws.check_requests(NAME, checkpoint, tmp_path, monkeypatch)


def test_wrong_files(state, tmp_path):
    laws.check_state_errors(NAME, state, "wrong.pt", tmp_path, first="encoder.layers.0.conv.weight")


def test_nothing_in_a_file_is_run(state, tmp_path):
    laws.check_hostile(NAME, state, "hostile.pt", tmp_path)


def test_random_weights():
    laws.check_random_weights(NAME, 256, lambda seed: laws.load(NAME, "random", seed=seed))


def test_folder_under_the_published_name(state, tmp_path):
    torch.save(state, tmp_path / FILE)
    assert laws.load(NAME, tmp_path).weights_id.startswith("sha256:")


def test_other_strides_are_another_model(tmp_path):
    torch.save(whole(soundstream_state(strides=(2, 4, 5, 8))), tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="another shape"):
        laws.load(NAME, tmp_path / "other.pt")


def test_full_size():
    with torch.device("meta"):
        model = family.build(encoders.preset(NAME))
    # soundstream 0.0.1 counts the same for its Encoder.
    assert sum(weight.numel() for weight in model.parameters()) == 13_207_552 == encoders.preset(NAME).parameters


def test_sees_the_past_only(encoder):
    clip = tone(16000)
    np.testing.assert_allclose(encoder.frames(clip[:8000]), encoder.frames(clip)[:40], rtol=0, atol=1e-5)
