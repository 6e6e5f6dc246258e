"""SoundStream of Lyra v2, with its published weights."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from checkpoints import speechlike

from serfuse import encoders
from serfuse.encoders import LoadRequest
from serfuse.errors import AudioError, ConfigError, WeightsError

NAME = "soundstream-lyra"
FILE = "soundstream_encoder.tflite"

STEP = 0.263486
"""The published model's outputs are whole multiples of this: its last layer is quantised to 8 bits."""


def load(weights, **request):
    return encoders.load(NAME, LoadRequest(weights=weights, **request))


@pytest.fixture(scope="module")
def lyra(lyra_dir: Path):
    return load(lyra_dir)


@pytest.fixture
def reference(lyra_dir: Path):
    """The same file through TensorFlow Lite's reference kernels and one loop, written apart from the encoder."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    def run(waveform: np.ndarray) -> np.ndarray:
        interpreter = Interpreter(
            str(lyra_dir / FILE), experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1
        )
        interpreter.allocate_tensors()
        rows = []
        for piece in np.split(waveform[: len(waveform) // 320 * 320], len(waveform) // 320):
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], piece[None])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).flatten())
        return np.stack(rows)

    return run


def test_golden_values(lyra) -> None:
    # Recorded with the reference kernels on `speechlike(16000)`; the kernels that a processor gets by default round
    # elsewhere, and over a second of memory that adds up to a few steps.
    frames = lyra.frames(speechlike(16000))
    assert frames.shape == (50, 64) and frames.dtype == np.float32
    np.testing.assert_allclose(frames[0, :4], [0.7905, -12.9111, -3.1619, 2.8984], atol=2.5 * STEP)
    np.testing.assert_allclose(frames[25, :6], [-2.1079, -7.6413, -0.2635, -6.5873, 5.5333, -6.5873], atol=4.5 * STEP)
    np.testing.assert_allclose(
        frames.mean(axis=0)[:8],
        [-0.8748, -4.3634, 1.1541, -1.7443, 3.5202, -7.1459, -3.1514, 1.797],
        atol=STEP,
    )
    assert frames.std() == pytest.approx(5.03, abs=0.05)
    np.testing.assert_allclose(frames / STEP, np.round(frames / STEP), atol=2e-3)


def test_is_what_the_reference_kernels_give(lyra, reference) -> None:
    clip = speechlike(16000, seed=3)
    frames, expected = lyra.frames(clip), reference(clip)
    assert np.abs(frames - expected).mean() < 1.5 * STEP  # std 5
    assert np.corrcoef(frames.ravel(), expected.ravel())[0, 1] > 0.995
    assert np.abs(frames.mean(axis=0) - expected.mean(axis=0)).max() < STEP


def test_real_speech(lyra, emodb_dir) -> None:
    import soundfile

    clip, rate = soundfile.read(emodb_dir / "03a01Fa.wav", dtype="float32")
    frames = lyra.frames(clip)
    assert rate == 16000 and frames.shape == (len(clip) // 320, 64)
    assert 5.5 < frames.std() < 7 and np.isfinite(frames).all()


def test_fifty_frames_a_second_and_the_rest_is_left_out(lyra) -> None:
    assert lyra.preset.frame_rate == 50
    for samples, count in ((320, 1), (639, 1), (640, 2), (80_000, 250)):
        assert lyra.frames(speechlike(samples)).shape == (count, 64)
    with pytest.raises(AudioError, match=r"Too short for soundstream-lyra: 319 samples .* at least 320"):
        lyra.frames(speechlike(319))
    with pytest.raises(AudioError, match="NaN"):
        lyra.frames(np.full(640, np.nan, np.float32))


def test_nothing_is_kept_from_the_clip_before(lyra) -> None:
    clip = speechlike(9600, seed=1)
    alone = lyra.frames(clip)
    lyra.frames(speechlike(9600, seed=2))
    np.testing.assert_array_equal(lyra.frames(clip), alone)
    other = 0.1 * speechlike(9600, seed=5)
    for given, frames in zip([clip, other], lyra.frames_batch([clip, other]), strict=True):
        np.testing.assert_array_equal(frames, lyra.frames(given))
    assert not lyra.batches
    # It is causal: what follows changes no frame.
    np.testing.assert_array_equal(lyra.frames(clip[:4800]), alone[:15])


def test_faster_than_real_time(lyra) -> None:
    clip = speechlike(5 * 16000)
    begun = time.process_time()
    lyra.frames(clip)
    assert time.process_time() - begun < 5


def test_another_process_gives_the_same(lyra, lyra_dir) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from checkpoints import speechlike\n"
        "from serfuse import encoders\n"
        "encoder = encoders.load(sys.argv[2], encoders.LoadRequest(weights=sys.argv[3]))\n"
        "print(encoder.weights_id, encoder.frames(speechlike(6400)).tobytes().hex())\n"
        "assert not {'torch', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(Path(__file__).parent), NAME, str(lyra_dir)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "the interpreter's own line would stand in the middle of a progress bar"
    weights_id, content = done.stdout.split()
    assert weights_id == lyra.weights_id == f"sha256:{encoders.preset(NAME).config['sha256']}"
    np.testing.assert_array_equal(
        np.frombuffer(bytes.fromhex(content), np.float32).reshape(-1, 64), lyra.frames(speechlike(6400))
    )


def test_a_single_file_of_any_name_and_the_weights_folder(lyra_dir, tmp_path, nowhere) -> None:
    content = (lyra_dir / FILE).read_bytes()
    (tmp_path / "encoder.bin").write_bytes(content)
    named = load(tmp_path / "encoder.bin")
    (nowhere / NAME).mkdir(parents=True)
    (nowhere / NAME / FILE).write_bytes(content)
    assert load(None).weights_id == named.weights_id
    assert encoders.weights_status(NAME) == (True, str(nowhere / NAME))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[: len(content) // 2], "is damaged"),
        (lambda content: content[:-8], "is damaged"),
        (lambda content: content[:8], "is damaged"),
        (lambda content: b"", r"\(0 bytes\) is not the TensorFlow Lite file"),
        (lambda content: b"not a model" * 100, "is not the TensorFlow Lite file"),
        # A flipped bit among the weights loads and runs; only the hash tells.
        (
            lambda content: (
                content[: len(content) // 2]
                + bytes([content[len(content) // 2] ^ 1])
                + content[len(content) // 2 + 1 :]
            ),
            "is damaged or of another release.*expected sha256:237da0b1",
        ),
    ],
)
def test_damaged_files(change, message, lyra_dir, tmp_path) -> None:
    (tmp_path / FILE).write_bytes(change((lyra_dir / FILE).read_bytes()))
    with pytest.raises(WeightsError, match=message) as caught:
        load(tmp_path)
    assert "github.com/google/lyra" in str(caught.value)


def test_a_file_too_large_to_be_it_is_not_read(tmp_path) -> None:
    with (tmp_path / FILE).open("wb") as stream:
        stream.write(b"\0\0\0\0TFL3")
        stream.truncate(65 << 20)  # sparse
    with pytest.raises(WeightsError, match=r"\(68157440 bytes\) is not the TensorFlow Lite file"):
        load(tmp_path)


def test_absent_random_and_what_it_does_not_have(nowhere, tmp_path) -> None:
    with pytest.raises(WeightsError, match=r"not here.*lyra/model_coeffs of github\.com/google/lyra.*soundstream-lyra"):
        load(None)
    with pytest.raises(WeightsError, match="cannot be built with random weights"):
        load("random")
    with pytest.raises(WeightsError, match=f"lacks {FILE}"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="no layers to choose from"):
        load(None, layer="2")
    with pytest.raises(ConfigError, match="computes in float32"):
        load(None, dtype="float16")
