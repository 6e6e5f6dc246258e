"""`hf:OWNER/NAME` and `hf:./FOLDER`: checkpoints of a known architecture that are in no table."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from checkpoints import SMALL, fill, small_checkpoint, speechlike
from safetensors.torch import load_file, save_file
from wider_checkpoints import CONFORMER, LAYER_NORM, PUBLISHED, published_checkpoint

from serfuse import encoders
from serfuse.encoders import LoadRequest, canonical, table_row
from serfuse.errors import ConfigError, UnknownNameError, WeightsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_PREPARED = {"do_normalize": True, "feature_size": 1, "sampling_rate": 16000}


def load(name: str, **request: object) -> encoders.Encoder:
    return encoders.load(name, LoadRequest(device="cpu", **request))


def save(model: torch.nn.Module, folder: Path, **prepared: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    fill(model)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({**_PREPARED, **prepared}))
    return folder


@pytest.fixture
def hub(nowhere: Path, tmp_path: Path) -> Path:
    """A model of the hub in its cache: small, with a speaker head, as microsoft/wavlm-base-plus-sv has one."""
    repository = tmp_path / "hub" / "models--microsoft--wavlm-base-plus-sv"
    config = transformers.WavLMConfig(**SMALL, tdnn_dim=(8,) * 5, xvector_output_dim=8)
    save(transformers.WavLMForXVector(config), repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return repository / "snapshots" / COMMIT


def test_a_name_has_one_safe_form_that_leads_back() -> None:
    assert canonical("hf:microsoft/wavlm-base-plus-sv") == "hf.microsoft--wavlm-base-plus-sv"
    assert canonical("hf:microsoft/wavlm-base-plus-sv@v1.0") == "hf.microsoft--wavlm-base-plus-sv"
    assert canonical("hf:./models/my model") == canonical("hf:/elsewhere/my--model") == "hf.my-model"
    assert canonical("hubert") == "hubert"
    for name in ("hf:microsoft/wavlm-base-plus-sv", "hf.microsoft--wavlm-base-plus-sv"):
        preset = encoders.preset(name)
        assert (preset.name, preset.source) == ("hf.microsoft--wavlm-base-plus-sv", "microsoft/wavlm-base-plus-sv")
        assert name in encoders.ENCODERS and encoders.ENCODERS.origin(name) == "serfuse"
    nowhere = ("hf:~no-such-user/x", "hf:./\x00x")
    for strange in ("hf:", "hf:wavlm", "hf:a/b/c", "hf:a--b/c", "hf:/", "hf:a/../b", "hf:a/b c", *nowhere):
        with pytest.raises(ConfigError, match=r"names no encoder\. Expected hf:OWNER/NAME"):
            encoders.preset(strange)
    for strange in ("hf./etc/passwd", "hf.", "hf.../x", "HF:a/b"):
        with pytest.raises(UnknownNameError):
            encoders.preset(strange)


def test_a_published_encoder_under_its_hub_name_is_known(nowhere) -> None:
    preset = encoders.preset("hf:audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim")
    assert preset.emotion_labels == ("msp-podcast",) and preset.licence == "CC-BY-NC-SA-4.0"
    assert encoders.preset("hf:facebook/hubert-base-ls960").revision == encoders.preset("hubert").revision
    assert encoders.preset("hf:superb/hubert-large-superb-er").emotion_labels == ("iemocap",)
    assert encoders.preset("hf:someone/else").trained_on == ""


def test_a_model_of_the_hub_is_found_in_its_cache_and_named_by_its_commit(hub) -> None:
    encoder = load("hf:microsoft/wavlm-base-plus-sv")
    assert encoder.name == "hf.microsoft--wavlm-base-plus-sv"
    assert encoder.weights_id == f"hub:microsoft/wavlm-base-plus-sv@{COMMIT}"
    assert (encoder.preset.vector_size, encoder.preset.layers, encoder.preset.hop) == (32, 3, 320)
    clip = speechlike(6000)
    given = (clip - clip.mean()) / np.sqrt(clip.var() + 1e-7)
    model = transformers.WavLMForXVector.from_pretrained(hub, local_files_only=True).eval()
    with torch.inference_mode():
        states = model.wavlm(torch.from_numpy(given)[None], output_hidden_states=True).hidden_states
    np.testing.assert_allclose(encoder.frames(clip), states[-1][0].numpy(), atol=1e-5)
    # As a kept model asks for it: by the safe name, the commit, a layer.
    again = load(encoder.name, weights=encoder.weights_id, layer="1")
    np.testing.assert_allclose(again.frames(clip), states[1][0].numpy(), atol=1e-5)
    assert (again.weights_id, again.layer) == (encoder.weights_id, "1")
    row = table_row("hf:microsoft/wavlm-base-plus-sv")
    assert (row["name"], row["time"], row["weights_here"]) == (encoder.name, 32, True)


def test_without_its_files_only_the_name_is_known(nowhere) -> None:
    row = table_row("hf:someone/something")
    assert (row["time"], row["mean-std"], row["weights_here"]) == (None, None, False)
    with pytest.raises(WeightsError, match=r"someone/something is not complete in the hub's cache"):
        load("hf:someone/something")
    with pytest.raises(WeightsError, match="has no random weights: its architecture is in its checkpoint"):
        load("hf:someone/something", weights="random")


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        ("UniSpeechForPreTraining", SMALL),
        ("UniSpeechModel", {**SMALL, **LAYER_NORM}),
        ("UniSpeechSatForSequenceClassification", SMALL),
        ("Wav2Vec2ForCTC", {**SMALL, "vocab_size": 12}),
        ("HubertForSequenceClassification", {**SMALL, "num_labels": 4}),
        ("Wav2Vec2ConformerForCTC", {**CONFORMER, "vocab_size": 12}),
        ("Wav2Vec2ConformerModel", {**CONFORMER, "position_embeddings_type": "rotary"}),
    ],
)
def test_a_folder_of_any_known_architecture_is_transformers_own_model(model, sizes, tmp_path) -> None:
    model_class = getattr(transformers, model)
    whole = model_class(model_class.config_class(**sizes)).eval()
    folder = save(whole, tmp_path / "mine")
    encoder = load(f"hf:{folder}")
    clip = speechlike(6000)
    given = (clip - clip.mean()) / np.sqrt(clip.var() + 1e-7)
    base = getattr(whole, whole.base_model_prefix, whole)
    with torch.inference_mode():
        output = base(torch.from_numpy(given)[None], output_hidden_states=True)
    np.testing.assert_allclose(encoder.frames(clip), output.last_hidden_state[0].numpy(), atol=1e-5)
    found = encoder.frames_of_layers([clip], ["0", "1", "2"])
    for number in range(3):
        np.testing.assert_allclose(found[str(number)][0], output.hidden_states[number][0].numpy(), atol=1e-5)
    assert encoder.name == "hf.mine" and encoder.weights_id.startswith("sha256:")


@pytest.mark.parametrize("name", ["wavlm-large", "w2v-bert-2.0", "whisper-tiny", "mimi"])
def test_a_folder_gives_what_the_table_s_encoder_of_it_does(name, tmp_path) -> None:
    folder = published_checkpoint(PUBLISHED[name], tmp_path / "mine")
    clip = speechlike(7000)
    known, found = load(name, weights=folder), load(f"hf:{folder}")
    np.testing.assert_array_equal(found.frames(clip), known.frames(clip))
    assert (found.sample_rate, found.preset.hop, found.preset.layers) == (
        known.sample_rate,
        known.preset.hop,
        known.preset.layers,
    )
    assert found.preset.min_samples == known.preset.min_samples
    with pytest.raises(ConfigError, match=r"hf\.mine"):
        load(f"hf:{folder}", layer="99")


def test_a_folder_is_found_again_from_where_it_was_given(tmp_path, monkeypatch, nowhere) -> None:
    small_checkpoint("hubert", tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    first = load("hf:./mine")
    assert load("hf.mine").weights_id == first.weights_id
    nowhere.mkdir()
    monkeypatch.chdir(nowhere)
    with pytest.raises(WeightsError, match=r"give it as --weights hf\.mine=FOLDER"):
        load("hf.mine")
    assert load("hf.mine", weights=tmp_path / "mine").weights_id == first.weights_id
    shutil.copytree(tmp_path / "mine", nowhere / "hf.mine")
    assert load("hf.mine").weights_id == first.weights_id


def _config(**settings: object):
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))

    return change


def _extra(name: str):
    def change(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        save_file({**state, name: torch.zeros(2)}, folder / "model.safetensors", metadata={"format": "pt"})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_config(model_type="bert"), "model_type 'bert', which serfuse cannot run exactly. It knows wavlm, "),
        (_config(model_type=["wavlm"]), "which serfuse cannot run exactly"),
        (_config(add_adapter=True), "add_adapter is True, expected False"),
        (_config(auto_map={"AutoModel": "x.Y"}), "its auto_map names code to be run"),
        (_config(hidden_size=36), "of another shape"),
        (_extra("encoder.layers.0.lora_A.weight"), "cannot be run exactly: 1 tensors .encoder.layers.0.lora_A.weight"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "lacks preprocessor_config.json|not here"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"{" * 99999), "could not be read as a checkpoint"),
    ],
)
def test_what_cannot_be_done_exactly_is_refused_with_the_reason(change, message, tmp_path) -> None:
    folder = small_checkpoint("hubert", tmp_path / "mine")
    change(folder)
    with pytest.raises(WeightsError, match=message):
        load(f"hf:{folder}")
