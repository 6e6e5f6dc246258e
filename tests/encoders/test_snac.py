"""SNAC on small checkpoints in the published layout, against numbers of the snac package."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from codec_checkpoints import drawn, tone
from safetensors.torch import save_file

from serfuse import encoders
from serfuse.encoders import LoadRequest, snac
from serfuse.encoders.snac_model import SnacEncoder
from serfuse.errors import AudioError, ConfigError, WeightsError

# Of the published config.json, which holds nothing else; the small checkpoints are 8 channels wide, not 48 or 64.
COMMON = {"codebook_size": 4096, "codebook_dim": 8, "noise": True, "depthwise": True}
PUBLISHED = {
    "snac-24khz": {
        "sampling_rate": 24000,
        "encoder_dim": 48,
        "encoder_rates": [2, 4, 8, 8],
        "decoder_dim": 1024,
        "decoder_rates": [8, 8, 4, 2],
        "attn_window_size": None,
        "vq_strides": [4, 2, 1],
        **COMMON,
    },
    "snac-32khz": {
        "sampling_rate": 32000,
        "encoder_dim": 64,
        "encoder_rates": [2, 3, 8, 8],
        "decoder_dim": 1536,
        "decoder_rates": [8, 8, 3, 2],
        "attn_window_size": 32,
        "vq_strides": [8, 4, 2, 1],
        **COMMON,
    },
}
SMALL = {"encoder_dim": 8, "codebook_size": 32}


def state_of(name: str) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors under the published names, with weight norm as torch's parametrisations write it."""
    settings = {**PUBLISHED[name], **SMALL}
    wide = settings["encoder_dim"] * 16
    with torch.device("meta"):
        model = SnacEncoder(
            channels=settings["encoder_dim"], strides=settings["encoder_rates"], window=settings["attn_window_size"]
        )
    shapes = {f"encoder.{key}": tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    for place in range(len(settings["vq_strides"])):
        book = f"quantizer.quantizers.{place}"
        shapes |= {f"{book}.in_proj.weight": (8, wide, 1), f"{book}.in_proj.bias": (8,)}
        shapes |= {f"{book}.out_proj.weight": (wide, 8, 1), f"{book}.out_proj.bias": (wide,)}
        shapes[f"{book}.codebook.weight"] = (settings["codebook_size"], 8)
    normed = {key: shape for key, shape in shapes.items() if key.endswith(".weight") and len(shape) == 3}
    names = {key: shape for key, shape in shapes.items() if key not in normed and not key.endswith("inv_freq")}
    for key, shape in normed.items():
        names |= {f"{key}_g": (shape[0], 1, 1), f"{key}_v": shape}
    state = drawn(names)
    state = {key: value.abs() + 0.5 if key.endswith("alpha") else value for key, value in state.items()}
    if settings["attn_window_size"]:
        state["encoder.block.5.rel_pos.inv_freq"] = 1.0 / (10000 ** (torch.arange(0, 64, 2).float() / 64))
    ends = {".weight_g": ".parametrizations.weight.original0", ".weight_v": ".parametrizations.weight.original1"}
    return {key[: -len(key[-9:])] + ends[key[-9:]] if key[-9:] in ends else key: state[key] for key in state}


def checkpoint(name: str, folder: Path, *, safetensors: bool = False, **changed: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**PUBLISHED[name], **SMALL, **changed}))
    state = {**state_of(name), "decoder.model.0.bias": torch.zeros(4)}
    if safetensors:
        save_file(state, folder / "model.safetensors")
    else:
        torch.save(state, folder / "pytorch_model.bin")
    return folder


def load(name: str, folder: Path | str, **request: object) -> encoders.Encoder:
    return encoders.load(name, LoadRequest(weights=folder, device="cpu", **request))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {name: checkpoint(name, tmp_path_factory.mktemp(name)) for name in PUBLISHED}


# Of snac 1.2.1 (torch 2.11 on a CPU): its SNAC built of PUBLISHED and SMALL, its encoder and quantiser loaded with
# state_of, and what its `preprocess` and `encoder` make of tone(9001), then with all codebooks what its quantiser makes
# of that, cut to the frames of the clip: mean and deviation of all, the first four numbers of frame 3.
GOLDEN: dict[tuple[str, int | str], tuple[float, float, list[float]]] = {
    ("snac-24khz", 0): (-0.517838881, 24.172885668, [26.7365036, 20.49442482, -20.78902435, 10.91383553]),
    ("snac-24khz", "all"): (-0.064153649, 0.625507919, [-0.36947769, -1.13679957, 0.59006715, 0.21113601]),
    ("snac-32khz", 0): (4.690132948, 28.497376265, [55.046772, -24.22211075, 9.02168751, -3.13939095]),
    ("snac-32khz", "all"): (-0.038443768, 0.721804395, [-0.19576576, -0.04757884, -0.57668972, 0.29594874]),
}


@pytest.mark.parametrize(("name", "codebooks"), GOLDEN)
def test_golden(folders, name, codebooks):
    mean, std, row = GOLDEN[name, codebooks]
    frames = load(name, folders[name], options={"codebooks": codebooks}).frames(tone(9001))
    hop = encoders.preset(name).hop
    assert frames.shape == (-(-9001 // hop), 128) and frames.dtype == np.float32
    np.testing.assert_allclose(frames.mean(dtype=np.float64), mean, rtol=0, atol=1e-5 * std)
    np.testing.assert_allclose(frames.std(dtype=np.float64), std, rtol=1e-5)
    np.testing.assert_allclose(frames[3, :4], row, rtol=0, atol=2e-5 * std)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_batch_is_as_its_clips_alone(folders, name):
    encoder = load(name, folders[name])
    clips = [tone(5000) * scale for scale in (1, 0.01, 0.5)]
    for clip, batched in zip(clips, encoder.frames_batch(clips), strict=True):
        alone = encoder.frames(clip)
        np.testing.assert_allclose(batched, alone, rtol=0, atol=1e-5 * alone.std())


def test_one_sample_gives_one_frame_and_none_is_refused(folders):
    encoder = load("snac-32khz", folders["snac-32khz"])
    assert encoder.frames(tone(1)).shape == (1, 128)
    with pytest.raises(AudioError, match="at least 1 "):
        encoder.frames(np.zeros(0, np.float32))


def test_both_forms_of_the_file_hold_the_same_model(folders, tmp_path):
    other = load("snac-24khz", checkpoint("snac-24khz", tmp_path, safetensors=True))
    expected = load("snac-24khz", folders["snac-24khz"])
    assert np.array_equal(other.frames(tone(3000)), expected.frames(tone(3000)))
    assert (expected.preset.vector_size, expected.options) == (128, {"codebooks": 0})


def test_the_published_names(folders):
    state = torch.load(folders["snac-32khz"] / "pytorch_model.bin", weights_only=True)
    # snac 1.2.1 loads these strictly into its own modules.
    assert len([name for name in state if name.startswith("encoder.")]) == 123
    for name in (
        "encoder.block.0.parametrizations.weight.original1",
        "encoder.block.1.block.0.block.0.alpha",
        "encoder.block.4.block.4.parametrizations.weight.original0",
        "encoder.block.5.norm.weight",
        "encoder.block.5.to_qkv.weight",
        "encoder.block.6.bias",
        "quantizer.quantizers.3.codebook.weight",
    ):
        assert name in state


@pytest.mark.parametrize("name", ["snac-24khz", "snac-32khz", "snac-44khz"])
def test_full_size(name):
    preset = encoders.preset(name)
    with torch.device("meta"):
        model = snac.build(preset)
    assert sum(weight.numel() for weight in model.parameters()) == preset.parameters
    assert model.block[-1].out_channels == preset.vector_size


def test_random_weights_can_be_quantised():
    encoder = load("snac-24khz", "random", options={"codebooks": 2})
    frames = encoder.frames(tone(2048))
    assert frames.shape == (4, 768) and encoder.options == {"codebooks": 2}
    assert np.array_equal(frames, load("snac-24khz", "random", options={"codebooks": 2}).frames(tone(2048)))


def test_what_is_refused(folders, tmp_path, nowhere):
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin"):
        encoders.load("snac-24khz", LoadRequest(download=False))
    with pytest.raises(ConfigError, match="has 3 codebooks, got codebooks=4"):
        load("snac-24khz", folders["snac-24khz"], options={"codebooks": 4})
    changed = {"encoder_rates": [2, 4, 5, 8], "attn_window_size": 32, "vq_strides": [2, 1], "depthwise": False}
    for place, (field, value) in enumerate({**changed, "sampling_rate": 16000}.items()):
        folder = checkpoint("snac-24khz", tmp_path / str(place), **{field: value})
        with pytest.raises(WeightsError, match=f"another model than snac-24khz: {field} is .*expected"):
            load("snac-24khz", folder)
    folder = checkpoint("snac-24khz", tmp_path / "less")
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save({key: value for key, value in state.items() if "block.3." not in key}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="not a complete checkpoint"):
        load("snac-24khz", folder)
    norm = "encoder.block.0.parametrizations.weight.original0"
    for wrong in (state[norm][:1], state[norm].reshape(-1), state[norm].double(), state[norm].repeat(9, 1, 1)):
        torch.save({**state, norm: wrong}, folder / "pytorch_model.bin")
        with pytest.raises(WeightsError, match=r"not a complete checkpoint.*encoder\.block\.0\.weight"):
            load("snac-24khz", folder)
    bias, book = "encoder.block.0.bias", "quantizer.quantizers.1.codebook.weight"
    torch.save({**state, bias: state[bias].double() + 1e300}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="hold NaN or infinite numbers"):
        load("snac-24khz", folder)
    torch.save({**state, book: torch.zeros(())}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="lacks codebook 1"):
        load("snac-24khz", folder, options={"codebooks": "all"})
    state.pop("quantizer.quantizers.1.in_proj.bias")
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="lacks codebook 1"):
        load("snac-24khz", folder, options={"codebooks": "all"})
    assert load("snac-24khz", folder, options={"codebooks": 1}).frames(tone(600)).shape == (2, 128)
