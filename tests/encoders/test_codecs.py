"""What holds for the encoder of every codec, on small checkpoints in the publisher's own format."""

import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from codec_checkpoints import STATES, load, save, tone, whole
from safetensors.torch import load_file

from serfuse import encoders
from serfuse.encoders.pooling import pool, vector_size
from serfuse.errors import AudioError, ConfigError, WeightsError


@dataclass(frozen=True)
class Facts:
    """Of one codec: vector size of the small checkpoint and of the published one, fewest samples, the size of the
    `paper` vector of 5.000 s at full size and here, and the tensor by which a checkpoint is known."""

    small: int
    full: int
    shortest: int
    paper: int
    paper_here: int
    first: str = ""


FACTS = {
    "encodec": Facts(16, 128, 1, 375, 375, "encoder.model.0.conv.conv.weight_v"),
    "dac": Facts(64, 1024, 1, 251, 251),
    "speechtokenizer": Facts(16, 1024, 1, 250, 250, "encoder.model.0.conv.conv.weight_v"),
    # The papers' mean over time, here of 16 channels.
    "soundstream": Facts(16, 256, 2200, 256, 16, "encoder.layers.0.conv.weight"),
}


@pytest.fixture(scope="module", params=FACTS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def facts(name) -> Facts:
    return FACTS[name]


@pytest.fixture(scope="module")
def checkpoint(name, tmp_path_factory) -> Path:
    return save(name, tmp_path_factory.mktemp(name))


@pytest.fixture(scope="module")
def encoder(name, checkpoint):
    return load(name, checkpoint)


@pytest.mark.slow
def test_a_small_checkpoint_tells_its_own_size(name, encoder, checkpoint, facts):
    assert encoder.preset.vector_size == facts.small
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    assert encoders.weights_status(name, checkpoint) == (True, str(folder))


def test_loads_without_a_network(name, checkpoint, monkeypatch):
    def refuse(*_args, **_more):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert load(name, checkpoint).weights_id.startswith("sha256:")


@pytest.mark.slow
def test_a_batch_is_as_its_clips_alone(encoder):
    rate = encoder.sample_rate
    clips = [tone(9001, rate), tone(18002, rate)[9001:], 0.01 * tone(9001, rate)[::-1]]
    if encoder.pads:
        clips.append(tone(8000, rate))
    together = encoder.frames_batch(clips)
    for clip, frames in zip(clips, together, strict=True):
        alone = encoder.frames(clip)
        assert np.abs(frames - alone).max() <= 1e-5 * max(1.0, np.abs(alone).max())
    if not encoder.pads:
        with pytest.raises(ValueError, match="equal length"):
            encoder.frames_batch([clips[0], clips[0][1:]])


def test_the_shortest_clip_gives_a_frame_and_less_or_no_clean_mono_is_refused(encoder, facts):
    assert encoder.preset.min_samples == facts.shortest
    frames = encoder.frames(tone(facts.shortest))
    assert len(frames) >= 1 and np.isfinite(frames).all()
    with pytest.raises(AudioError, match="Too short"):
        encoder.frames(np.zeros(facts.shortest - 1, dtype=np.float32))
    with pytest.raises(AudioError, match="one channel"):
        encoder.frames(np.zeros((2, 8000), dtype=np.float32))
    with pytest.raises(AudioError, match="NaN"):
        encoder.frames(np.full(8000, np.nan, dtype=np.float32))


@pytest.mark.slow
def test_five_seconds_give_the_papers_vector_size(name, checkpoint, facts):
    encoder = load(name, checkpoint, options=encoders.preset(name).paper_options)
    frames = encoder.frames(tone(5 * encoder.sample_rate, encoder.sample_rate))
    assert pool(frames, "paper", encoders.preset(name)).shape == (facts.paper_here,)
    assert vector_size(encoders.preset(name), "paper") == facts.paper


_OTHER_PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
from codec_checkpoints import load, tone
encoder = load(sys.argv[2], sys.argv[3])
print(encoder.weights_id, encoder.frames(tone(9001, encoder.sample_rate)).tobytes().hex())
"""


@pytest.mark.slow
def test_another_process_gives_the_same(name, encoder, checkpoint):
    frames = encoder.frames(tone(9001, encoder.sample_rate))
    done = subprocess.run(
        [sys.executable, "-P", "-c", _OTHER_PROCESS, str(Path(__file__).parent), name, str(checkpoint)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    weights_id, content = done.stdout.split()
    assert weights_id == encoder.weights_id and weights_id.startswith("sha256:")
    other = np.frombuffer(bytes.fromhex(content), dtype=np.float32).reshape(frames.shape)
    np.testing.assert_allclose(other, frames, rtol=0, atol=1e-6 * max(1.0, np.abs(frames).max()))


def test_absent_weights_say_where_to_get_them_and_where_to_put_them(name, tmp_path, nowhere):
    with pytest.raises(WeightsError, match=f"weights of {name} are not here.*Put .* into") as caught:
        load(name, None)
    assert "--weights random" in str(caught.value)
    assert encoders.weights_status(name)[0] is False
    with pytest.raises(WeightsError, match="no such file or folder"):
        load(name, tmp_path / "nothing")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"layer": "3"}, "no layers to choose from"),
        ({"options": {"loudness": 1}}, "has no option loudness"),
        ({"dtype": "float16"}, "computes in float32"),
        ({"device": "abacus"}, "Unknown device"),
        ({"device": "mps"}, "Unknown device 'mps'. Use auto, cpu, cuda or cuda:N"),
        ({"layer": "\u00b2"}, "no layers to choose from"),
    ],
)
def test_what_it_does_not_have_is_refused(name, checkpoint, request_, message):
    with pytest.raises(ConfigError, match=message):
        encoders.load(name, encoders.LoadRequest(weights=checkpoint, **request_))


@pytest.mark.slow
def test_random_weights_come_from_the_seed_alone(name, facts):
    preset = encoders.preset(name)
    clip = tone(preset.min_samples + 3000, preset.sample_rate)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = load(name, "random", seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.weights_id == "random:3"
    frames = first.frames(clip)
    assert frames.shape[1] == facts.full == preset.vector_size
    torch.manual_seed(6)
    np.testing.assert_array_equal(frames, load(name, "random", seed=3).frames(clip))
    assert np.abs(frames - load(name, "random", seed=4).frames(clip)).max() > 0


# --- checkpoints that are one flat file ---------------------------------------------------------------------


@pytest.fixture(params=STATES)
def flat(request) -> tuple[str, dict]:
    """Name and state of a codec whose checkpoint is one file."""
    return request.param, whole(STATES[request.param]())


def test_wrong_files_each_have_their_own_message(flat, tmp_path):
    name, state = flat
    path = tmp_path / "wrong.pt"

    def attempt(content):
        torch.save(content, path)
        return load(name, path)

    lacking = dict(state)
    gone = next(key for key in sorted(lacking) if key.startswith("encoder.") and key.endswith("bias"))
    del lacking[gone]
    with pytest.raises(WeightsError, match="not a complete checkpoint.*1 weights.*" + gone):
        attempt(lacking)
    with pytest.raises(WeightsError, match=f"lacks {FACTS[name].first}"):
        attempt({"embeddings.weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match="holds a dictionary with values of type dict"):
        attempt({"model": dict(state)})
    with pytest.raises(WeightsError, match=r"more .*encoder\.extra"):
        attempt({**state, "encoder.extra": torch.zeros(1)})
    with pytest.raises(WeightsError, match="another shape"):
        attempt({**state, gone: torch.zeros(99)})
    with pytest.raises(WeightsError, match="NaN"):
        attempt({**state, gone: torch.full_like(state[gone], float("nan"))})
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="could not be read"):
        load(name, path)


class Hostile:
    """What a pickle could run."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize("name_", FACTS)
def test_nothing_in_a_file_is_run(name_, tmp_path):
    path = save(name_, tmp_path)
    content = {"x": Hostile(tmp_path / "ran")}
    if path.is_dir():  # as the checkpoint's older format, which is read where there is no safetensors file
        torch.save({**load_file(path / "model.safetensors"), **content}, path / "pytorch_model.bin")
        (path / "model.safetensors").unlink()
    else:
        torch.save({**torch.load(path, weights_only=True), **content}, path)
    with pytest.raises(WeightsError, match="could not be read"):
        load(name_, path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name_", "file"),
    [("soundstream", "soundstream_variant_naturalspeech2.pt"), ("speechtokenizer", "SpeechTokenizer.pt")],
)
def test_a_folder_with_the_file_under_its_published_name(name_, file, tmp_path):
    torch.save(whole(STATES[name_]()), tmp_path / file)
    assert load(name_, tmp_path).weights_id.startswith("sha256:")


# --- after quantisation -------------------------------------------------------------------------------------

BOOKS = {
    "soundstream": ("quantizer.layers.{}._codebook.embed", (1, 24, 16)),
    "speechtokenizer": ("quantizer.vq.layers.{}._codebook.embed", (24, 16)),
}


@pytest.mark.parametrize("number", [1, "all"])
@pytest.mark.parametrize("name_", BOOKS)
def test_quantised_as_encodecs_package_quantises(name_, number, tmp_path):
    """SpeechTokenizer's quantiser is EnCodec's; SoundStream's, of vector_quantize_pytorch, finds the same vectors."""
    from encodec.quantization.core_vq import ResidualVectorQuantization

    form, shape = BOOKS[name_]
    generator = np.random.RandomState(2)
    books = {form.format(place): torch.from_numpy(generator.standard_normal(shape).astype("f")) for place in range(3)}
    torch.save({**whole(STATES[name_]()), **books}, tmp_path / "x.pt")
    clip = tone(9001)
    before = load(name_, tmp_path / "x.pt")
    encoder = load(name_, tmp_path / "x.pt", options={"codebooks": number})
    count = 3 if number == "all" else number
    assert (before.options, encoder.options) == ({}, {"codebooks": count})
    assert before.weights_id == encoder.weights_id

    theirs = ResidualVectorQuantization(num_quantizers=3, dim=16, codebook_size=24, kmeans_init=False).eval()
    for layer, book in zip(theirs.layers, books.values(), strict=True):
        layer._codebook.embed.copy_(book.reshape(24, 16))
    with torch.inference_mode():
        frames = torch.from_numpy(before.frames(clip)).T[None]
        expected = theirs.decode(theirs.encode(frames, n_q=count))[0].T.numpy()
    got = encoder.frames(clip)
    assert got.shape == before.frames(clip).shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_random_codebooks_leave_the_encoder_as_it_is(name):
    clip = tone(encoders.preset(name).min_samples + 2000, encoders.preset(name).sample_rate)
    quantised = load(name, "random", options={"codebooks": "all"})
    continuous = load(name, "random").frames(clip)
    (count,) = quantised.options.values() if name != "dac" else (quantised.options["codebooks"],)
    assert count == {"encodec": 32, "dac": 12, "speechtokenizer": 8, "soundstream": 16}[name]
    assert quantised.frames(clip).shape == continuous.shape
