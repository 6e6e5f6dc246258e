"""ECAPA-TDNN on a small checkpoint, against speechbrain's own EncoderClassifier, and at full size on paper."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import fill, speechlike

from serfuse import encoders
from serfuse.encoders import LoadRequest, ecapa
from serfuse.errors import AudioError, ConfigError, WeightsError

CONFIG = {**encoders.preset("ecapa").config, "channels": [16, 16, 16, 16, 24], "lin_neurons": 12}
CONFIG["attention_channels"] = 8
PRESET = replace(encoders.preset("ecapa"), vector_size=12, config=CONFIG)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """As `embedding_model.ckpt` is: a flat state dict of torch.save, with counters of batches."""
    path = tmp_path_factory.mktemp("ecapa") / "embedding_model.ckpt"
    model = ecapa.build(PRESET)
    fill(model)
    state = model.state_dict()
    for name, tensor in state.items():  # decibels in, so that what comes out is of the order of one, as when trained
        if name.endswith("running_var"):
            tensor.fill_(900.0 if name.startswith("blocks.0") else 4.0)
        elif name.endswith("running_mean"):
            tensor.copy_(torch.linspace(-0.5, 0.5, len(tensor)))
    torch.save(state, path)
    return path


def load(weights, **request):
    return ecapa.load(PRESET, LoadRequest(weights=weights, device="cpu", **request))


def test_the_file_has_the_names_of_the_published_one():
    with torch.device("meta"):
        state = ecapa.build(encoders.preset("ecapa")).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert len(shapes) == 231
    assert shapes["blocks.0.conv.conv.weight"] == (1024, 80, 5)
    assert shapes["blocks.3.res2net_block.blocks.6.conv.conv.weight"] == (128, 128, 3)
    assert shapes["blocks.1.se_block.conv1.conv.weight"] == (128, 1024, 1)
    assert shapes["mfa.conv.conv.weight"] == (3072, 3072, 1)
    assert shapes["asp.tdnn.conv.conv.weight"] == (128, 9216, 1)
    assert shapes["asp.conv.conv.weight"] == (3072, 128, 1)
    assert shapes["asp_bn.norm.running_mean"] == (6144,)
    assert shapes["fc.conv.weight"] == (192, 6144, 1)


def test_is_what_speechbrains_classifier_gives(checkpoint):
    from speechbrain.inference.classifiers import EncoderClassifier
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.processing.features import InputNormalization

    model = ECAPA_TDNN(**CONFIG)
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    modules = {
        "compute_features": Fbank(n_mels=80),
        "mean_var_norm": InputNormalization(norm_type="sentence", std_norm=False),
        "embedding_model": model,
        "classifier": torch.nn.Identity(),
    }
    theirs = EncoderClassifier(modules=modules, hparams={}, run_opts={"device": "cpu"})
    theirs.eval()
    heard = []
    model.asp.register_forward_pre_hook(lambda _module, args: heard.append(args[0]))
    clip = speechlike(20_000)
    with torch.no_grad():
        expected = theirs.encode_batch(torch.from_numpy(clip))[0].numpy()
    np.testing.assert_allclose(load(checkpoint).frames(clip), expected, atol=1e-5)
    frames = load(checkpoint, options={"output": "frames"})
    np.testing.assert_allclose(frames.frames(clip), heard[0][0].T.numpy(), atol=1e-5)
    assert (frames.preset.vector_size, frames.preset.frame_rate, frames.frames(clip).shape) == (24, 100, (126, 24))
    assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize("output", ["utterance", "frames"])
def test_a_batch_is_as_its_clips_alone(checkpoint, output):
    encoder = load(checkpoint, options={"output": output})
    clips = [speechlike(8_000, seed) * scale for seed, scale in enumerate((1, 0.01, 0.3))]
    for clip, batched in zip(clips, encoder.frames_batch(clips), strict=True):
        np.testing.assert_allclose(batched, encoder.frames(clip), atol=1e-5)


@pytest.mark.parametrize("output", ["utterance", "frames"])
def test_clips_of_different_length_share_a_pass_as_they_are_alone(checkpoint, output):
    encoder = load(checkpoint, options={"output": output})
    clips = [speechlike(16_000, seed)[-length:] for seed, length in enumerate((640, 15_999, 16_000, 15_360, 9_000))]
    assert encoder.pads
    alone = [encoder.frames(clip) for clip in clips]
    for frames, together in zip(alone, encoder.frames_batch(clips), strict=True):
        assert together.shape == frames.shape
        np.testing.assert_allclose(together, frames, rtol=0, atol=1e-5)
    assert np.array_equal(encoder.frames(clips[0]), alone[0])


def test_shortest_clip(checkpoint):
    for output in ("utterance", "frames"):
        encoder = load(checkpoint, options={"output": output})
        assert np.isfinite(encoder.frames(speechlike(640))).all()
        with pytest.raises(AudioError, match="at least 640"):
            encoder.frames(speechlike(639))
        assert np.isfinite(encoder.frames(np.zeros(4_000, np.float32))).all()


def test_full_size():
    preset = encoders.preset("ecapa")
    with torch.device("meta"):
        model = ecapa.build(preset)
    assert sum(parameter.numel() for parameter in model.parameters()) == preset.parameters == 20_767_552
    assert encoders.load("ecapa", LoadRequest(weights="random", device="cpu")).frames(speechlike(4_000)).shape == (
        1,
        preset.vector_size,
    )


def test_weights_and_options_that_do_not_fit(checkpoint, nowhere, tmp_path):
    with pytest.raises(WeightsError, match=r"embedding_model\.ckpt"):
        encoders.load("ecapa")
    state = torch.load(checkpoint, weights_only=True)
    path = tmp_path / "x.ckpt"
    torch.save({name: value for name, value in state.items() if not name.startswith("asp_bn")}, path)
    with pytest.raises(WeightsError, match="not a complete checkpoint"):
        load(path)
    with pytest.raises(WeightsError, match="another model than ecapa"):
        encoders.load("ecapa", LoadRequest(weights=checkpoint))
    path.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="could not be read"):
        load(path)
    with pytest.raises(ConfigError, match="utterance or frames, got 'all'"):
        load(checkpoint, options={"output": "all"})
    with pytest.raises(ConfigError, match="no layers"):
        load(checkpoint, layer="3")
