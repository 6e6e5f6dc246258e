"""BEATs on small checkpoints in the layout of the published files, against speechbrain's port of the authors' code."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import fill, speechlike

from serfuse import encoders
from serfuse.encoders import LoadRequest, beats
from serfuse.errors import AudioError, ConfigError, WeightsError

# The settings in BEATs_iter3_plus_AS2M.pt, with smaller sizes.
CFG = {
    "encoder_layers": 12,
    "encoder_embed_dim": 32,
    "encoder_ffn_embed_dim": 48,
    "encoder_attention_heads": 4,
    "activation_fn": "gelu",
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "encoder_layerdrop": 0.05,
    "dropout_input": 0.0,
    "layer_norm_first": False,
    "conv_bias": False,
    "conv_pos": 128,
    "conv_pos_groups": 16,
    "relative_position_embedding": True,
    "num_buckets": 320,
    "max_distance": 800,
    "gru_rel_pos": True,
    "deep_norm": True,
    "input_patch_size": 16,
    "layer_wise_gradient_decay_ratio": 0.6,
    "embed_dim": 24,
    "finetuned_model": False,
    "predictor_dropout": 0.0,
    "predictor_class": 527,
}


def save(path: Path, state: dict[str, torch.Tensor], **changed: object) -> Path:
    torch.save({"cfg": {**CFG, **changed}, "model": OrderedDict(state)}, path)
    return path


def old_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With weight norm as the published files have it."""
    ends = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, old in ends.items():
        state = {name.replace(new, old): tensor for name, tensor in state.items()}
    return state


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """speechbrain's BEATs on a small checkpoint, and the file."""
    from speechbrain.lobes.models.beats import BEATs

    folder = tmp_path_factory.mktemp("beats")
    torch.save({"cfg": CFG, "model": {}}, folder / "empty.pt")
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.setattr(BEATs, "load_state_dict", lambda *_: None)
        model = BEATs(str(folder / "empty.pt"), output_all_hiddens=True)
    fill(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "pos_conv" in name:
                parameter.copy_(parameter.abs() if name.endswith(("_g", "original0")) else parameter)
            elif name.endswith("grep_a"):
                parameter.add_(1)
    return model, save(folder / "BEATs_iter3_plus_AS2M.pt", old_names(model.state_dict()))


@pytest.fixture(scope="module")
def checkpoint(theirs) -> Path:
    return theirs[1]


def load(weights: Path | str, **request: object) -> encoders.Encoder:
    return encoders.load("beats", LoadRequest(weights=weights, device="cpu", **request))


@pytest.mark.slow
def test_gives_what_the_original_does(theirs) -> None:
    model, path = theirs
    clip = speechlike(12_000)
    with torch.no_grad():
        hidden = model(torch.from_numpy(clip)[None], torch.ones(1))[0]  # T x B x D of each layer, the input first
    encoder = load(path)
    frames = encoder.frames(clip)
    assert frames.shape == (4 * 8, 32) and frames.dtype == np.float32
    np.testing.assert_allclose(frames, hidden[-1][:, 0].numpy(), atol=1e-5)
    of_layers = encoder.frames_of_layers([clip], ["0", "1", "7", "last"])
    for layer, number in (("0", 0), ("1", 1), ("7", 7), ("last", 12)):
        np.testing.assert_allclose(of_layers[layer][0], hidden[number][:, 0].numpy(), atol=1e-5)
    assert np.abs(frames - of_layers["7"][0]).max() > 0.1


def test_the_published_names(checkpoint) -> None:
    state = torch.load(checkpoint, weights_only=True)["model"]
    assert state["encoder.pos_conv.0.weight_g"].shape == (1, 1, 128)
    assert state["encoder.pos_conv.0.weight_v"].shape == (32, 2, 128)
    assert state["encoder.layers.11.self_attn.relative_attention_bias.weight"].shape == (320, 4)
    assert state["encoder.layers.0.self_attn.grep_linear.weight"].shape == (8, 8)
    assert len(state) == 250


def test_a_batch_is_as_its_clips_alone(checkpoint) -> None:
    encoder = load(checkpoint)
    clips = [speechlike(6000, seed) * scale for seed, scale in enumerate((1, 0.01, 0.3))]
    for clip, batched in zip(clips, encoder.frames_batch(clips), strict=True):
        np.testing.assert_allclose(batched, encoder.frames(clip), atol=1e-5)


def test_shortest_clip(checkpoint) -> None:
    encoder = load(checkpoint)
    assert encoder.frames(speechlike(2800)).shape == (8, 32)
    assert np.isfinite(encoder.frames(np.zeros(4000, np.float32))).all()
    with pytest.raises(AudioError, match="at least 2800"):
        encoder.frames(speechlike(2799))


def test_full_size() -> None:
    preset = encoders.preset("beats")
    with torch.device("meta"):
        model = beats.build(preset)
    assert sum(parameter.numel() for parameter in model.parameters()) == preset.parameters


def test_a_tuned_file_is_read_without_its_head(checkpoint, tmp_path) -> None:
    state = torch.load(checkpoint, weights_only=True)["model"]
    head = {"predictor.weight": torch.ones(527, 32), "predictor.bias": torch.ones(527)}
    tuned = save(tmp_path / "tuned.pt", {**state, **head}, finetuned_model=True)
    assert np.array_equal(load(tuned).frames(speechlike(4000)), load(checkpoint).frames(speechlike(4000)))


def test_what_is_refused(checkpoint, tmp_path, nowhere) -> None:
    with pytest.raises(WeightsError, match=r"BEATs_iter3_plus_AS2M\.pt"):
        encoders.load("beats")
    state = torch.load(checkpoint, weights_only=True)["model"]
    path = tmp_path / "x.pt"
    for field, value in {"deep_norm": False, "max_distance": 1280, "encoder_layers": 6, "activation_fn": "glu"}.items():
        with pytest.raises(WeightsError, match=f"another model than beats: {field} is {value!r}, expected"):
            load(save(path, state, **{field: value}))
    torch.save(state, path)
    with pytest.raises(WeightsError, match="holds no cfg"):
        load(path)
    for lost in ("encoder.pos_conv.0.weight_g", "encoder.layers.11.fc2.bias"):
        with pytest.raises(WeightsError, match="not a complete checkpoint"):
            load(save(path, {name: tensor for name, tensor in state.items() if name != lost}))
    norm = "encoder.pos_conv.0.weight_g"
    with pytest.raises(WeightsError, match="not a complete checkpoint"):
        load(save(path, {**state, norm: state[norm][..., :1]}))
    with pytest.raises(WeightsError, match="another model than beats"):
        load(save(path, {**state, "encoder.layers.12.fc2.bias": torch.zeros(32)}))
    path.write_bytes(checkpoint.read_bytes()[:3000])
    with pytest.raises(WeightsError, match="could not be read"):
        load(path)
    with pytest.raises(ConfigError, match="has layers 1 to 12"):
        load(checkpoint, layer="13")
