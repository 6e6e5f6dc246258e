"""The encoder dac."""

import copy
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from codec_checkpoints import DAC, check_golden, dac_model, load, save, tone
from torch.nn import functional

from serfuse import encoders
from serfuse.encoders import dac as family
from serfuse.errors import AudioError, ConfigError, WeightsError

NAME = "dac"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save(NAME, tmp_path_factory.mktemp(NAME))


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return load(NAME, checkpoint)


@pytest.mark.slow
def test_golden(encoder):
    # Recorded from transformers 5.23's DacModel.encoder itself (torch 2.11, CPU), fed tone(4801) and zeros up to 5120,
    # a multiple of 320 as of 512.
    check_golden(
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
    for number, stride in enumerate(DAC["downsampling_ratios"]):
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


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 320, 4801, 80000])
def test_against_the_papers_architecture_written_out(encoder, samples):
    # In float64: with these weights transformers' own float32 is as far from it as the bound below lets be.
    state = dac_model().encoder.double().state_dict()
    clip = torch.from_numpy(np.pad(tone(samples), (0, -samples % 320))).double()
    expected = _by_hand(state, clip[None, None])[0].T.numpy()
    frames = encoder.frames(tone(samples))
    assert frames.shape == expected.shape
    np.testing.assert_allclose(frames, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize(("hop_length", "filled", "frames"), [(320, 80000, 250), (512, 80384, 251)])
def test_filled_up_as_the_feature_extractor_does(checkpoint, encoder, hop_length, filled, frames):
    """320 is the codec's stride and what Descript's own `preprocess` fills to; 512 the extractor's default."""
    assert encoder.options == {"pad_to": 320}
    extractor = transformers.DacFeatureExtractor(**({} if hop_length == 512 else {"hop_length": hop_length}))
    padded = extractor(tone(80000), sampling_rate=16000, return_tensors="np")["input_values"]
    assert padded.shape == (1, 1, filled)
    got = load(NAME, checkpoint, options={"pad_to": hop_length}).frames(tone(80000))
    assert len(got) == frames
    as_it_is = load(NAME, checkpoint, options={"pad_to": 1})
    np.testing.assert_array_equal(as_it_is.frames(padded[0, 0]), got)


@pytest.mark.slow
def test_pad_to(checkpoint):
    encoder = load(NAME, checkpoint, options={"pad_to": "320"})
    assert encoder.options == {"pad_to": 320}
    assert len(encoder.frames(tone(80000))) == 250
    alone = load(NAME, checkpoint, options={"pad_to": 1})
    assert len(alone.frames(tone(80000))) == 250
    assert alone.preset.min_samples == 319 and len(alone.frames(tone(319))) == 1
    with pytest.raises(AudioError, match="Too short"):
        alone.frames(tone(318))
    for value in ("some", "\u00b2", 0, 1.5, 10**12):
        with pytest.raises(ConfigError, match="pad_to of dac is a number of samples, 1 to 16000"):
            load(NAME, checkpoint, options={"pad_to": value})


def test_the_older_format_loads_too(checkpoint, encoder, tmp_path):
    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
    torch.save(dac_model().state_dict(), tmp_path / "pytorch_model.bin")
    np.testing.assert_array_equal(load(NAME, tmp_path).frames(tone(4801)), encoder.frames(tone(4801)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: None, "1 weights are missing (encoder.block.1.conv1.weight)"),
        (lambda tensor: tensor[:2].clone(), "1 weights are of another shape (encoder.block.1.conv1.weight)"),
        (lambda tensor: tensor / 0, "NaN or infinite numbers in 1 weights (encoder.block.1.conv1.weight)"),
    ],
)
def test_incomplete_or_damaged_weights_are_refused(checkpoint, tmp_path, change, message):
    """transformers would draw what is missing at random."""
    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
    state, name = dac_model().state_dict(), "encoder.block.1.conv1.weight"
    state[name] = change(state[name])
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=re.escape(message)):
        load(NAME, tmp_path)


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
        load(NAME, tmp_path)


def test_unreadable(checkpoint, tmp_path):
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read as JSON"):
        load(NAME, tmp_path)
    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
    with pytest.raises(WeightsError, match="the weights beside it have 7 bytes"):
        load(NAME, tmp_path)
    content = bytearray((checkpoint / "model.safetensors").read_bytes())
    content[8:16] = b"nothing!"  # where its header begins
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="could not be read"):
        load(NAME, tmp_path)


def test_full_size():
    with torch.device("meta"):
        model = family.build(encoders.preset(NAME))
    preset = encoders.preset(NAME)
    assert sum(weight.numel() for weight in model.encoder.parameters()) == preset.parameters == 21_512_768
    assert sum(weight.numel() for weight in model.parameters()) == preset.config["codec_parameters"] == 74_141_697


# --- Descript's own file --------------------------------------------------------------------------------------


def _originals(state: dict) -> dict:
    """The encoder's and the quantiser's tensors as descript-audio-codec 1.0 names them, with weight norm."""
    units = {"snake1": 0, "conv1": 1, "snake2": 2, "conv2": 3}
    modules = {
        "encoder.conv1": "encoder.block.0",
        "encoder.snake1": "encoder.block.5",
        "encoder.conv2": "encoder.block.6",
    }
    for block in range(4):
        theirs, ours = f"encoder.block.{block + 1}.block", f"encoder.block.{block}"
        modules |= {f"{ours}.snake1": f"{theirs}.3", f"{ours}.conv1": f"{theirs}.4"}
        for unit in (1, 2, 3):
            for part, place in units.items():
                modules[f"{ours}.res_unit{unit}.{part}"] = f"{theirs}.{unit - 1}.block.{place}"
    originals = {}
    for name, tensor in state.items():
        module, _, leaf = name.rpartition(".")
        if module.startswith("decoder"):
            continue
        module = modules.get(module, module)
        if leaf == "weight" and not module.endswith("codebook"):
            norm = tensor.flatten(1).norm(dim=1)[:, None, None]
            originals[f"{module}.weight_g"], originals[f"{module}.weight_v"] = norm, 3.0 * tensor
        else:
            originals[f"{module}.{leaf}"] = tensor
    return originals


_KWARGS = {
    "encoder_dim": 4,
    "encoder_rates": [2, 4, 5, 8],
    "latent_dim": None,
    "n_codebooks": 2,
    "quantizer_dropout": 0.5,
    "sample_rate": 16000,
}


@pytest.fixture(scope="module")
def model():
    model = dac_model().eval()
    generator = np.random.RandomState(4)
    for quantizer in model.quantizer.quantizers:
        for parameter in quantizer.parameters():
            parameter.data.copy_(torch.from_numpy(generator.standard_normal(tuple(parameter.shape)).astype("f")) * 0.4)
    return model


@pytest.fixture(scope="module")
def original(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("descript") / "weights_16khz.pth"
    content = {"state_dict": _originals(model.state_dict()), "metadata": {"kwargs": _KWARGS}}
    torch.save(content, path)
    return path


def test_descripts_own_file_gives_the_frames_of_transformers_form(original, encoder, tmp_path):
    state = torch.load(original, weights_only=True)["state_dict"]
    assert "encoder.block.2.block.1.block.3.weight_v" in state and "encoder.block.4.block.3.alpha" in state
    renamed = tmp_path / "any.name"
    renamed.write_bytes(original.read_bytes())
    for given in (original, original.parent, renamed):
        read = load(NAME, given)
        assert read.preset.vector_size == 64 and read.weights_id.startswith("sha256:")
        expected = encoder.frames(tone(4801))
        np.testing.assert_allclose(read.frames(tone(4801)), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("number", [1, "all"])
def test_quantised_as_transformers_quantises(model, original, tmp_path, number):
    model.save_pretrained(tmp_path)
    clip = tone(3200)
    with torch.inference_mode():
        continuous = model.encoder(torch.from_numpy(clip)[None, None])
        expected = model.quantizer(continuous, None if number == "all" else number)[0][0].T.numpy()
    for given in (tmp_path, original):
        encoder = load(NAME, given, options={"codebooks": number})
        assert encoder.options == {"pad_to": 320, "codebooks": 2 if number == "all" else number}
        frames = encoder.frames(clip)
        np.testing.assert_allclose(frames, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    with pytest.raises(ConfigError, match="dac has 2 codebooks, got codebooks=3"):
        load(NAME, original, options={"codebooks": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": {"kwargs": {**_KWARGS, "sample_rate": 24000}}}, "sample_rate is 24000, expected 16000"),
        ({"metadata": {"kwargs": {**_KWARGS, "encoder_rates": [2, 4, 8, 8]}}}, "encoder_rates is "),
        ({"metadata": 3}, "sample_rate is None, expected 16000"),
        ({"state_dict": None}, "holds no state_dict.* in transformers' form it needs the config.json beside it"),
        ({"state_dict": {"encoder.block.0.bias": torch.zeros(4)}}, "lacks encoder.conv1.weight"),
    ],
)
def test_other_files_of_descripts_form_are_refused(original, tmp_path, change, message):
    content = {**torch.load(original, weights_only=True), **change}
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=message):
        load(NAME, tmp_path / "x.pth")


def test_incomplete_files_of_descripts_form_are_refused(original, tmp_path):
    content = torch.load(original, weights_only=True)
    del content["state_dict"]["encoder.block.3.block.4.weight_v"]
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"1 weights are missing \(encoder\.block\.2\.conv1\.weight\)"):
        load(NAME, tmp_path / "x.pth")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(("samples", "count"), [(320, 1), (4480, 1), (4480, 2)])
def test_wide_layers_on_a_cpu_are_transformers_own(samples, count, threads):
    """The small checkpoint is narrow throughout; the published codec's later layers are products of matrices."""
    from serfuse.encoders.dac_cpu import CpuDacEncoder

    threads(count)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        config = transformers.DacConfig(
            encoder_hidden_size=20, downsampling_ratios=[2, 4, 5, 8], decoder_hidden_size=16, n_codebooks=1
        )
        theirs = transformers.DacModel(config).encoder.eval()
        for name, parameter in theirs.named_parameters():
            if name.endswith("alpha"):
                parameter.copy_(0.05 + 3 * torch.rand_like(parameter))
        clips = torch.randn(2, 1, samples)
        given = clips.clone()
        expected, ours = theirs(clips), CpuDacEncoder(theirs)
        found = ours(clips)
        assert torch.equal(clips, given)  # worked in place only on what is its own
        assert found.shape == expected.shape == (2, 320, samples // 320)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.std()))
        torch.testing.assert_close(ours(clips[1:]), found[1:], rtol=0, atol=1e-5 * float(expected.std()))


@pytest.mark.parametrize("count", [1, 2])
def test_activations_of_any_size_on_a_cpu(count, threads):
    """Their sine is worked out here: small and large angles, silence, and what has no digits left."""
    from serfuse.encoders.dac_cpu import CpuDacEncoder

    threads(count)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(1)
        config = transformers.DacConfig(
            encoder_hidden_size=4, downsampling_ratios=[2, 4], decoder_hidden_size=16, n_codebooks=1
        )
        theirs = transformers.DacModel(config).encoder.eval()
        for name, parameter in theirs.named_parameters():
            if name.endswith("alpha"):
                parameter.copy_(10 ** torch.linspace(-3, 2.5, parameter.numel()).reshape(parameter.shape))
        double = copy.deepcopy(theirs).double()
        ours = CpuDacEncoder(theirs)
        for scale in (0.0, 1e-3, 1.0, 30.0):
            clips = scale * torch.randn(1, 1, 640)
            expected = double(clips.double())
            bound = 2 * float((theirs(clips) - expected).abs().max()) + 1e-6 * float(expected.abs().max())
            assert float((ours(clips) - expected).abs().max()) <= bound, scale
        assert torch.isfinite(ours(torch.full((1, 1, 640), 1e12))).all()


def test_clips_of_different_length_share_a_pass_as_they_are_alone():
    """As on a GPU, where transformers' own modules run."""
    from serfuse.encoders.clip_ends import ClipZeros
    from serfuse.encoders.codec import TorchCodec

    model = dac_model().encoder
    preset, settings = encoders.preset(NAME), {"weights_id": "none", "multiple": 320}
    together = TorchCodec(preset, model, **settings, apart=ClipZeros(model))
    assert together.pads
    clips = [tone(4801)[-length:] for length in (4801, 4480, 700, 319)]
    for clip, frames in zip(clips, together.frames_batch(clips), strict=True):
        alone = together.frames(clip)
        np.testing.assert_allclose(frames, alone, rtol=0, atol=2e-5 * np.abs(alone).max())
