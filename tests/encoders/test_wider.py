"""The larger and newer transformers, on small checkpoints in the layout of their published files."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
import transformers
from checkpoints import speechlike
from safetensors.torch import load_file, save_file
from wider_checkpoints import PUBLISHED, model_of, published_checkpoint

from serfuse import encoders
from serfuse.encoders import Encoder, LoadRequest
from serfuse.encoders.checkpoints.transformers_config import FIELDS, IGNORED
from serfuse.errors import AudioError, ConfigError, WeightsError

KINDS = ["wavlm-large", "wav2vec2-large", "data2vec-base", "w2v-bert-2.0", "whisper-large-v3", "mimi"]
LAYERED = [name for name in KINDS if name != "mimi"]

# Mean of the absolute values of the last frames of `speechlike(8000)` (`speechlike(12000)` at 24 kHz), from
# transformers' own pipeline (5.23, torch 2.11, CPU); serfuse had no part in it.
GOLDEN = {
    "wavlm-large": 0.812941,
    "wav2vec2-large": 0.830498,
    "data2vec-base": 0.797646,
    "w2v-bert-2.0": 0.799153,
    "whisper-large-v3": 0.809861,
    "mimi": 11.676387,
}

_FAMILY = {"whisper": "whisper", "wav2vec2-bert": "wav2vec2_bert", "mimi": "mimi"} | dict.fromkeys(
    ("wavlm", "wav2vec2", "hubert", "data2vec-audio"), "speech_ssl"
)


def load(name: str, folder: Path | str | None, **request: object) -> Encoder:
    return encoders.load(name, LoadRequest(weights=folder, device="cpu", **request))


def pipeline(published: SimpleNamespace, clip: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """All hidden states and the end of transformers' own way from a clip, the frames of the clip alone."""
    model = model_of(published)
    if published.half:
        model = model.half().float()
    base = getattr(model, model.base_model_prefix, model)
    extractor = getattr(transformers, published.prepared["feature_extractor_type"])(**published.prepared)
    given = extractor(clip, sampling_rate=published.prepared["sampling_rate"], return_tensors="pt")
    with torch.inference_mode():
        if published.model.startswith("Mimi"):
            return [], model.encoder(given["input_values"]).latents[0].T.numpy()
        if published.model.startswith("Whisper"):
            output = base.encoder(given["input_features"], output_hidden_states=True)
            kept = -(-len(clip) // 320)
        elif "input_features" in given:
            output = base(**given, output_hidden_states=True)
            kept = int(given["attention_mask"].sum())
        else:
            output = base(given["input_values"], output_hidden_states=True)
            kept = None
    return [state[0, :kept].numpy() for state in output.hidden_states], output.last_hidden_state[0, :kept].numpy()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("wider")
    return {name: published_checkpoint(published, root / name) for name, published in PUBLISHED.items()}


@pytest.fixture(scope="module")
def loaded(folders: dict[str, Path]) -> dict[str, Encoder]:
    return {name: load(name, folder) for name, folder in folders.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_file_as_published_gives_what_transformers_own_pipeline_does(name, loaded) -> None:
    clip = 0.02 * speechlike(9001) + 0.01  # neither centred nor of unit variance
    _, expected = pipeline(PUBLISHED[name], clip)
    frames = loaded[name].frames(clip)
    assert frames.dtype == np.float32 and frames.shape == expected.shape
    np.testing.assert_allclose(frames, expected, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_golden_values(name, loaded) -> None:
    frames = loaded[name].frames(speechlike(8000 if name != "mimi" else 12000))
    assert np.abs(frames).mean() == pytest.approx(GOLDEN[name], rel=1e-4)


@pytest.mark.parametrize("name", LAYERED)
def test_all_layers_from_one_pass_are_transformers_hidden_states(name, folders, loaded) -> None:
    clip = speechlike(7000)
    states, last = pipeline(PUBLISHED[name], clip)
    layers = ["last", *(str(number) for number in range(4))]
    found = loaded[name].frames_of_layers([clip, clip], layers)
    np.testing.assert_allclose(found["last"][1], last, atol=1e-5)
    assert len(states) == 4
    if name.startswith("whisper"):
        # Here layer 3 is what comes out of layer 3; transformers puts the norm behind it into the last state.
        norm = model_of(PUBLISHED[name]).half().float().model.encoder.layer_norm
        np.testing.assert_allclose(norm(torch.from_numpy(found["3"][0])).detach().numpy(), states.pop(), atol=1e-5)
    for number, expected in enumerate(states):
        np.testing.assert_allclose(found[str(number)][0], expected, atol=1e-5)
    one = load(name, folders[name], layer="2")
    np.testing.assert_allclose(one.frames(clip), found["2"][0], atol=1e-5)
    with pytest.raises(ConfigError, match="loaded for layer 2, and the layers behind it were dropped"):
        one.frames_of_layers([clip], ["last"])


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_is_as_its_clips_alone(name, loaded) -> None:
    clips = [speechlike(7001, 1), 0.001 * speechlike(7001, 2), speechlike(9001, 3)[2000:], np.zeros(7001, np.float32)]
    for clip, together in zip(clips, loaded[name].frames_batch(clips), strict=True):
        alone = loaded[name].frames(clip)
        # Of the largest value: these small models are not as tame as trained ones, Mimi's gives numbers of 20.
        assert np.abs(together - alone).max() <= 1e-5 * max(1, np.abs(alone).max())


@pytest.mark.parametrize("name", [name for name in LAYERED if not name.startswith("wav")] + ["w2v-bert-2.0"])
def test_clips_of_different_length_together_are_as_alone(name, loaded) -> None:
    clips = [speechlike(length, place) for place, length in enumerate((7001, 9000, 600, 8123, 7001))]
    for clip, together in zip(clips, loaded[name].frames_batch(clips), strict=True):
        alone = loaded[name].frames(clip)
        assert together.shape == alone.shape and np.abs(together - alone).max() < 1e-5 * alone.std()


def test_windows_of_a_long_clip_beside_a_short_one(loaded) -> None:
    clips = [speechlike(16_000 * 31), speechlike(16_000 * 2)]
    long, short = loaded["whisper-tiny"].frames_batch(clips)
    assert len(long) == 31 * 50 and len(short) == 2 * 50
    np.testing.assert_allclose(long, loaded["whisper-tiny"].frames(clips[0]), atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_shortest_clip(name, loaded) -> None:
    least = loaded[name].preset.min_samples
    frames = loaded[name].frames(speechlike(least))
    assert len(frames) == (2 if name.startswith("whisper") else 1) and np.isfinite(frames).all()
    with pytest.raises(AudioError, match=f"{least - 1} samples|at least"):
        loaded[name].frames(speechlike(least - 1))


def test_whisper_hears_longer_audio_in_windows_of_thirty_seconds(loaded) -> None:
    clip = speechlike(480_000 + 8_000)
    encoder = loaded["whisper-tiny"]
    frames = encoder.frames(clip)
    assert frames.shape == (1525, 32)
    np.testing.assert_allclose(frames[:1500], encoder.frames(clip[:480_000]), atol=1e-5)
    np.testing.assert_allclose(frames[1500:], encoder.frames(clip[480_000:]), atol=1e-5)


def test_mimi_gives_the_sum_of_the_codebooks_it_is_asked_for(folders) -> None:
    clip = speechlike(9600)
    model = model_of(PUBLISHED["mimi"])
    for count in (1, 3, 4):
        encoder = load("mimi", folders["mimi"], options={"codebooks": count})
        with torch.inference_mode():
            codes = model.encode(torch.from_numpy(clip)[None, None], num_quantizers=count).audio_codes
            expected = model.quantizer.decode(codes)[0].T.numpy()
        assert (encoder.options, codes.shape[1]) == ({"codebooks": count}, count)
        np.testing.assert_allclose(encoder.frames(clip), expected, atol=1e-5)
    assert load("mimi", folders["mimi"], options={"codebooks": "all"}).options == {"codebooks": 4}
    with pytest.raises(ConfigError, match="has 4 codebooks, got codebooks=5"):
        load("mimi", folders["mimi"], options={"codebooks": 5})


def test_attention_too_large_for_the_memory_is_refused_by_name(loaded, monkeypatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100_000))
    for name in ("wavlm-large", "w2v-bert-2.0"):
        with pytest.raises(AudioError, match=f"Too long for {name} here: its attention needs"):
            loaded[name].frames(speechlike(32_000))
    assert len(loaded["whisper-tiny"].frames(speechlike(32_000))) == 100


def _edit(folder: Path, change: object) -> None:
    path = folder / "model.safetensors"
    state = load_file(path) if path.is_file() else torch.load(folder / "pytorch_model.bin", weights_only=True)
    change(state)
    (folder / "pytorch_model.bin").unlink(missing_ok=True)
    save_file(state, path, metadata={"format": "pt"})


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_checkpoint_is_refused(name, tmp_path) -> None:
    folder = published_checkpoint(PUBLISHED[name], tmp_path / "one")
    inside = next(
        word
        for word in load_file(folder / "model.safetensors" if not PUBLISHED[name].binary else _as_safetensors(folder))
        if word.endswith(("layers.1.attention.v_proj.weight", "layers.1.self_attn.v_proj.weight", "linear_v.weight"))
        and "decoder" not in word
    )

    def spoil(state: dict[str, torch.Tensor]) -> None:
        state[inside].view(-1)[3] = float("nan")

    _edit(folder, spoil)
    with pytest.raises(WeightsError, match=r"is damaged: NaN or infinite numbers in 1 weights"):
        load(name, folder)
    _edit(folder, lambda state: state.pop(inside))
    with pytest.raises(WeightsError, match=r"not a complete checkpoint of .*1 weights are missing"):
        load(name, folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 8000, "do_normalize": True}))
    with pytest.raises(WeightsError, match="sampling_rate 8000"):
        load(name, folder)


def _as_safetensors(folder: Path) -> Path:
    _edit(folder, lambda state: None)
    return folder / "model.safetensors"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("whisper-tiny", {"max_source_positions": 750}, "max_source_positions is 750, expected 1500"),
        ("whisper-tiny", {"d_model": 4096, "encoder_layers": 200}, "they do not belong together, or are damaged"),
        ("whisper-large-v3", {"num_mel_bins": 80}, "not a complete checkpoint|mel bands"),
        ("w2v-bert-2.0", {"add_adapter": True}, "add_adapter is True, expected False"),
        ("w2v-bert-2.0", {"hidden_size": 8192}, "they do not belong together, or are damaged"),
        ("mimi", {"rope_theta": 500.0}, "rope_theta is 500.0, expected 10000"),
        ("mimi", {"frame_rate": 25}, "says frame_rate 25, and its strides give 12.5"),
        ("mimi", {"codebook_size": 1 << 20}, "they do not belong together, or are damaged"),
        ("hubert-large", {"feat_extract_norm": "group"}, "holds another model than hubert-large"),
    ],
)
def test_a_config_that_is_of_another_model_is_refused(name, settings, message, tmp_path) -> None:
    folder = published_checkpoint(PUBLISHED[name], tmp_path / "one")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    with pytest.raises(WeightsError, match=message):
        load(name, folder)


@pytest.mark.parametrize(
    "name", [name for name in encoders.names() if encoders.preset(name).config.get("model_type") in _FAMILY]
)
def test_full_size(name) -> None:
    preset = encoders.preset(name)
    family = _FAMILY[preset.config["model_type"]]
    with torch.device("meta"):
        model = importlib.import_module(f"serfuse.encoders.{family}").build(preset)
    model = model["encoder"] if name == "mimi" else model
    assert sum(weight.numel() for weight in model.parameters()) == preset.parameters
    config = model.config
    width = config.d_model if family == "whisper" else config.hidden_size
    layers = config.encoder_layers if family == "whisper" else 0 if name == "mimi" else config.num_hidden_layers
    assert (width, layers) == (preset.vector_size, preset.layers)


def test_what_every_field_of_transformers_does_is_known() -> None:
    """One that a later release adds and that could change a frame must be looked at."""
    import dataclasses

    for model_type in FIELDS:
        config = transformers.CONFIG_MAPPING[model_type]
        known = {field.name for field in dataclasses.fields(config)}
        assert not known - set(FIELDS[model_type]) - IGNORED, model_type
