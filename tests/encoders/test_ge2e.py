"""The GE2E speaker encoder on a small checkpoint, at full size, and beside librosa's own spectrogram."""

import socket
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from checkpoints import fill, speechlike

from serfuse import encoders
from serfuse.encoders import LoadRequest, ge2e
from serfuse.encoders.pooling import pool
from serfuse.errors import AudioError, ConfigError, WeightsError

PRESET = replace(
    encoders.preset("ge2e"), vector_size=12, config={"bands": 40, "hidden": 12, "layers": 3, "embedding": 8}
)

GOLDEN_FRAME = [-0.132783, -0.054938, -0.052482, -0.179046]
GOLDEN_UTTERANCE = [0.291303, 0.205757, 0.426732, 0.555543]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """As training leaves it: the model beside the optimiser and the loss's own numbers."""
    path = tmp_path_factory.mktemp("ge2e") / "pretrained.pt"
    model = ge2e.build(PRESET)
    fill(model)
    state = {**model.state_dict(), "similarity_weight": torch.ones(1), "similarity_bias": torch.zeros(1)}
    torch.save({"step": 7, "model_state": state, "optimizer_state": {"state": {}}}, path)
    return path


def load(weights, output="frames", **request):
    return ge2e.load(PRESET, LoadRequest(weights=weights, device="cpu", options={"output": output}, **request))


def test_golden_values(checkpoint):
    # Recorded from serfuse itself (torch 2.11, CPU) with `fill` and `speechlike`: a change shows. That the numbers are
    # right is shown by the package's own, in test_wheels.py.
    frames = load(checkpoint).frames(speechlike(24_000))
    assert frames.shape == (151, 12) and frames.dtype == np.float32
    np.testing.assert_allclose(frames[100, :4], GOLDEN_FRAME, atol=1e-5)
    vector = load(checkpoint, "utterance").frames(speechlike(50_000))
    assert vector.shape == (1, 8)
    np.testing.assert_allclose(vector[0, :4], GOLDEN_UTTERANCE, atol=1e-5)


def test_is_an_lstm_over_librosas_mel_bands_of_the_raised_clip(checkpoint):
    clip = 0.01 * speechlike(20_000)
    loud = clip * 10 ** (-30 / 20) / np.sqrt(np.mean(clip.astype(np.float64) ** 2))
    mel = librosa.feature.melspectrogram(y=loud.astype(np.float32), sr=16000, n_fft=400, hop_length=160, n_mels=40)
    model = torch.nn.LSTM(40, 12, 3, batch_first=True)
    state = torch.load(checkpoint, weights_only=True)["model_state"]
    model.load_state_dict({name[5:]: tensor for name, tensor in state.items() if name.startswith("lstm.")})
    with torch.no_grad():
        expected = model(torch.from_numpy(mel.T.astype(np.float32))[None])[0][0].numpy()
    np.testing.assert_allclose(load(checkpoint).frames(clip), expected, atol=1e-5)


def test_level_is_raised_and_never_lowered():
    soft, loud = 0.001 * speechlike(4_000), speechlike(4_000)
    raised = ge2e.raised(np.stack([soft, loud, np.zeros_like(soft)]))
    assert 20 * np.log10(np.sqrt(np.mean(raised[0] ** 2))) == pytest.approx(-30, abs=1e-4)
    np.testing.assert_array_equal(raised[1], loud)
    assert not raised[2].any()


@pytest.mark.parametrize(
    ("samples", "starts"),
    # What the package's compute_partial_slices gives at its rate 1.3 and coverage 0.75.
    [
        (400, [0]),
        (25_600, [0]),
        (30_000, [0]),
        (37_919, [0, 77]),
        (50_240, [0, 77, 154]),
        (80_000, [0, 77, 154, 231, 308]),
    ],
)
def test_pieces_of_an_utterance(samples, starts):
    assert ge2e.pieces(samples) == starts


def test_an_utterance_is_the_mean_of_its_pieces(checkpoint):
    """One piece alone is what the clip's own last frame gives; the mean of several has length 1 again."""
    encoder = load(checkpoint, "utterance")
    model = ge2e.build(PRESET)
    fill(model)
    clip = speechlike(25_600)
    # The original's piece of 160 columns of a clip of 1.6 s: all its columns but the one behind the end.
    last = torch.from_numpy(load(checkpoint).frames(clip)[159])
    with torch.no_grad():
        expected = torch.relu(model.linear(last))
    np.testing.assert_allclose(encoder.frames(clip)[0], (expected / expected.norm()).numpy(), atol=1e-5)
    assert np.linalg.norm(encoder.frames(speechlike(60_000))) == pytest.approx(1, abs=1e-5)
    assert (encoder.preset.vector_size, encoder.preset.frame_rate) == (8, None)


@pytest.mark.parametrize("output", ["frames", "utterance"])
def test_a_batch_is_as_its_clips_alone_and_twice_is_the_same(checkpoint, output):
    encoder = load(checkpoint, output)
    clips = [speechlike(41_000, seed) * scale for seed, scale in enumerate((1, 0.001, 0.3))]
    for clip, batched in zip(clips, encoder.frames_batch(clips), strict=True):
        np.testing.assert_allclose(batched, encoder.frames(clip), atol=1e-5)
        assert np.array_equal(encoder.frames(clip), encoder.frames(clip))
    assert encoder.batches


@pytest.mark.parametrize("output", ["frames", "utterance"])
def test_shortest_clip_and_digital_silence(checkpoint, output):
    encoder = load(checkpoint, output)
    assert len(encoder.frames(speechlike(400))) == (3 if output == "frames" else 1)
    with pytest.raises(AudioError, match="at least 400"):
        encoder.frames(speechlike(399))
    assert np.isfinite(encoder.frames(np.zeros(8_000, np.float32))).all()


def test_the_output_is_an_option_of_the_key(checkpoint):
    assert load(checkpoint).options == {"output": "frames"} != load(checkpoint, "utterance").options
    with pytest.raises(ConfigError, match="frames or utterance, got 'mean'"):
        load(checkpoint, "mean")
    with pytest.raises(ConfigError, match="no layers"):
        load(checkpoint, layer="2")
    with pytest.raises(ConfigError, match="computes in float32"):
        load(checkpoint, dtype="float16")


def test_full_size_with_random_weights():
    preset = encoders.preset("ge2e")
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in ge2e.build(preset).parameters()) == preset.parameters
    before = torch.random.get_rng_state()
    values = [
        encoders.load("ge2e", LoadRequest(weights="random", seed=seed, device="cpu")).frames(speechlike(4_000))
        for seed in (1, 1, 2)
    ]
    assert values[0].shape == (26, 256) and pool(values[0], "mean-std", preset).shape == (512,)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(values[0], values[1]) and not np.allclose(values[0], values[2], atol=1e-3)


def test_it_loads_without_a_network_and_runs_nothing_of_the_wheel(checkpoint, tmp_path, monkeypatch):
    """Unpacked wheel and all: the package's code beside the weights is not imported."""
    (tmp_path / "pretrained.pt").symlink_to(checkpoint)
    for name in ("__init__.py", "voice_encoder.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")

    def refuse(*_args, **_more):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    encoder = load(tmp_path)
    assert encoder.weights_id == load(checkpoint).weights_id
    assert np.array_equal(encoder.frames(speechlike(4_000)), load(checkpoint).frames(speechlike(4_000)))
    assert not (tmp_path / "ran").exists()


class _Ran:
    def __reduce__(self):
        return print, ("ran",)


def test_weights_that_are_absent_unsafe_incomplete_or_of_another_model(checkpoint, tmp_path, nowhere, capsys):
    with pytest.raises(WeightsError, match=r"not here\. .*serfuse weights get ge2e\. .*pretrained\.pt"):
        encoders.load("ge2e")
    path = tmp_path / "x.pt"
    torch.save({"model_state": {"w": _Ran()}}, path)
    with pytest.raises(WeightsError, match="could not be read"):
        load(path)
    assert capsys.readouterr().out == ""
    state = torch.load(checkpoint, weights_only=True)["model_state"]
    torch.save({"model_state": {name: value for name, value in state.items() if name != "linear.bias"}}, path)
    with pytest.raises(WeightsError, match=r"not a complete checkpoint of ge2e: 1 weights .*linear\.bias"):
        load(path)
    torch.save({"model_state": {**state, "lstm.weight_ih_l3": torch.zeros(48, 12)}}, path)
    with pytest.raises(WeightsError, match=r"another model than ge2e: .* more \(lstm\.weight_ih_l3\)"):
        load(path)
    torch.save({"model_state": {**state, "lstm.weight_ih_l0": torch.zeros(48, 80)}}, path)
    with pytest.raises(WeightsError, match="another model than ge2e: 1 weights have another shape"):
        load(path)
    torch.save({"model_state": {**state, "linear.bias": torch.full((8,), torch.nan)}}, path)
    with pytest.raises(WeightsError, match=r"linear\.bias hold NaN"):
        load(path)
    torch.save({"model_state": "none"}, path)
    with pytest.raises(WeightsError, match="values of type str"):
        load(path)
    path.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="could not be read"):
        load(path)
