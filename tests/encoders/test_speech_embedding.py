"""Google's speech embedding with small made-up weights in TensorFlow Lite's format, and at full size."""

import hashlib
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import fill, speechlike
from tflite_writer import tflite

from serfuse import encoders
from serfuse.encoders import LoadRequest, ge2e, speech_embedding
from serfuse.errors import AudioError, ConfigError, WeightsError

PUBLISHED = encoders.preset("speech-embedding")
LAYERS = [[max(4, layer[0] // 12), *layer[1:]] for layer in PUBLISHED.config["layers"]]
SHORTEST = 12_512
GOLDEN = [2.383808, -2.053877, -4.318296, -3.280488]


def tensors() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Of both files, under the converter's names and in its layouts."""
    model = speech_embedding.build(replace(PUBLISHED, config={**PUBLISHED.config, "layers": LAYERS}))
    fill(model)
    draw = np.random.RandomState(1).standard_normal
    mel = {
        "convolution1": 0.2 * draw((257, 1, 512, 1)).astype(np.float32),
        "convolution_1": 0.2 * draw((257, 1, 512, 1)).astype(np.float32),
        "Const_3": np.abs(0.2 * draw((257, 32))).astype(np.float32),
        "convolution": np.zeros(257, np.float32),
    }
    network = {}
    for number, layer in enumerate(model.convolutions.convolutions):
        own = f"model/conv2d_{number}/Conv2D" if number else "model/conv2d/Conv2D"
        norm = own.replace("conv2d", "batch_normalization").replace("Conv2D", "FusedBatchNormV3;model/conv2d_2/Conv2D")
        last = number == len(LAYERS) - 1
        # Twice as large: through twenty narrow layers the input would not show at the end.
        network[f"{own}1" if last else own] = 2 * layer.weight.detach().numpy().transpose(0, 2, 3, 1)
        network[own if last else norm] = layer.bias.detach().numpy()
    return mel, network


def write(folder: Path, mel: dict[str, np.ndarray], network: dict[str, np.ndarray]):
    """The files in `folder`, and a preset that takes them for the published ones."""
    folder.mkdir(exist_ok=True)
    pins = []
    for pin, content in zip(PUBLISHED.published, (tflite(mel), tflite(network)), strict=True):
        (folder / pin.name).write_bytes(content)
        pins.append(replace(pin, sha256=hashlib.sha256(content).hexdigest()))
    config = {**PUBLISHED.config, "layers": LAYERS}
    return replace(PUBLISHED, vector_size=LAYERS[-1][0], config=config, published=tuple(pins))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A preset and its folder."""
    folder = tmp_path_factory.mktemp("speech-embedding")
    return write(folder, *tensors()), folder


@pytest.fixture(scope="module")
def encoder(small):
    return speech_embedding.load(small[0], LoadRequest(weights=small[1], device="cpu"))


def test_golden_values(encoder):
    # Recorded from serfuse itself (torch 2.11, CPU) with `fill` and `speechlike`: a change shows. That the numbers are
    # right is shown by the package's own, in test_wheels.py.
    frames = encoder.frames(speechlike(24_000))
    assert frames.shape == (9, 8) and frames.dtype == np.float32
    np.testing.assert_allclose(frames[4, :4], GOLDEN, rtol=1e-5, atol=1e-5)


def test_one_pass_is_what_windows_of_76_columns_every_8_give(encoder):
    convolutions = speech_embedding.build(PUBLISHED).convolutions
    fill(convolutions)
    spectrogram = torch.from_numpy(np.random.RandomState(0).normal(2, 1, (1, 76 + 8 * 4, 32)).astype(np.float32))
    with torch.no_grad():
        whole = convolutions(spectrogram)[0].numpy()
        windows = convolutions(torch.cat([spectrogram[:, start : start + 76] for start in range(0, 40, 8)]))[:, 0]
    assert whole.shape == (5, 96) and whole.std() > 0
    np.testing.assert_allclose(whole, windows.numpy(), rtol=1e-5, atol=1e-5 * np.abs(whole).max())


def test_the_spectrogram_is_decibels_no_lower_than_80_below_the_loudest(small):
    mel, _ = tensors()
    spectrogram = speech_embedding.build(small[0]).spectrogram
    names = {"cosine": mel["convolution1"][..., 0], "sine": mel["convolution_1"][..., 0], "bands": mel["Const_3"]}
    spectrogram.load_state_dict({name: torch.from_numpy(value) for name, value in names.items()})
    clip = np.round(speechlike(4_000) * 32768)
    clip[:2_000] = 0
    columns = np.lib.stride_tricks.sliding_window_view(clip.astype(np.float64), 512)[::160]
    power = sum(
        (columns @ mel[name][:, 0, :, 0].T.astype(np.float64)) ** 2 for name in ("convolution1", "convolution_1")
    )
    decibel = 10 * np.log10(np.maximum(power @ mel["Const_3"], 1e-10))
    expected = np.maximum(decibel, decibel.max() - 80) / 10 + 2
    with torch.no_grad():
        found = spectrogram(torch.from_numpy(clip.astype(np.float32))[None])[0].numpy()
    assert found.shape == (22, 32) and np.isclose(expected, expected.max() - 8).sum() > 100
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_samples_are_those_of_16_bits(encoder):
    """The package takes nothing else: what lies between two steps, or beyond full scale, is brought to a step."""
    clip = speechlike(SHORTEST)
    steps = np.round(clip * 32768) / 32768
    assert np.array_equal(encoder.frames(clip), encoder.frames(steps.astype(np.float32)))
    loud = (20 * clip).astype(np.float32)
    clipped = np.clip(loud, -1, 32767 / 32768).astype(np.float32)
    assert np.abs(loud).max() > 1 and np.array_equal(encoder.frames(loud), encoder.frames(clipped))


def test_a_batch_is_as_its_clips_alone_and_twice_is_the_same(encoder):
    # Levels differ: the floor of the spectrogram is each clip's own.
    clips = [speechlike(20_000, seed) * scale for seed, scale in enumerate((1, 0.001, 0.3))]
    for clip, batched in zip(clips, encoder.frames_batch(clips), strict=True):
        np.testing.assert_allclose(batched, encoder.frames(clip), rtol=1e-5, atol=1e-5)
        assert np.array_equal(encoder.frames(clip), encoder.frames(clip))
    assert encoder.batches


def test_shortest_clip_and_digital_silence(encoder):
    assert encoder.preset.min_samples == SHORTEST
    assert encoder.frames(speechlike(SHORTEST)).shape == (1, 8)
    assert encoder.frames(speechlike(SHORTEST + 1279)).shape == (1, 8)
    assert encoder.frames(speechlike(SHORTEST + 1280)).shape == (2, 8)
    with pytest.raises(AudioError, match=f"at least {SHORTEST}"):
        encoder.frames(speechlike(SHORTEST - 1))
    assert np.isfinite(encoder.frames(np.zeros(16_000, np.float32))).all()


def test_full_size_with_random_weights():
    with torch.device("meta"):
        model = speech_embedding.build(PUBLISHED)
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED.parameters
    before = torch.random.get_rng_state()
    values = [
        encoders.load("speech-embedding", LoadRequest(weights="random", seed=seed, device="cpu")).frames(
            speechlike(16_000)
        )
        for seed in (1, 1, 2)
    ]
    assert values[0].shape == (3, 96) and np.isfinite(values[0]).all()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(values[0], values[1]) and not np.allclose(values[0], values[2], atol=1e-3)


def test_a_file_is_read_only_if_it_is_the_published_one(small, tmp_path):
    preset, folder = small
    for pin in preset.published:
        (tmp_path / pin.name).write_bytes((folder / pin.name).read_bytes())
    network = tmp_path / "embedding_model.tflite"
    content = bytearray(network.read_bytes())
    content[-100] ^= 1
    network.write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"embedding_model\.tflite is damaged .* Get it anew with: serfuse weights get speech-embed"
    ):
        speech_embedding.load(preset, LoadRequest(weights=tmp_path, device="cpu"))
    # The published preset takes none of these small files.
    with pytest.raises(WeightsError, match=r"another file than the published melspectrogram\.tflite"):
        encoders.load("speech-embedding", LoadRequest(weights=folder, device="cpu"))


def test_weights_that_are_absent_incomplete_or_of_another_model(small, tmp_path, nowhere):
    with pytest.raises(WeightsError, match=r"not here\. .*serfuse weights get speech-embedding\."):
        encoders.load("speech-embedding")
    (tmp_path / "melspectrogram.tflite").write_bytes((small[1] / "melspectrogram.tflite").read_bytes())
    with pytest.raises(WeightsError, match=r"lacks embedding_model\.tflite"):
        speech_embedding.load(small[0], LoadRequest(weights=tmp_path, device="cpu"))
    mel, network = tensors()
    for change in (
        lambda: network.pop("model/conv2d_7/Conv2D"),
        lambda: network.update({"model/conv2d_7/Conv2D": np.zeros((6, 1, 3, 5), np.float32)}),
        lambda: mel.pop("Const_3"),
    ):
        change()
        preset = write(tmp_path / "changed", mel, network)
        with pytest.raises(WeightsError, match="another model than speech-embedding"):
            speech_embedding.load(preset, LoadRequest(weights=tmp_path / "changed", device="cpu"))
    with pytest.raises(ConfigError, match="no layers"):
        speech_embedding.load(small[0], LoadRequest(weights=small[1], device="cpu", layer="3"))


def test_it_loads_without_a_network(small, monkeypatch):
    def refuse(*_args, **_more):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    encoder = speech_embedding.load(small[0], LoadRequest(weights=small[1], device="cpu"))
    assert encoder.weights_id.startswith("sha256:") and encoder.frames(speechlike(SHORTEST)).shape == (1, 8)


@pytest.mark.slow
def test_another_process_gives_the_same_and_imports_neither_package_nor_interpreter():
    code = (
        "import sys, numpy as np; from serfuse import encoders; from serfuse.encoders import LoadRequest\n"
        "clip = np.sin(np.arange(16000) * .1).astype('f')\n"
        "for name in ('ge2e', 'speech-embedding'):\n"
        "    encoder = encoders.load(name, LoadRequest(weights='random', device='cpu'))\n"
        "    sys.stdout.buffer.write(encoder.frames(clip)[-1].tobytes())\n"
        "assert not {'resemblyzer', 'openwakeword', 'ai_edge_litert', 'tensorflow'} & set(sys.modules)"
    )
    output = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True).stdout
    clip = np.sin(np.arange(16000) * 0.1).astype("f")
    here = [
        module.load(encoders.preset(name), LoadRequest(weights="random", device="cpu")).frames(clip)[-1]
        for name, module in {"ge2e": ge2e, "speech-embedding": speech_embedding}.items()
    ]
    np.testing.assert_allclose(np.frombuffer(output, np.float32), np.concatenate(here), atol=1e-5)
