"""The encoder encodec."""

import numpy as np
import pytest
import torch
from codec_checkpoints import check_golden, encodec_state, load, save, speechtokenizer_state, tone, whole

from serfuse import encoders
from serfuse.encoders import encodec as family
from serfuse.errors import WeightsError

NAME = "encodec"
FILE = "encodec_24khz-d7cc33bc.th"


@pytest.fixture(scope="module")
def state():
    return whole(encodec_state())


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load(NAME, save(NAME, tmp_path_factory.mktemp(NAME)))


def test_golden(encoder):
    # Recorded from encodec 0.1.1's own SEANetEncoder (n_filters=4, dimension=16, causal, weight_norm; its state loaded
    # with codec_checkpoints.drawn, torch 2.11 on a CPU, fed tone(4801)).
    check_golden(
        encoder,
        shape=(16, 16),
        row=[-0.55029863, -1.26258278, 0.64353687, 0.37411702, 0.58438522, 0.41398966],
        last=[-0.50476611, -0.90897131, 0.17911993, -0.39662963, 0.22466908, -0.21046638],
        mean=0.0161973235,
        std=0.557008170,
    )


def test_the_published_name_promises_the_published_file(state, tmp_path):
    torch.save(state, tmp_path / FILE)
    with pytest.raises(WeightsError, match=r"begins with .* d7cc33bc"):
        load(NAME, tmp_path)


def test_speechtokenizer_is_told_apart(tmp_path):
    torch.save(whole(speechtokenizer_state()), tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="two directions, as SpeechTokenizer"):
        load(NAME, tmp_path / "other.pt")


def test_full_size():
    with torch.device("meta"):
        model = family.build(encoders.preset(NAME))
    preset = encoders.preset(NAME)
    assert sum(weight.numel() for weight in model.encoder.parameters()) == preset.parameters == 7_425_792
    assert sum(weight.numel() for weight in model.parameters()) == preset.config["codec_parameters"] == 14_851_810


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 319, 320, 4801, 9000])
def test_parity_with_transformers(encoder, state, samples):
    """An independent implementation, EncodecModel of transformers, with the same weights."""
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig(num_filters=4, hidden_size=16, codebook_size=16, codebook_dim=16, target_bandwidths=[1.5])
    model = EncodecModel(config).encoder.eval()
    mapped = {
        name.removeprefix("encoder.model.").replace("conv.conv.", "conv."): tensor
        for name, tensor in state.items()
        if name.startswith("encoder.")
    }
    model.load_state_dict({f"layers.{name}": tensor for name, tensor in mapped.items()})
    clip = tone(samples, 24000)
    with torch.inference_mode():
        expected = model(torch.from_numpy(clip)[None, None])[0].T.numpy()
    np.testing.assert_allclose(encoder.frames(clip), expected, rtol=0, atol=2e-6)


@pytest.mark.slow
def test_right_padding_at_a_frame_changes_nothing(encoder):
    clip = tone(9600, 24000)
    padded = np.concatenate([clip, np.zeros(3200, dtype=np.float32)])
    np.testing.assert_allclose(encoder.frames(padded)[:30], encoder.frames(clip), rtol=0, atol=1e-5)
