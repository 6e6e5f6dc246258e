"""The papers' five transformers encoders on small checkpoints in transformers' own format."""

import dataclasses
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
import transformers
from checkpoints import CLASSES, NORMALIZED, SMALL, fill, save, small_checkpoint, small_model, speechlike
from safetensors.torch import load_file, save_file
from wider_checkpoints import PUBLISHED, published_checkpoint

from serfuse import encoders
from serfuse.encoders import LoadRequest, speech_ssl
from serfuse.encoders.checkpoints.transformers_config import FIELDS, IGNORED
from serfuse.errors import AudioError, ConfigError, WeightsError

NAMES = list(CLASSES)
WEIGHT = "encoder.layers.1.attention.q_proj.weight"

# Row 3, columns 0 to 3; last row, last three columns; mean of the absolute values. From transformers' models in
# float64, filled by `fill`, on `speechlike(8000)` normalised in numpy where the checkpoint asks for it
# (transformers 5.23, torch 2.11, CPU); serfuse had no part in it.
GOLDEN = {
    "wavlm": ([1.30879, -0.36728, -0.41711, 1.04706], [-0.12153, 0.80533, -0.87219], 0.799474),
    "wav2vec2": ([0.7665, 0.31061, -0.84947, -0.43239], [1.59849, -0.9657, 0.07082], 0.857719),
    "hubert": ([0.7665, 0.31061, -0.84947, -0.43239], [1.59849, -0.9657, 0.07082], 0.857719),
    "unispeech-sat": ([0.75778, 0.3268, -0.79444, -0.44145], [1.5698, -1.03385, 0.09243], 0.859314),
    "mms-1b": ([1.58836, -0.83773, 0.29278, -1.99439], [-1.07196, 0.52555, 1.02558], 0.851897),
}


def load(name: str, folder: Path | str | None, **request) -> speech_ssl.SpeechSSL:
    return encoders.load(name, LoadRequest(weights=folder, device="cpu", **request))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("ssl")
    return {name: small_checkpoint(name, root / name) for name in NAMES}


@pytest.fixture(scope="module")
def loaded(folders: dict[str, Path]) -> dict[str, speech_ssl.SpeechSSL]:
    return {name: load(name, folder) for name, folder in folders.items()}


@pytest.fixture
def damaged(folders: dict[str, Path], tmp_path: Path) -> Callable[[Callable[[Path], object]], Path]:
    """A copy of wav2vec2's checkpoint with a change made to it."""

    def make(change: Callable[[Path], object]) -> Path:
        folder = tmp_path / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(folders["wav2vec2"], folder)
        change(folder)
        return folder

    return make


def change_config(**settings: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))

    return apply


def as_index(content: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "model.safetensors.index.json").write_text(text)

    return apply


def change_state(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    return apply


@pytest.mark.parametrize("name", NAMES)
def test_golden_values(name, loaded) -> None:
    frames = loaded[name].frames(speechlike(8000))
    assert frames.shape == (24, 32) and frames.dtype == np.float32
    early, last, mean = GOLDEN[name]
    np.testing.assert_allclose(frames[3, :4], early, atol=1e-4)
    np.testing.assert_allclose(frames[-1, -3:], last, atol=1e-4)
    assert np.abs(frames).mean() == pytest.approx(mean, abs=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_is_what_transformers_gives_after_its_own_feature_extractor(name, folders, loaded) -> None:
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folders[name], local_files_only=True)
    assert extractor.do_normalize is NORMALIZED[name]
    model = transformers.AutoModel.from_pretrained(folders[name], local_files_only=True).eval()
    clip = 0.02 * speechlike(9000) + 0.01  # neither centred nor of unit variance
    values = extractor(clip, sampling_rate=16000, return_tensors="pt")["input_values"]
    with torch.inference_mode():
        expected = model(values).last_hidden_state[0].numpy()
    np.testing.assert_allclose(loaded[name].frames(clip), expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_transformers_hidden_states(name, folders, loaded) -> None:
    clip = speechlike(6000)
    given = (clip - clip.mean()) / np.sqrt(clip.var() + 1e-7) if NORMALIZED[name] else clip
    with torch.inference_mode():
        output = small_model(name)(torch.from_numpy(given)[None], output_hidden_states=True)
    assert len(output.hidden_states) == 4
    for number, expected in enumerate(output.hidden_states):
        encoder = load(name, folders[name], layer=str(number))
        assert encoder.layer == str(number)
        np.testing.assert_allclose(encoder.frames(clip), expected[0].numpy(), atol=1e-5)
    # The base models end with their last layer, mms-1b with a norm behind it.
    apart = np.abs(encoder.frames(clip) - loaded[name].frames(clip)).max()
    assert apart > 0.1 if name == "mms-1b" else apart == 0


def test_a_layer_that_is_not_there(folders) -> None:
    for layer in ("4", "-1", "first", "\u00b2"):
        with pytest.raises(ConfigError, match=r"layers 1 to 3 \(0 is the input of the first one\) and 'last'"):
            load("wav2vec2", folders["wav2vec2"], layer=layer)
    with pytest.raises(ConfigError, match="layers 1 to 48"):
        load("mms-1b", "random", layer="49")  # before four gigabytes are drawn


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_as_its_clips_alone(name, loaded) -> None:
    clips = [speechlike(7001, 1), 0.001 * speechlike(7001, 2), speechlike(9001, 3)[2000:], np.zeros(7001, np.float32)]
    for clip, together in zip(clips, loaded[name].frames_batch(clips), strict=True):
        np.testing.assert_allclose(together, loaded[name].frames(clip), atol=1e-5)


# The shortest that gives a frame, one beside a length's last whole frame, and one as long as another.
LENGTHS = (7001, 400, 9000, 8123, 720, 7001)


def as_alone(encoder: speech_ssl.SpeechSSL) -> None:
    """Clips of different length in one pass, each as it is alone, in every layer; and no trace of it is left behind."""
    clips = [(0.01 if place == 1 else 1) * speechlike(length, place) for place, length in enumerate(LENGTHS)]
    layers = ["last", "0", "2"]
    alone = [encoder.frames_of_layers([clip], layers) for clip in clips]
    together = encoder.frames_of_layers(clips, layers)
    for layer in layers:
        for own, found in zip(alone, together[layer], strict=True):
            assert found.shape == own[layer][0].shape
            assert np.abs(found - own[layer][0]).max() < 1e-5 * own[layer][0].std()
    assert np.array_equal(encoder.frames(clips[2]), alone[2]["last"][0])


@pytest.mark.parametrize("name", NAMES)
def test_clips_of_different_length_together_are_as_alone(name, loaded) -> None:
    as_alone(loaded[name])
    # Padding alone does not do it: with a group norm over time even the frames before the padding change.
    clip = speechlike(7000)
    alone, padded = loaded[name].frames(clip), loaded[name].frames(np.pad(clip, (0, 7000)))
    assert np.abs(padded[:15] - alone[:15]).max() > 0.05


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("Data2VecAudio", {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 3}),
        ("Hubert", {"conv_pos_batch_norm": True}),
        ("Wav2Vec2Conformer", {"position_embeddings_type": "relative", "conv_depthwise_kernel_size": 7}),
        ("Wav2Vec2Conformer", {"position_embeddings_type": "rotary", "conv_depthwise_kernel_size": 7}),
        ("WavLM", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    ],
)
def test_and_so_they_are_in_models_that_convolve_further_in(model, settings, tmp_path) -> None:
    model_class = getattr(transformers, f"{model}Model")
    small = model_class(model_class.config_class(**{**SMALL, **settings})).eval()
    fill(small)
    for name, values in small.named_buffers():
        if name.endswith("running_mean"):
            values += torch.linspace(-1, 1, len(values))  # a norm of nothing is not nothing
    folder = save(small, tmp_path / "model", do_normalize=True)
    as_alone(encoders.load(f"hf:{folder}", LoadRequest(device="cpu")))


def test_no_clips_at_all_are_refused(loaded) -> None:
    with pytest.raises(ValueError, match="hubert was given no clips"):
        loaded["hubert"].frames_batch([])


@pytest.mark.parametrize("name", NAMES)
def test_shortest_clip(name, loaded) -> None:
    frames = loaded[name].frames(speechlike(400))
    assert frames.shape == (1, 32) and np.isfinite(frames).all()
    with pytest.raises(AudioError, match=f"Too short for {name}: 399 samples .* at least 400"):
        loaded[name].frames(speechlike(399))


@pytest.mark.parametrize(
    ("waveform", "message"),
    [(np.zeros((2, 8000)), "one channel"), (np.full(8000, np.nan), "NaN"), (np.full(8000, np.inf), "infinite")],
)
def test_what_is_no_clean_mono_is_refused(waveform, message, loaded) -> None:
    with pytest.raises(AudioError, match=message):
        loaded["wav2vec2"].frames(waveform)


def test_a_clip_too_long_for_the_memory_is_refused_by_name(loaded, monkeypatch) -> None:
    """WavLM's attention holds matrices of frames by frames: ten minutes would take 200 GiB, and the process with it."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100_000))
    with pytest.raises(AudioError, match=r"Too long for wavlm here: its attention needs about 0\.0 GiB for 1\.0 s"):
        loaded["wavlm"].frames(speechlike(16_000))
    assert len(loaded["wavlm"].frames(speechlike(4_000))) == 12
    assert len(loaded["hubert"].frames(speechlike(16_000))) == 49, "fused attention holds no such matrices"


def test_digital_silence_is_finite(loaded) -> None:
    for name in NAMES:
        assert np.isfinite(loaded[name].frames(np.zeros(4000, np.float32))).all()


def test_loads_without_a_network_and_leaves_generator_and_input_alone(folders, monkeypatch) -> None:
    def refuse(*_args, **_more):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    before = torch.random.get_rng_state()
    encoder = load("unispeech-sat", folders["unispeech-sat"])
    clip = speechlike(5000)
    kept = clip.copy()
    first, again = encoder.frames(clip), encoder.frames(clip)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(clip, kept)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_checkpoint_tells_sizes_and_normalisation(folders, loaded, damaged) -> None:
    assert (loaded["mms-1b"].preset.vector_size, loaded["mms-1b"].preset.layers) == (32, 3)
    assert encoders.preset("mms-1b").vector_size == 1280  # the table's own is untouched
    assert loaded["mms-1b"].batches

    def turn(folder: Path) -> None:
        path = folder / "preprocessor_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "do_normalize": False}))

    other = load("wav2vec2", damaged(turn))
    assert other.do_normalize is False and loaded["wav2vec2"].do_normalize is True
    # It changes every embedding, so it changes what identifies the weights in the store.
    assert other.weights_id != loaded["wav2vec2"].weights_id
    assert np.abs(other.frames(speechlike(4000)) - loaded["wav2vec2"].frames(speechlike(4000))).max() > 0.01


def test_older_pickled_checkpoints_load_exactly(damaged, loaded) -> None:
    """As the hubs hold them: pytorch_model.bin, and weight norm under its former names."""

    def older(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        for new, old in (("0", "weight_g"), ("1", "weight_v")):
            name = f"encoder.pos_conv_embed.conv.parametrizations.weight.original{new}"
            state[f"encoder.pos_conv_embed.conv.{old}"] = state.pop(name)
        del state["masked_spec_embed"]  # the one weight that may be missing: it serves training only
        state["quantizer.codevectors"] = torch.zeros(1, 4, 4)  # a pretraining head is left out
        torch.save(state, folder / "pytorch_model.bin")

    clip = speechlike(6000)
    np.testing.assert_array_equal(load("wav2vec2", damaged(older)).frames(clip), loaded["wav2vec2"].frames(clip))


def test_sharded_checkpoints_load_and_all_of_them_count(folders, tmp_path, loaded) -> None:
    model = small_model("hubert")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    shutil.copy(folders["hubert"] / "preprocessor_config.json", tmp_path)
    shards = sorted(tmp_path.glob("model-*-of-*.safetensors"))
    assert len(shards) > 1
    encoder = load("hubert", tmp_path)
    np.testing.assert_array_equal(encoder.frames(speechlike(4000)), loaded["hubert"].frames(speechlike(4000)))
    state = load_file(shards[0])
    name = next(iter(state))
    save_file({**state, name: state[name] + 1}, shards[0], metadata={"format": "pt"})
    assert load("hubert", tmp_path).weights_id != encoder.weights_id
    shards[0].unlink()
    with pytest.raises(WeightsError, match=f"names files that are not beside it: {shards[0].name}"):
        load("hubert", tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_no_weights_here(name, nowhere) -> None:
    with pytest.raises(WeightsError) as caught:
        load(name, None)
    message = str(caught.value)
    preset = encoders.preset(name)
    assert f"https://huggingface.co/{preset.source} (revision {preset.revision})" in message
    assert str(nowhere / name) in message and "--weights random" in message
    assert encoders.weights_status(name)[0] is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_state(lambda state: state.pop(WEIGHT)), rf"1 weights are missing \({WEIGHT}\)"),
        (
            change_state(lambda state: state.update({WEIGHT: torch.zeros(3, 3)})),
            rf"0 weights are missing, 1 weights are of another shape \({WEIGHT}\)",
        ),
        (change_state(lambda state: state[WEIGHT].fill_(float("nan"))), "NaN or infinite numbers in 1 weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "the weights beside it have 0 bytes"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes()[:-1000]
            ),
            "could not be read as a checkpoint",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), "lacks model.safetensors or .*pytorch_model.bin"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), r"lacks preprocessor_config\.json"),
        (lambda folder: (folder / "preprocessor_config.json").write_text("{}"), "says sampling_rate None"),
        (
            lambda folder: (folder / "preprocessor_config.json").write_text('{"sampling_rate": 16000}'),
            "does not say do_normalize",
        ),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "holds a list, expected a JSON object"),
        (lambda folder: (folder / "config.json").write_text("[" * 100_000), "cannot be read as JSON"),
        (lambda folder: (folder / "config.json").write_text(" " * (1 << 21)), "2097152 bytes, at most 1048576"),
        # transformers would set 140 GB aside, and build layers for minutes, before it saw what the weights are
        (change_config(hidden_size=40_000, intermediate_size=40_000), r"describes at least 35,2[\d,]+ parameters, and"),
        (change_config(num_hidden_layers=100_000), "num_hidden_layers is 100000, expected 1 to 256"),
        (change_config(conv_dim=[16] * 65), "conv_dim counts 65, expected at most 64 numbers"),
        (change_config(hidden_size="many"), "hidden_size is 'many', expected 1 to 65536"),
        (change_config(hidden_size=10**9), "hidden_size is 1000000000, expected 1 to 65536"),
        (change_config(num_conv_pos_embeddings=0), "num_conv_pos_embeddings is 0, expected"),
        (change_config(conv_kernel=[10, 3, 3, 3, 3, 2, True]), "conv_kernel is a list, expected"),
        (change_config(layer_norm_eps=float("nan")), "layer_norm_eps is nan, expected a number between 0 and 1"),
        (change_config(hidden_act="os.system"), r"hidden_act is 'os\.system', expected 'gelu' or"),
        (change_config(add_adapter=True), "add_adapter is True, expected False"),
        (change_config(transformers_weights="other.safetensors"), "its transformers_weights names other weights"),
        (change_config(auto_map={"AutoModel": "x--y.Z"}), "its auto_map names code to be run"),
        (change_config(quantization_config={"quant_method": "x"}), "its quantization_config asks for weights in"),
        (change_config(attn_implementation="someone/kernel"), "'someone/kernel', asks for code that is not"),
        (change_config(_attn_implementation="someone/kernel:fn"), "'someone/kernel:fn', asks for code that is not"),
        (as_index({"weight_map": {"a": "../../secret"}}), r"'\.\./\.\./secret' is not the name of a file beside it"),
        (as_index({"weight_map": {"a": "absent.safetensors"}}), "names files that are not beside it: absent"),
        (as_index("[" * 100_000), "is not the index of a sharded checkpoint: RecursionError"),
    ],
    ids=lambda value: value[:25] if isinstance(value, str) else "",
)
def test_incomplete_and_damaged_checkpoints(change, message, damaged) -> None:
    with pytest.raises(WeightsError, match=message):
        load("wav2vec2", damaged(change))


def test_what_a_folder_holds_besides_changes_nothing(damaged, loaded) -> None:
    """transformers' own loader would follow an adapter, other weights, or fields about outputs and their types."""

    def more(folder: Path) -> None:
        change_config(
            _name_or_path="someone/else",
            torch_dtype="float16",
            return_dict=False,
            output_hidden_states=True,
            gradient_checkpointing=True,
            a_field_of_tomorrow=[1, 2],
            _attn_implementation="flash_attention_2",
        )(folder)
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "someone/else"}))
        (folder / "pytorch_model.bin").write_bytes(b"other weights")

    encoder = load("wav2vec2", damaged(more))
    np.testing.assert_array_equal(encoder.frames(speechlike(4000)), loaded["wav2vec2"].frames(speechlike(4000)))
    assert encoder.weights_id != loaded["wav2vec2"].weights_id  # config.json was read


def test_weights_in_half_precision_are_computed_with_in_float32(damaged, loaded) -> None:
    def halve(state: dict[str, torch.Tensor]) -> None:
        state.update({name: tensor.half() for name, tensor in state.items()})

    frames = load("wav2vec2", damaged(change_state(halve))).frames(speechlike(4000))
    expected = loaded["wav2vec2"].frames(speechlike(4000))
    assert 0 < np.linalg.norm(frames - expected) / np.linalg.norm(expected) < 0.01


@pytest.mark.parametrize("name", NAMES)
def test_what_every_field_of_transformers_does_is_known(name) -> None:
    """One that a later release adds and that could change a frame must be looked at."""
    fields = {field.name for field in dataclasses.fields(getattr(transformers, CLASSES[name][0]))}
    assert not fields - set(FIELDS[encoders.preset(name).config["model_type"]]) - IGNORED


def test_checkpoints_of_another_model(folders) -> None:
    with pytest.raises(WeightsError, match="another model than hubert: model_type is 'wav2vec2', expected 'hubert'"):
        load("hubert", folders["wav2vec2"])
    with pytest.raises(WeightsError, match=r"or take this one as it is: --encoder hf:/.*wav2vec2\."):
        load("hubert", folders["wav2vec2"])
    with pytest.raises(WeightsError, match="another model than mms-1b: feat_extract_norm is 'group'"):
        load("mms-1b", folders["wav2vec2"])
    with pytest.raises(WeightsError, match=r"another model than wav2vec2: .*do_stable_layer_norm is True"):
        load("wav2vec2", folders["mms-1b"])


class _Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def test_a_pickle_runs_nothing(damaged, tmp_path) -> None:
    def poison(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        torch.save({**state, "x": _Hostile(tmp_path / "ran")}, folder / "pytorch_model.bin")

    with pytest.raises(
        WeightsError, match=r"it names _?io\.open, which weights have no need of; nothing in it was run\. Get it again"
    ):
        load("wav2vec2", damaged(poison))
    assert not (tmp_path / "ran").exists()


def test_dtypes_are_opt_in(folders, loaded) -> None:
    clip = speechlike(6000)
    half = load("mms-1b", folders["mms-1b"], dtype="bfloat16")
    assert (half.dtype, loaded["mms-1b"].dtype) == ("bfloat16", "float32")
    frames = half.frames(clip)
    assert frames.dtype == np.float32
    whole = loaded["mms-1b"].frames(clip)
    # Of the whole matrix: the largest single difference depends on the processor's bfloat16 kernels. The random tiny
    # model amplifies rounding (0.32 seen); unrelated frames would be 1.4 apart.
    assert 1e-4 < np.linalg.norm(frames - whole) / np.linalg.norm(whole) < 0.5
    with pytest.raises(ConfigError, match="computes in float32 or float16 or bfloat16, got dtype 'int8'"):
        load("mms-1b", folders["mms-1b"], dtype="int8")
    with pytest.raises(ConfigError, match="has no option layout"):
        load("mms-1b", folders["mms-1b"], options={"layout": "freq"})
    with pytest.raises(ConfigError, match="Unknown device 'abacus'"):
        encoders.load("mms-1b", LoadRequest(weights=folders["mms-1b"], device="abacus"))


_OTHER_PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from checkpoints import speechlike
from serfuse import encoders
from serfuse.encoders import LoadRequest
for name in sys.argv[3:]:
    encoder = encoders.load(name, LoadRequest(weights=Path(sys.argv[2]) / name, device="cpu"))
    print(name, encoder.weights_id, encoder.frames(speechlike(5000)).tobytes().hex())
"""


@pytest.mark.slow
def test_another_process_gives_the_same(folders, loaded) -> None:
    here = Path(__file__).parent
    root = folders["wavlm"].parent
    wider = ["wavlm-large", "data2vec-base", "w2v-bert-2.0", "whisper-tiny", "mimi"]
    more = {name: load(name, published_checkpoint(PUBLISHED[name], root / name)) for name in wider}
    command = [sys.executable, "-P", "-c", _OTHER_PROCESS, str(here), str(root), *NAMES, *wider]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [*NAMES, *wider]
    for name, weights_id, content in lines:
        encoder = more.get(name) or loaded[name]
        frames = encoder.frames(speechlike(5000))
        assert weights_id == encoder.weights_id and weights_id.startswith("sha256:")
        other = np.frombuffer(bytes.fromhex(content), dtype=np.float32).reshape(frames.shape)
        # Not bit by bit: another process may have another number of threads.
        np.testing.assert_allclose(other, frames, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_full_size(name) -> None:
    preset = encoders.preset(name)
    with torch.device("meta"):
        model = speech_ssl.build(preset)
    assert sum(weight.numel() for weight in model.parameters()) == preset.parameters
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (preset.vector_size, preset.layers)
    lengths = torch.tensor([400, 5 * 16000, 9 * 16000])
    assert model._get_feat_extract_output_lengths(lengths).tolist() == [1, 249, 449]
    assert np.prod(model.config.conv_stride) == preset.hop


@pytest.mark.slow
def test_random_weights_come_from_the_seed_alone() -> None:
    clip = speechlike(1000)
    before = torch.random.get_rng_state()
    first, same, other = (load("hubert", "random", seed=seed, layer="1") for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert (first.weights_id, other.weights_id) == ("random:1", "random:2")
    assert first.frames(clip).shape == (2, 768)
    np.testing.assert_array_equal(first.frames(clip), same.frames(clip))
    assert np.abs(first.frames(clip) - other.frames(clip)).max() > 0.1
