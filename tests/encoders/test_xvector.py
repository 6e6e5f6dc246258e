"""The x-vector on a small checkpoint, against speechbrain's own EncoderClassifier, and at full size on paper."""

import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import assert_alike_side_by_side, fill, speechlike

from serfuse import encoders
from serfuse.encoders import LoadRequest, xvector, xvector_model
from serfuse.errors import AudioError, ConfigError, WeightsError

CONFIG = {**encoders.preset("xvector").config, "tdnn_channels": [12, 12, 12, 12, 20], "lin_neurons": 16}
PRESET = replace(encoders.preset("xvector"), vector_size=16, config=CONFIG)
GOLDEN = [-1.65075, -1.14412, 0.4635, 1.73443]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("xvector") / "embedding_model.ckpt"
    model = xvector.build(PRESET)
    fill(model)
    torch.save(model.state_dict(), path)
    return path


def load(weights, **request):
    return xvector.load(PRESET, LoadRequest(weights=weights, device="cpu", **request))


def test_golden_values(checkpoint):
    # Recorded from serfuse itself (torch 2.11, CPU, one thread) with `fill` and `speechlike`: a change shows. That the
    # numbers are right is shown by speechbrain's own classifier, below.
    frames = load(checkpoint).frames(speechlike(24_000))
    assert frames.shape == (1, 16)
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames[0, :4], GOLDEN, atol=2e-4)


def test_is_what_speechbrains_classifier_gives(checkpoint):
    from speechbrain.inference.classifiers import EncoderClassifier
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.Xvector import Xvector
    from speechbrain.processing.features import InputNormalization

    model = Xvector(**CONFIG)
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    modules = {
        "compute_features": Fbank(n_mels=24),
        "mean_var_norm": InputNormalization(norm_type="sentence", std_norm=False),
        "embedding_model": model,
        "classifier": torch.nn.Identity(),
    }
    theirs = EncoderClassifier(modules=modules, hparams={}, run_opts={"device": "cpu"})
    theirs.eval()
    clip = speechlike(20_000)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(xvector_model.NOISE_SEED)  # then its noise is the same draw
        expected = theirs.encode_batch(torch.from_numpy(clip))[0].numpy()
        other = theirs.encode_batch(torch.from_numpy(clip))[0].numpy()
    got = load(checkpoint).frames(clip)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert not np.array_equal(other, expected)  # its noise is new at every call


def test_a_batch_is_as_its_clips_alone_and_twice_is_the_same(checkpoint):
    encoder = load(checkpoint)
    clips = [speechlike(16_000, seed) * scale for seed, scale in enumerate((1, 0.01, 0.3, 1))]
    for clip, batched in zip(clips, encoder.frames_batch(clips), strict=True):
        np.testing.assert_allclose(batched, encoder.frames(clip), atol=1e-5)
        assert np.array_equal(encoder.frames(clip), encoder.frames(clip))


def test_clips_of_different_length_share_a_pass_as_they_are_alone(checkpoint):
    """At their ends convolutions find a clip's reflection, and a click there is not heard behind it."""
    encoder = load(checkpoint)
    clips = [speechlike(16_000, seed)[-length:] for seed, length in enumerate((480, 15_999, 16_000, 15_360, 9_119))]
    clips[-1] *= 1e-3
    clips[-1][-1] = 1.0  # far above the rest, in the midst of the window behind the clip
    clips.append(np.zeros(2_000, np.float32))
    assert encoder.pads
    alone = [encoder.frames(clip) for clip in clips]
    for frames, together in zip(alone, encoder.frames_batch(clips), strict=True):
        assert together.shape == frames.shape
        np.testing.assert_allclose(together, frames, rtol=0, atol=1e-5)
    assert np.array_equal(encoder.frames(clips[0]), alone[0])  # no trace of it is left behind


def test_shortest_clip(checkpoint):
    encoder = load(checkpoint)
    assert np.isfinite(encoder.frames(speechlike(480))).all()
    with pytest.raises(AudioError, match="at least 480"):
        encoder.frames(speechlike(479))
    assert np.isfinite(encoder.frames(np.zeros(8_000, np.float32))).all()


def test_full_size():
    preset = encoders.preset("xvector")
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in xvector.build(preset).parameters())
    assert count == preset.parameters == 4_211_604
    assert f"{count / 1e6:.1f} M" == preset.paper_parameters
    assert encoders.load("xvector", LoadRequest(weights="random", device="cpu")).frames(speechlike(8_000)).shape == (
        1,
        512,
    )


def test_random_weights_and_noise_leave_the_generator_alone():
    before = torch.random.get_rng_state()
    values = [load("random", seed=seed).frames(speechlike(4_000)) for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(values[0], values[1])
    assert not np.allclose(values[0], values[2], atol=1e-3)


@pytest.mark.slow
def test_another_process_gives_the_same(checkpoint):
    code = (
        "import sys, numpy as np; from dataclasses import replace; from serfuse import encoders\n"
        "from serfuse.encoders import xvector, LoadRequest\n"
        f"preset = replace(encoders.preset('xvector'), config={CONFIG!r})\n"
        f"encoder = xvector.load(preset, LoadRequest(weights={str(checkpoint)!r}, device='cpu'))\n"
        "sys.stdout.buffer.write(encoder.frames(np.sin(np.arange(9000) * .1).astype('f')).tobytes())"
    )
    output = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True).stdout
    here = load(checkpoint).frames(np.sin(np.arange(9000) * 0.1).astype("f"))
    np.testing.assert_allclose(np.frombuffer(output, np.float32).reshape(here.shape), here, atol=1e-6)


def test_a_folder_as_published_loads_offline_and_its_yaml_is_not_read(checkpoint, tmp_path, monkeypatch):
    """speechbrain's own loader builds whatever hyperparams.yaml names, and asks the hub even for a local folder."""
    folder = tmp_path / "spkrec"
    folder.mkdir()
    (folder / "embedding_model.ckpt").symlink_to(checkpoint)
    (folder / "hyperparams.yaml").write_text(f"ran: !!python/object/apply:os.system ['touch {tmp_path / 'ran'}']\n")
    (folder / "custom.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    linked = tmp_path / "linked"
    linked.symlink_to(folder)

    def refuse(*_args, **_more):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    expected = load(checkpoint)
    for weights in (folder, linked):
        encoder = load(weights)
        assert encoder.weights_id == expected.weights_id
        assert np.array_equal(encoder.frames(speechlike(4_000)), expected.frames(speechlike(4_000)))
    assert not (tmp_path / "ran").exists()


class _Ran:
    def __reduce__(self):
        return print, ("ran",)


def test_weights_that_are_absent_unsafe_incomplete_or_of_another_model(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SERFUSE_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(WeightsError, match=r"embedding_model\.ckpt"):
        encoders.load("xvector")
    path = tmp_path / "x.ckpt"
    torch.save({"w": _Ran()}, path)
    with pytest.raises(WeightsError, match="could not be read"):
        load(path)
    assert capsys.readouterr().out == ""
    state = torch.load(checkpoint, weights_only=True)
    torch.save({name: value for name, value in state.items() if "blocks.0." not in name}, path)
    with pytest.raises(WeightsError, match="not a complete checkpoint"):
        load(path)
    with pytest.raises(WeightsError, match="another model than xvector"):
        encoders.load("xvector", LoadRequest(weights=checkpoint))
    path.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="could not be read"):
        load(path)
    with pytest.raises(ConfigError, match="no layers"):
        load(checkpoint, layer="3")


def test_passes_side_by_side_give_what_each_gives_alone(checkpoint):
    encoder = load(checkpoint)
    assert encoder.passes_at_once == (2 if torch.get_num_threads() > 1 else 1)
    clips = [speechlike(8_000 + 800 * number) for number in range(16)]
    assert_alike_side_by_side(encoder, clips)
