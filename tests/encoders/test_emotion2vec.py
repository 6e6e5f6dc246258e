"""emotion2vec on small checkpoints with the names and layout of the published files, against the authors' network."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import speechlike
from codec_checkpoints import drawn
from safetensors.torch import save_file

from serfuse import encoders
from serfuse.encoders import LoadRequest, emotion2vec
from serfuse.encoders.emotion2vec_model import alibi_slopes
from serfuse.errors import AudioError, ConfigError, WeightsError
from serfuse.store import EmbeddingKey
from serfuse.store.encoder_notes import encoder_notes

AUDIO = "modality_encoders.AUDIO"
SMALL = {"width": 48, "heads": 6, "channels": 16, "hidden": 64}


def shapes(*, width: int, heads: int, channels: int, hidden: int, tuned: bool) -> dict[str, tuple[int, ...]]:
    """Every tensor that counts, as the file of emotion2vec+ large lists them (185 with its head) and, with the decoder,
    as that of emotion2vec does."""
    names: dict[str, tuple[int, ...]] = {}
    blocks = [f"{AUDIO}.context_encoder.blocks.{number}" for number in range(4)]
    for block in [*blocks, *(f"blocks.{number}" for number in range(8))]:
        for norm in ("norm1", "norm2"):
            names |= {f"{block}.{norm}.weight": (width,), f"{block}.{norm}.bias": (width,)}
        names |= {f"{block}.attn.qkv.weight": (3 * width, width), f"{block}.attn.qkv.bias": (3 * width,)}
        names |= {f"{block}.attn.proj.weight": (width, width), f"{block}.attn.proj.bias": (width,)}
        names |= {f"{block}.mlp.fc1.weight": (hidden, width), f"{block}.mlp.fc1.bias": (hidden,)}
        names |= {f"{block}.mlp.fc2.weight": (width, hidden), f"{block}.mlp.fc2.bias": (width,)}
    for number, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        layer = f"{AUDIO}.local_encoder.conv_layers.{number}"
        names[f"{layer}.0.weight"] = (channels, channels if number else 1, kernel)
        names |= {f"{layer}.2.1.weight": (channels,), f"{layer}.2.1.bias": (channels,)}
    names |= {f"{AUDIO}.project_features.1.weight": (channels,), f"{AUDIO}.project_features.1.bias": (channels,)}
    names |= {f"{AUDIO}.project_features.2.weight": (width, channels), f"{AUDIO}.project_features.2.bias": (width,)}
    for number in range(1, 6):
        layer = f"{AUDIO}.relative_positional_encoder.{number}.0"
        names |= {f"{layer}.weight": (width, width // 16, 19), f"{layer}.bias": (width,)}
    names |= {f"{AUDIO}.context_encoder.norm.weight": (width,), f"{AUDIO}.context_encoder.norm.bias": (width,)}
    names |= {f"{AUDIO}.extra_tokens": (1, 10, width), f"{AUDIO}.alibi_scale": (1, 1, heads, 1, 1)}
    if tuned:
        names = {f"d2v_model.{name}": shape for name, shape in names.items()}
        return names | {"proj.weight": (9, width), "proj.bias": (9,)}
    return names | {f"{AUDIO}.decoder.blocks.0.0.weight": (32, 3, 7), f"{AUDIO}.decoder.proj.bias": (width,)}


def state_of(*, tuned: bool) -> "OrderedDict[str, torch.Tensor]":
    state = OrderedDict(drawn(shapes(**SMALL, tuned=tuned)))
    for name, tensor in state.items():
        if ("norm" in name or ".2.1." in name or "features.1." in name) and name.endswith("weight"):
            tensor.copy_(1 + 0.2 * tensor)
        elif name.endswith("alibi_scale"):
            tensor.copy_(torch.linspace(-0.2, 1.5, tensor.numel()).reshape(tensor.shape))  # below 0 counts as 0
    return state


def checkpoint(folder: Path, *, tuned: bool, state: dict[str, torch.Tensor] | None = None) -> Path:
    """As fairseq writes one: settings and the optimizer's state stand beside the tensors."""
    state = state_of(tuned=tuned) if state is None else state
    moments = {"step": 100, "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3, dtype=torch.float64)}
    content = {
        "args": None,
        "cfg": {
            "_name": None,
            "common": {"seed": 1, "fp16": True, "lr": [7.5e-05]},
            "model": {"_name": "data2vec_multi"},
        },
        "model": OrderedDict(state)
        if tuned
        else OrderedDict({**state, "_ema": {"blocks.0.norm1.bias": torch.ones(48)}}),
        "criterion": None,
        "optimizer_history": [{"criterion_name": "ModelCriterion", "best_loss": 1.5, "num_updates": 100}],
        "task_state": {},
        "extra_state": {"metrics": [(0, "default", "AverageMeter", {"val": 1.0})], "previous_training_time": 3.5},
        "last_optimizer_state": {"state": {0: moments}, "param_groups": [{"betas": (0.9, 0.98), "params": [0]}]},
    }
    path = folder / ("model.pt" if tuned else "emotion2vec_base.pt")
    torch.save(content, path)
    return path


def load(name: str, path: Path | str, **request: object) -> encoders.Encoder:
    return encoders.load(name, LoadRequest(weights=path, device="cpu", **request))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("base"), tuned=False)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("tuned"), tuned=True)


# Of funasr 1.4.16 (torch 2.11 on a CPU): its Emotion2vec built of the settings in emotion2vec_base/config.yaml and of
# SMALL, loaded with state_of strictly but for the decoder and the head, and what its `extract_features` makes of
# layer_norm(speechlike(5000)): mean of the absolute values, the first four numbers of the first and of the last frame,
# and as many of what its third and its last block of the context encoder gave for the first frame.
GOLDEN: dict[str, list[float] | float] = {
    "size": 0.81650294,
    "first": [-2.3393126, 0.2312325, -0.7570747, 1.9019938],
    "last": [-2.351733, 0.2556705, -0.7790221, 1.914869],
    "layer 3": [-0.3387066, -0.0826075, 0.1105857, 0.7346142],
    "layer 4": [0.1895422, 0.9666067, 0.4391619, 0.6292931],
}


def test_golden(base):
    encoder = load("emotion2vec", base)
    frames = encoder.frames(speechlike(5000))
    assert frames.shape == (15, 48) and frames.dtype == np.float32
    np.testing.assert_allclose(np.abs(frames).mean(dtype=np.float64), GOLDEN["size"], atol=1e-5)
    np.testing.assert_allclose(frames[0, :4], GOLDEN["first"], atol=1e-5)
    np.testing.assert_allclose(frames[-1, :4], GOLDEN["last"], atol=1e-5)
    of_layers = encoder.frames_of_layers([speechlike(5000)], ["3", "4", "12", "last"])
    np.testing.assert_allclose(of_layers["3"][0][0, :4], GOLDEN["layer 3"], atol=1e-5)
    np.testing.assert_allclose(of_layers["4"][0][0, :4], GOLDEN["layer 4"], atol=1e-5)
    assert np.array_equal(of_layers["12"][0], of_layers["last"][0])
    assert np.array_equal(load("emotion2vec", base, layer="4").frames(speechlike(5000)), of_layers["4"][0])


def test_both_layouts_and_the_tensors_alone_are_the_same_model(base, tuned, tmp_path):
    expected = load("emotion2vec", base).frames(speechlike(2000))
    state = {name.removeprefix("d2v_model."): value for name, value in state_of(tuned=False).items()}
    renamed = {f"d2v_model.{name}": value for name, value in state.items() if ".decoder." not in name}
    folder = tmp_path / "plus"
    folder.mkdir()
    path = checkpoint(
        folder, tuned=True, state={**renamed, "proj.weight": torch.ones(9, 48), "proj.bias": torch.ones(9)}
    )
    for name in ("emotion2vec-seed", "emotion2vec-plus", "emotion2vec-large"):
        assert np.array_equal(load(name, folder).frames(speechlike(2000)), expected)
    save_file(renamed, tmp_path / "model.safetensors")
    torch.save(renamed, tmp_path / "flat.pt")
    for path in (tmp_path / "model.safetensors", tmp_path / "flat.pt"):
        assert np.array_equal(load("emotion2vec-plus", path).frames(speechlike(2000)), expected)
    four = {**renamed, f"d2v_model.{AUDIO}.alibi_scale": renamed[f"d2v_model.{AUDIO}.alibi_scale"][0]}
    torch.save(four, tmp_path / "flat.pt")
    assert np.array_equal(load("emotion2vec-plus", tmp_path / "flat.pt").frames(speechlike(2000)), expected)


def test_a_batch_is_as_its_clips_alone_and_the_level_does_not_count(tuned):
    encoder = load("emotion2vec-plus", tuned)
    clips = [speechlike(6000, seed) for seed in range(3)]
    for clip, batched in zip(clips, encoder.frames_batch(clips), strict=True):
        np.testing.assert_allclose(batched, encoder.frames(clip), atol=1e-5)
    np.testing.assert_allclose(encoder.frames(8 * clips[0]), encoder.frames(clips[0]), atol=0.05)


def test_shortest_clip(base):
    encoder = load("emotion2vec", base)
    assert encoder.frames(speechlike(400)).shape == (1, 48)
    assert encoder.frames(speechlike(719)).shape == (1, 48) and encoder.frames(speechlike(720)).shape == (2, 48)
    assert np.isfinite(encoder.frames(np.zeros(2000, np.float32))).all()
    with pytest.raises(AudioError, match="at least 400"):
        encoder.frames(speechlike(399))


@pytest.mark.parametrize("name", emotion2vec.ENTRIES)
def test_full_size(name):
    preset = encoders.preset(name)
    with torch.device("meta"):
        model = emotion2vec.build(preset)
    assert sum(parameter.numel() for parameter in model.parameters()) == preset.parameters
    sizes = {key: preset.config[key] for key in SMALL}
    published = {key: shape for key, shape in shapes(**sizes, tuned=True).items() if not key.startswith("proj.")}
    meant = emotion2vec.own_names({key: torch.empty(shape, device="meta") for key, shape in published.items()})
    assert {key: value.shape for key, value in meant.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }
    assert (model.norm.normalized_shape[0], len(model.layers)) == (preset.vector_size, preset.layers)


def test_slopes_of_attention():
    assert alibi_slopes(8) == [2.0**-number for number in range(1, 9)]
    twelve = alibi_slopes(12)
    assert twelve[:8] == alibi_slopes(8) and twelve[8:] == alibi_slopes(16)[::2][:4]


def test_the_audit_knows_whose_labels_the_tuned_ones_have_seen():
    for name in ("emotion2vec-seed", "emotion2vec-plus", "emotion2vec-large"):
        preset = encoders.preset(name)
        assert len(preset.emotion_labels) == 32 and {"cremad", "emodb", "mesd", "iemocap"} <= {*preset.emotion_labels}
    assert encoders.preset("emotion2vec").emotion_labels == ()
    assert "msp-podcast" in encoders.preset("emotion2vec").corpora_seen
    for corpus in ("mesd", "resd", "cremad", "my-emo-db"):
        (note,) = encoder_notes(corpus, [EmbeddingKey("emotion2vec-plus", "hub:x/y@" + 40 * "0")])
        assert note.startswith("LEAKAGE: ") and f"labels of {corpus.replace('my-emo-db', 'emodb')}, the corpus" in note


class _Ran:
    def __reduce__(self):
        return print, ("ran",)


def test_what_is_refused(base, tuned, tmp_path, nowhere, capsys):
    with pytest.raises(WeightsError, match=r"emotion2vec_base\.pt"):
        encoders.load("emotion2vec", LoadRequest(download=False))
    path = tmp_path / "x.pt"
    state = state_of(tuned=True)
    for lost in ("d2v_model.blocks.7.norm2.bias", f"d2v_model.{AUDIO}.extra_tokens"):
        torch.save({"model": {name: value for name, value in state.items() if name != lost}}, path)
        with pytest.raises(WeightsError, match=r"not a complete checkpoint|lacks extra_tokens"):
            load("emotion2vec-plus", path)
    torch.save({"model": {**state, f"d2v_model.{AUDIO}.alibi_bias": torch.zeros(1, 6, 4, 4)}}, path)
    with pytest.raises(WeightsError, match=r"another model than emotion2vec-plus: .*alibi_bias"):
        load("emotion2vec-plus", path)
    torch.save({"model": {**state, "d2v_model.blocks.8.norm1.bias": torch.zeros(48)}}, path)
    with pytest.raises(WeightsError, match=r"another model than emotion2vec-plus"):
        load("emotion2vec-plus", path)
    torch.save({"model": {**state, f"d2v_model.{AUDIO}.alibi_scale": torch.zeros(1, 1, 7, 1, 1)}}, path)
    with pytest.raises(WeightsError, match="48 numbers cannot be shared by 7 heads"):
        load("emotion2vec-plus", path)
    torch.save({"model": state, "cfg": _Ran()}, path)
    with pytest.raises(WeightsError, match="could not be read"):
        load("emotion2vec-plus", path)
    path.write_bytes(base.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="could not be read"):
        load("emotion2vec", path)
    assert capsys.readouterr().out == ""
    with pytest.raises(ConfigError, match="has layers 1 to 12"):
        load("emotion2vec", base, layer="13")
