"""The encoder dac."""

import json
import math
from pathlib import Path

import codec_laws as laws
import numpy as np
import pytest
import torch
import transformers
from codec_checkpoints import drawn, published_names, tone
from torch.nn import functional

from serfuse import encoders
from serfuse.encoders import dac as family
from serfuse.errors import ConfigError, WeightsError

NAME = "dac"
SMALL = {
    "encoder_hidden_size": 4,
    "decoder_hidden_size": 16,
    "n_codebooks": 2,
    "codebook_size": 16,
    "downsampling_ratios": [2, 4, 5, 8],
}


def small_model(**settings):
    model = transformers.DacModel(transformers.DacConfig(**{**SMALL, **settings}))
    state = drawn(published_names(model.encoder))
    # A snake's frequency is positive in practice and divides.
    model.encoder.load_state_dict({k: v.abs() + 0.5 if k.endswith("alpha") else v for k, v in state.items()})
    return model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(NAME)
    small_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return laws.load(NAME, checkpoint)


def test_golden(encoder):
    # Recorded from transformers 5.23's DacModel.encoder itself (torch 2.11, CPU), fed tone(4801) and zeros up to 5120.
    laws.check_golden(
        encoder,
        shape=(16, 64),
        row=[5.76794243, 17.0726395, -10.9274912, 24.2267227, 2.24642539, 17.2500401],
        last=[-3.6616509, 11.9508034, -4.85644102, 8.477004, -0.908733368, 0.451634288],
        mean=0.476358383,
        std=14.2479675,
    )


def _snake(x, alpha):
    return x + torch.sin(alpha * x) ** 2 / (alpha + 1e-9)


def _by_hand(state, x):
    """DAC's encoder from its paper, as plain functions over the checkpoint's tensors."""

    def conv(name, x, **settings):
        return functional.conv1d(x, state[f"{name}.weight"], state[f"{name}.bias"], **settings)

    x = conv("conv1", x, padding=3)
    for number, stride in enumerate(SMALL["downsampling_ratios"]):
        block = f"block.{number}"
        for unit, dilation in ((1, 1), (2, 3), (3, 9)):
            name = f"{block}.res_unit{unit}"
            inner = conv(
                f"{name}.conv1", _snake(x, state[f"{name}.snake1.alpha"]), dilation=dilation, padding=3 * dilation
            )
            x = x + conv(f"{name}.conv2", _snake(inner, state[f"{name}.snake2.alpha"]))
        x = _snake(x, state[f"{block}.snake1.alpha"])
        x = conv(f"{block}.conv1", x, stride=stride, padding=math.ceil(stride / 2))
    return conv("conv2", _snake(x, state["snake1.alpha"]), padding=1)


@pytest.mark.parametrize("samples", [1, 320, 4801, 80000])
def test_against_the_papers_architecture_written_out(encoder, samples):
    state = small_model().encoder.state_dict()
    clip = torch.from_numpy(np.pad(tone(samples), (0, -samples % 512)))
    expected = _by_hand(state, clip[None, None])[0].T.numpy()
    frames = encoder.frames(tone(samples))
    assert frames.shape == expected.shape
    np.testing.assert_allclose(frames, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_filled_up_as_the_feature_extractor_does(encoder):
    extractor = transformers.DacFeatureExtractor()
    padded = extractor(tone(80000), sampling_rate=16000, return_tensors="np")["input_values"]
    assert padded.shape == (1, 1, 80384)
    np.testing.assert_array_equal(encoder.frames(padded[0, 0]), encoder.frames(tone(80000)))


def test_pad_to(checkpoint):
    encoder = laws.load(NAME, checkpoint, options={"pad_to": "320"})
    assert encoder.options == {"pad_to": 320}
    assert len(encoder.frames(tone(80000))) == 250
    alone = laws.load(NAME, checkpoint, options={"pad_to": 1})
    assert len(alone.frames(tone(80000))) == 250
    laws.check_shortest(alone, 319)
    with pytest.raises(ConfigError, match="pad_to of dac is a number of samples"):
        laws.load(NAME, checkpoint, options={"pad_to": "some"})


def test_small_checkpoint_tells_its_own_size(encoder, checkpoint):
    assert encoder.preset.vector_size == 64
    assert encoders.weights_status(NAME, checkpoint) == (True, str(checkpoint))


def test_batch_equals_alone(encoder):
    laws.check_batch_equals_alone(encoder)


def test_shortest(encoder):
    laws.check_shortest(encoder, 1)


def test_paper_size(encoder):
    assert laws.check_paper_size(encoder, 251).shape == (251,)


def test_two_processes(checkpoint):
    laws.check_two_processes(NAME, checkpoint, Path(__file__).parent)


def test_requests(checkpoint, tmp_path, monkeypatch):
    laws.check_requests(NAME, checkpoint, tmp_path, monkeypatch)


def test_pickled_weights_load_without_running_anything(checkpoint, encoder, tmp_path):
    state = small_model().state_dict()
    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
    torch.save({**state, "x": laws.Hostile(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="could not be read"):
        laws.load(NAME, tmp_path)
    assert not (tmp_path / "ran").exists()
    torch.save(state, tmp_path / "pytorch_model.bin")
    np.testing.assert_array_equal(laws.load(NAME, tmp_path).frames(tone(4801)), encoder.frames(tone(4801)))


def test_missing_weights_are_not_drawn(checkpoint, tmp_path):
    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
    state = small_model().state_dict()
    del state["encoder.block.1.conv1.weight"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"1 weights are missing \(encoder\.block\.1\.conv1\.weight\)"):
        laws.load(NAME, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "encodec"}, "model_type is 'encodec', expected 'dac'"),
        ({"sampling_rate": 44100}, "sampling_rate is 44100, expected 16000"),
        ({"downsampling_ratios": [2, 4, 8, 8]}, r"downsampling_ratios is \[2, 4, 8, 8\]"),
    ],
)
def test_other_models_are_refused(checkpoint, tmp_path, change, message):
    settings = json.loads((checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, **change}))
    (tmp_path / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    with pytest.raises(WeightsError, match=message):
        laws.load(NAME, tmp_path)


def test_unreadable(checkpoint, tmp_path):
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"is not the config\.json"):
        laws.load(NAME, tmp_path)
    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
    with pytest.raises(WeightsError, match="could not be read"):
        laws.load(NAME, tmp_path)


@pytest.mark.slow
def test_random_weights():
    laws.check_random_weights(NAME, 1024, lambda seed: laws.load(NAME, "random", seed=seed))


def test_full_size():
    with torch.device("meta"):
        model = family.build(encoders.preset(NAME))
    preset = encoders.preset(NAME)
    assert sum(weight.numel() for weight in model.encoder.parameters()) == preset.parameters == 21_512_768
    assert sum(weight.numel() for weight in model.parameters()) == preset.config["codec_parameters"] == 74_141_697
