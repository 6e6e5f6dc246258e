"""The encoder speechtokenizer."""

from pathlib import Path

import codec_laws as laws
import numpy as np
import pytest
import torch
from codec_checkpoints import encodec_state, speechtokenizer_state, tone, whole

from serfuse import encoders
from serfuse.encoders import speechtokenizer as family
from serfuse.errors import WeightsError

NAME = "speechtokenizer"
FILE = "SpeechTokenizer.pt"


@pytest.fixture(scope="module")
def state():
    return whole(speechtokenizer_state())


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp(NAME) / "small.pt"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return laws.load(NAME, checkpoint)


def test_golden(encoder):
    # Recorded from speechtokenizer 1.0.1 (its SEANetEncoder with n_filters=4, dimension=16, ratios=[8, 5, 4, 2],
    # lstm=2, bidirectional=True, its state loaded with codec_checkpoints.drawn, torch 2.11 on a CPU, fed tone(4801)).
    laws.check_golden(
        encoder,
        shape=(16, 16),
        row=[-0.34346104, 0.02634943, -0.07872843, -0.46225691, 0.14369598, -0.29926246],
        last=[-0.64013374, 0.39000714, -0.00593898, -0.28426188, 0.23934543, -0.33924764],
        mean=-0.076429262,
        std=0.452754205,
    )


def test_small_checkpoint_tells_its_own_size(encoder, checkpoint):
    assert encoder.preset.vector_size == 16
    assert encoders.weights_status(NAME, checkpoint) == (True, str(checkpoint.parent))


def test_batch_equals_alone(encoder):
    laws.check_batch_equals_alone(encoder)


def test_shortest(encoder):
    laws.check_shortest(encoder, 1)


def test_paper_size(encoder):
    assert laws.check_paper_size(encoder, 250).shape == (250,)


def test_two_processes(checkpoint):
    laws.check_two_processes(NAME, checkpoint, Path(__file__).parent)


def test_requests(checkpoint, tmp_path, monkeypatch):
    laws.check_requests(NAME, checkpoint, tmp_path, monkeypatch)


def test_wrong_files(state, tmp_path):
    laws.check_state_errors(NAME, state, "wrong.pt", tmp_path, first="encoder.model.0.conv.conv.weight_v")


def test_nothing_in_a_file_is_run(state, tmp_path):
    laws.check_hostile(NAME, state, "hostile.pt", tmp_path)


def test_random_weights():
    laws.check_random_weights(NAME, 1024, lambda seed: laws.load(NAME, "random", seed=seed))


def test_folder_under_the_published_name(state, tmp_path):
    torch.save(state, tmp_path / FILE)
    assert laws.load(NAME, tmp_path).weights_id.startswith("sha256:")


def test_encodec_is_told_apart(tmp_path):
    torch.save(whole(encodec_state()), tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="one direction, as EnCodec"):
        laws.load(NAME, tmp_path / "other.pt")


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
