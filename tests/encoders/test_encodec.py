"""The encoder encodec."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import assert_alike_side_by_side
from codec_checkpoints import check_golden, encodec_state, load, save, speechtokenizer_state, tone, whole
from safetensors.torch import load_file

from serfuse import encoders
from serfuse.encoders import encodec as family
from serfuse.errors import ConfigError, WeightsError

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


# --- as transformers publishes it: facebook/encodec_24khz -----------------------------------------------------


@pytest.fixture(scope="module")
def theirs():
    """A small EncodecModel of transformers, with random weights and codebooks."""
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig(
        num_filters=4,
        hidden_size=16,
        codebook_size=32,
        codebook_dim=16,
        target_bandwidths=[1.5, 3.0],
        upsampling_ratios=[8, 5, 4, 2],
    )
    model = EncodecModel(config).eval()
    generator = np.random.RandomState(5)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(torch.from_numpy(0.05 * generator.standard_normal(tuple(parameter.shape)).astype("f")))
        for layer in model.quantizer.layers:
            layer.codebook.embed.copy_(torch.from_numpy(generator.standard_normal((32, 16)).astype("f") * 0.3))
    return model


@pytest.fixture(scope="module")
def folder(theirs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encodec_24khz")
    theirs.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("lengths", [(4801, 9000, 8999, 4800, 6399, 6401), (2560, 2561), (9000, 319, 1)])
def test_clips_of_different_length_share_a_pass_as_they_are_alone(encoder, lengths):
    clips = [tone(9000, 24000)[-length:] for length in lengths]
    assert encoder.pads
    for clip, together in zip(clips, encoder.frames_batch(clips), strict=True):
        np.testing.assert_allclose(together, encoder.frames(clip), rtol=0, atol=5e-6)


def _encoded(model, clip: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return model.encoder(torch.from_numpy(clip)[None, None])


def _former_names(state: dict) -> dict:
    """As torch wrote weight norm until 2023, and the hub's file has it."""
    former = {}
    for name, tensor in state.items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        former[name.replace("parametrizations.weight.original1", "weight_v")] = tensor
    return former


@pytest.mark.parametrize("form", ["folder", "safetensors", "safetensors alone", "bin", "bin, former names", "hub"])
def test_every_form_of_transformers_gives_its_frames(theirs, folder, tmp_path, nowhere, form):
    state = load_file(folder / "model.safetensors")
    assert any("parametrizations" in name for name in state)
    if form == "folder":
        given: Path | str = folder
    elif form == "safetensors":
        given = folder / "model.safetensors"
    elif form == "safetensors alone":
        given = Path(shutil.copy(folder / "model.safetensors", tmp_path / "mine.safetensors"))
    elif form == "hub":
        snapshot = tmp_path / "hub" / "models--facebook--encodec_24khz" / "snapshots" / ("c" * 40)
        shutil.copytree(folder, snapshot)
        given = f"hub:facebook/encodec_24khz@{'c' * 40}"
    else:
        given = tmp_path / "pytorch_model.bin"
        torch.save(state if form == "bin" else _former_names(state), given)
    encoder = load(NAME, given)
    assert encoder.preset.vector_size == 16
    if form == "hub":
        assert encoder.weights_id == given
    for samples in (1, 321, 4801):
        clip = tone(samples, 24000)
        expected = _encoded(theirs, clip)[0].T.numpy()
        np.testing.assert_allclose(encoder.frames(clip), expected, rtol=0, atol=2e-6)


def test_config_and_weights_both_count(folder, tmp_path):
    alone = Path(shutil.copy(folder / "model.safetensors", tmp_path))
    assert load(NAME, alone).weights_id != load(NAME, folder).weights_id
    assert encoders.weights_status(NAME, folder) == (True, str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "dac"}, "model_type is 'dac', expected 'encodec'"),
        ({"sampling_rate": 48000}, "sampling_rate is 48000, expected 24000"),
        ({"upsampling_ratios": [8, 5, 4, 4]}, "upsampling_ratios is"),
        ({"use_causal_conv": False}, "use_causal_conv is False, expected True"),
        ({"normalize": True}, "normalize is True, expected False"),
        ({"audio_channels": 2}, "audio_channels is 2, expected 1"),
        ({"transformers_weights": "other.bin"}, "transformers_weights names other weights"),
    ],
)
def test_other_encodecs_are_refused(folder, tmp_path, change, message):
    shutil.copy(folder / "model.safetensors", tmp_path)
    settings = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, **change}))
    with pytest.raises(WeightsError, match=message):
        load(NAME, tmp_path)


@pytest.mark.parametrize("number", [1, 3, "all"])
def test_quantised_as_transformers_quantises(theirs, folder, number):
    clip = tone(9000, 24000)
    encoder = load(NAME, folder, options={"codebooks": number})
    count = theirs.config.num_quantizers if number == "all" else number
    assert encoder.options == {"codebooks": count}
    with torch.inference_mode():
        codes = theirs.quantizer.encode(_encoded(theirs, clip))[:count]
        expected = theirs.quantizer.decode(codes)[0].T.numpy()
    frames = encoder.frames(clip)
    np.testing.assert_allclose(frames, expected, rtol=0, atol=1e-5)
    assert not np.allclose(frames, load(NAME, folder).frames(clip), atol=1e-3)
    alone, beside = encoder.frames_batch([clip, clip[::-1]])
    np.testing.assert_array_equal(alone, frames)
    np.testing.assert_array_equal(beside, encoder.frames(clip[::-1]))


def test_codebooks_that_are_not_there(theirs, folder, tmp_path):
    assert load(NAME, folder).options == {}, "the continuous output is what keys of earlier versions mean"
    have = theirs.config.num_quantizers
    with pytest.raises(ConfigError, match=f"encodec has {have} codebooks, got codebooks={have + 1}"):
        load(NAME, folder, options={"codebooks": have + 1})
    for value in ("some", -1, True, 1.5, "\u00b2"):
        with pytest.raises(ConfigError, match=r"option codebooks of encodec is 0 .*or all; got"):
            load(NAME, folder, options={"codebooks": value})
    torch.save(whole(encodec_state()), tmp_path / "x.pt")  # its one codebook has vectors of four numbers, not of 16
    with pytest.raises(WeightsError, match=r"has shape \(8, 4\), expected vectors of 16 numbers"):
        load(NAME, tmp_path / "x.pt", options={"codebooks": "all"})


def test_convolutions_do_without_cudnn_and_the_lstm_with_it(encoder):
    """Its first algorithm takes gigabytes for seconds of audio; a plain LSTM would take a launch for every frame."""
    from torch.utils._python_dispatch import TorchDispatchMode

    found: dict[str, set[bool]] = {}

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            found.setdefault(function.overloadpacket.__name__, set()).add(torch.backends.cudnn.enabled)
            return function(*args, **(kwargs or {}))

    with Watch():
        encoder.frames(tone(3000, 24000))
    assert found["conv1d"] == {False} and found["lstm"] == {True}
    assert torch.backends.cudnn.enabled


def test_passes_side_by_side_give_what_each_gives_alone(encoder):
    assert encoder.passes_at_once == (2 if torch.get_num_threads() > 1 else 1)
    clips = [tone(4801 + 640 * number) for number in range(16)]
    assert_alike_side_by_side(encoder, clips)
