"""What holds for the encoder of every codec; the test files of the four say with which checkpoint."""

import subprocess
import sys

import numpy as np
import pytest
from codec_checkpoints import tone

from serfuse import encoders
from serfuse.encoders import LoadRequest
from serfuse.encoders.pooling import pool, vector_size
from serfuse.errors import AudioError, ConfigError, WeightsError


def load(name, weights, **request):
    return encoders.load(name, LoadRequest(weights=weights, device="cpu", **request))


def check_golden(encoder, *, row, last, mean, std, shape, tolerance=2e-5):
    """The frames of `tone(4801)` against numbers recorded from another run; tolerances relative to `std`."""
    frames = encoder.frames(tone(4801))
    assert frames.dtype == np.float32 and frames.shape == shape
    np.testing.assert_allclose(frames[3, : len(row)], row, rtol=0, atol=tolerance * std)
    np.testing.assert_allclose(frames[-1, : len(last)], last, rtol=0, atol=tolerance * std)
    np.testing.assert_allclose(frames.mean(dtype=np.float64), mean, rtol=0, atol=tolerance * std)
    np.testing.assert_allclose(frames.std(dtype=np.float64), std, rtol=tolerance)


def check_batch_equals_alone(encoder):
    rate = encoder.sample_rate
    clips = [tone(9001, rate), tone(18002, rate)[9001:], 0.01 * tone(9001, rate)[::-1]]
    together = encoder.frames_batch(clips)
    for clip, frames in zip(clips, together, strict=True):
        alone = encoder.frames(clip)
        assert np.abs(frames - alone).max() <= 1e-5 * max(1.0, np.abs(alone).max())
    with pytest.raises(ValueError, match="equal length"):
        encoder.frames_batch([clips[0], clips[0][1:]])


def check_shortest(encoder, samples):
    """`samples` give at least one finite frame; one less, and what is no clean mono, are refused in words."""
    assert encoder.preset.min_samples == samples
    frames = encoder.frames(tone(samples))
    assert len(frames) >= 1 and np.isfinite(frames).all()
    with pytest.raises(AudioError, match="Too short"):
        encoder.frames(np.zeros(samples - 1, dtype=np.float32))
    with pytest.raises(AudioError, match="one channel"):
        encoder.frames(np.zeros((2, 8000), dtype=np.float32))
    with pytest.raises(AudioError, match="NaN"):
        encoder.frames(np.full(8000, np.nan, dtype=np.float32))


def check_paper_size(encoder, size):
    frames = encoder.frames(tone(5 * encoder.sample_rate, encoder.sample_rate))
    vector = pool(frames, "paper", encoders.preset(encoder.name))
    assert vector_size(encoders.preset(encoder.name), "paper") == size
    return vector


def check_random_weights(name, preset_size, make):
    """Full size, named after the seed, equal for one seed, and no matter to the global generator."""
    import torch

    clip = tone(encoders.preset(name).min_samples + 3000, encoders.preset(name).sample_rate)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = load(name, "random", seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.weights_id == "random:3"
    frames = first.frames(clip)
    assert frames.shape[1] == preset_size == encoders.preset(name).vector_size
    torch.manual_seed(6)
    np.testing.assert_array_equal(frames, make(3).frames(clip))
    assert np.abs(frames - make(4).frames(clip)).max() > 0


def check_requests(name, checkpoint, tmp_path, monkeypatch):
    """No weights, a path to nothing, a damaged file, a layer and an option that are not there."""
    monkeypatch.setenv("SERFUSE_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match=f"weights of {name} are not here.*Put .* into") as caught:
        load(name, None)
    assert "--weights random" in str(caught.value)
    assert encoders.weights_status(name)[0] is False
    with pytest.raises(WeightsError, match="no such file or folder"):
        load(name, tmp_path / "nothing")
    with pytest.raises(ConfigError, match="no layers to choose from"):
        load(name, checkpoint, layer="3")
    with pytest.raises(ConfigError, match="has no option loudness"):
        load(name, checkpoint, options={"loudness": 1})
    with pytest.raises(ConfigError, match="computes in float32"):
        load(name, checkpoint, dtype="float16")


_OTHER_PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
from codec_laws import load, tone
encoder = load(sys.argv[2], sys.argv[3])
print(encoder.weights_id, encoder.frames(tone(9001, encoder.sample_rate)).tobytes().hex())
"""


def check_two_processes(name, checkpoint, folder):
    encoder = load(name, checkpoint)
    frames = encoder.frames(tone(9001, encoder.sample_rate))
    done = subprocess.run(
        [sys.executable, "-P", "-c", _OTHER_PROCESS, str(folder), name, str(checkpoint)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    weights_id, content = done.stdout.split()
    assert weights_id == encoder.weights_id and weights_id.startswith("sha256:")
    other = np.frombuffer(bytes.fromhex(content), dtype=np.float32).reshape(frames.shape)
    np.testing.assert_allclose(other, frames, rtol=0, atol=1e-6 * max(1.0, np.abs(frames).max()))


def check_state_errors(name, state, file, tmp_path, *, first):
    """Wrong files, each with its own message. `first`: the tensor by which a checkpoint is known."""
    import torch

    def attempt(content):
        path = tmp_path / file
        torch.save(content, path)
        return load(name, path)

    lacking = dict(state)
    gone = next(key for key in sorted(lacking) if key.startswith("encoder.") and key.endswith("bias"))
    del lacking[gone]
    with pytest.raises(WeightsError, match="not a complete checkpoint.*1 weights.*" + gone):
        attempt(lacking)
    with pytest.raises(WeightsError, match=f"lacks {first}"):
        attempt({"embeddings.weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match="holds a dictionary with values of type dict"):
        attempt({"model": dict(state)})
    with pytest.raises(WeightsError, match=r"more .*encoder\.extra"):
        attempt({**state, "encoder.extra": torch.zeros(1)})
    with pytest.raises(WeightsError, match="another shape"):
        attempt({**state, gone: torch.zeros(99)})
    with pytest.raises(WeightsError, match="NaN"):
        attempt({**state, gone: torch.full_like(state[gone], float("nan"))})
    (tmp_path / file).write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="could not be read"):
        load(name, tmp_path / file)


class Hostile:
    """What a pickle could run."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def check_hostile(name, state, file, tmp_path):
    import torch

    torch.save({**state, "x": Hostile(tmp_path / "ran")}, tmp_path / file)
    with pytest.raises(WeightsError, match="could not be read"):
        load(name, tmp_path / file)
    assert not (tmp_path / "ran").exists()
