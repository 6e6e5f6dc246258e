"""Audio-Mamba on a small checkpoint in the official format, against transformers' Mamba, and at full size on paper."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import fill, speechlike
from safetensors.torch import save_file

from serfuse import encoders
from serfuse.encoders import LoadRequest, audiomamba, audiomamba_cpu
from serfuse.encoders.audiomamba_model import Mixer, scan_in_blocks, selective_scan
from serfuse.encoders.numba_cache import import_librosa
from serfuse.errors import AudioError, ConfigError, WeightsError

SMALL = {"dim": 16, "depth": 2, "state": 4, "conv": 4, "expand": 3}
PRESET = replace(encoders.preset("audiomamba-tiny"), vector_size=80, config=SMALL)
GOLDEN = [[0.97115, 0.95818, 0.09565], [0.13328, 1.11198, -0.90426]]


def small_state() -> dict[str, torch.Tensor]:
    model = audiomamba.build(PRESET)
    fill(model)
    return model.state_dict()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("audiomamba") / "checkpoint.pth"
    torch.save({"model": small_state(), "optimizer": {}, "epoch": 99, "scaler": {}, "args": {}}, path)
    return path


def load(weights, **request):
    return audiomamba.load(PRESET, LoadRequest(weights=weights, device="cpu", **request))


def test_golden_values(checkpoint):
    # Recorded from serfuse itself (torch 2.11, CPU, one thread) with `small_state` and `speechlike`: a change shows.
    # That the numbers are right is shown by the whole path in other people's parts, below.
    frames = load(checkpoint).frames(speechlike(24_000))
    assert frames.shape == (38, 80)
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames[[0, 20], :3], GOLDEN, atol=2e-4)


def test_safetensors_and_a_folder_give_the_same(checkpoint, tmp_path):
    save_file({name: tensor.contiguous() for name, tensor in small_state().items()}, tmp_path / "model.safetensors")
    expected = load(checkpoint).frames(speechlike(8_000))
    assert np.array_equal(load(tmp_path).frames(speechlike(8_000)), expected)
    assert np.array_equal(load(checkpoint.parent).frames(speechlike(8_000)), expected)


def test_the_published_folders_are_taken_as_they_are(checkpoint, tmp_path):
    """One folder for each size, in it a folder of checkpoints, of which the official code takes the last epoch's."""
    epochs = tmp_path / "weights" / "ssam_tiny_200_16x4_4x256_fp16_r1" / "checkpoints"
    epochs.mkdir(parents=True)
    for epoch in ("9", "80"):
        torch.save({"model": {}}, epochs / f"checkpoint-{epoch}.pth")
    (epochs / "checkpoint-last.pth").write_bytes(b"not one of them")
    (epochs / "checkpoint-100.pth").write_bytes(checkpoint.read_bytes())
    (epochs.parent / "config.yaml").write_text("not: read")
    expected = load(checkpoint)
    for given in (epochs, epochs.parent, epochs.parents[1]):
        encoder = load(given)
        assert encoder.weights_id == expected.weights_id
    assert np.array_equal(encoder.frames(speechlike(8_000)), expected.frames(speechlike(8_000)))
    assert encoders.weights_status("audiomamba-tiny", epochs.parent) == (True, str(epochs))
    with pytest.raises(WeightsError, match=r"lacks model\.safetensors or checkpoint\.pth or checkpoint-N\.pth, which"):
        encoders.load("audiomamba-small", LoadRequest(weights=epochs.parents[1]))


def test_a_batch_is_as_its_clips_alone(checkpoint):
    encoder = load(checkpoint)
    clips = [speechlike(40_000, seed) for seed in range(5)]
    for alone, batched in zip(map(encoder.frames, clips), encoder.frames_batch(clips), strict=True):
        np.testing.assert_allclose(batched, alone, atol=1e-5)


def test_clips_of_different_length_together_are_as_alone(checkpoint):
    encoder = load(checkpoint)
    clips = [speechlike(length, length) for length in (40_000, 201, 32_160, 70_000)]
    assert encoder.pads
    for alone, batched in zip(map(encoder.frames, clips), encoder.frames_batch(clips), strict=True):
        assert batched.shape == alone.shape
        np.testing.assert_allclose(batched, alone, atol=1e-5)


@pytest.mark.parametrize(("seconds", "frames"), [(5.0, 126), (9.0, 226), (1.99, 50), (2.0, 51)])
def test_frames_of_a_length(checkpoint, seconds, frames):
    assert load(checkpoint).frames(speechlike(int(seconds * 16_000))).shape == (frames, 80)


def test_shortest_clip_and_digital_silence(checkpoint):
    encoder = load(checkpoint)
    assert encoder.frames(speechlike(201)).shape == (1, 80)
    with pytest.raises(AudioError, match="at least 201"):
        encoder.frames(speechlike(200))
    mels = encoder.log_mel(torch.zeros(1, 16_000))
    assert mels.abs().max() < 1e-5


def test_layouts_hold_the_same_tokens_in_another_order(checkpoint):
    clip = speechlike(31_000)  # one chunk without padding
    official = load(checkpoint).frames(clip)
    freq = load(checkpoint, options={"layout": "freq"}).frames(clip)
    dim = SMALL["dim"]
    for place, time in enumerate((0, 10, 20, 30, 40)):
        # Frame 0 of the published code: the lowest band of these time patches.
        assert np.array_equal(official[0, place * dim : (place + 1) * dim], freq[time, :dim])
    with pytest.raises(ConfigError, match="official or freq"):
        load(checkpoint, options={"layout": "time"})


@pytest.mark.slow
def test_mixer_is_transformers_mamba():
    transformers = pytest.importorskip("transformers")
    from transformers.models.mamba.modeling_mamba import MambaMixer

    config = transformers.MambaConfig(
        hidden_size=32, state_size=24, conv_kernel=4, expand=3, time_step_rank=2, num_hidden_layers=1
    )
    theirs, ours = MambaMixer(config, layer_idx=0).eval(), Mixer(32, state=24, conv=4, expand=3, depth=1).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    tokens = torch.randn(3, 251, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens), atol=1e-6, rtol=1e-5)


def scan_operands(length: int, inner: int) -> tuple[torch.Tensor, ...]:
    """Of two chunks, 24 values a channel, with steps from 0 to so long that nothing is left of the state."""
    draw = torch.Generator().manual_seed(length)
    hidden, step = (torch.randn(2, length, inner, generator=draw) for _ in range(2))
    into, out_of = (torch.randn(2, length, 24, generator=draw) for _ in range(2))
    step = torch.exp(2 * step - 4)
    step[:, ::5], step[0, 1::50] = 0, 50
    return hidden, step, -torch.rand(inner, 24, generator=draw) * 24, into, out_of


def scanned_by_hand(operands: tuple[torch.Tensor, ...]) -> torch.Tensor:
    hidden, step, decay, into, out_of = (tensor.double() for tensor in operands)
    state, outputs = hidden.new_zeros(len(hidden), *decay.shape), []
    for place in range(hidden.shape[1]):
        moved = torch.exp(step[:, place, :, None] * decay) * state
        state = moved + (step * hidden)[:, place, :, None] * into[:, place, None]
        outputs.append((state * out_of[:, place, None]).sum(-1))
    return torch.stack(outputs, dim=1)


@pytest.mark.parametrize(("length", "inner"), [(251, 70), (17, 64), (2, 3), (1, 130)])
def test_the_scan_is_the_recurrence(length, inner):
    operands = scan_operands(length, inner)
    expected = scanned_by_hand(operands)
    tolerance = {"rtol": 0, "atol": 2e-6 * expected.abs().max().item(), "check_dtype": False}
    torch.testing.assert_close(selective_scan(*operands), expected, **tolerance)
    for blocks in (1, 2, 16, 300):
        torch.testing.assert_close(scan_in_blocks(*operands, blocks=blocks), expected, **tolerance)


INTERPRETED = """
import sys
import numpy, torch
from serfuse.encoders.audiomamba_gpu import scan
with numpy.load(sys.argv[1]) as given:
    operands = [torch.from_numpy(given[name]) for name in given.files]
spread = [tensor.transpose(0, 1).contiguous().transpose(0, 1) for tensor in operands[:2]]
numpy.savez(sys.argv[2], scan(*operands).numpy(), scan(*spread, *operands[2:]).numpy())
"""


@pytest.mark.slow
def test_the_kernel_for_a_gpu_is_the_recurrence(tmp_path):
    """As Triton's interpreter computes it, on a CPU; there is one where it is asked for before Triton is imported."""
    pytest.importorskip("triton")
    operands = scan_operands(9, 70)
    expected = scanned_by_hand(operands)
    given, made = tmp_path / "given.npz", tmp_path / "made.npz"
    np.savez(given, *(tensor.numpy() for tensor in operands))
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", INTERPRETED, given, made], env=environment, check=True)
    with np.load(made) as found:
        for name in found.files:
            assert np.abs(found[name] - expected.numpy()).max() <= 2e-6 * expected.abs().max()


def test_the_scan_does_not_depend_on_threads_and_hides_no_nan():
    operands = [tensor.numpy() for tensor in scan_operands(50, 200)]
    alone = audiomamba_cpu.scan(*operands, threads=1)
    assert np.array_equal(audiomamba_cpu.scan(*operands, threads=3), alone)
    hidden, step, *others = operands
    assert np.array_equal(audiomamba_cpu.scan(hidden, out := step.copy(), *others, threads=3, output=out), alone)
    operands[1][0, 20, 130] = np.nan
    spoilt = audiomamba_cpu.scan(*operands, threads=2)
    assert np.isnan(spoilt[0, 20:, 130]).all()
    spoilt[0, 20:, 130] = alone[0, 20:, 130]
    assert np.array_equal(spoilt, alone)


@pytest.mark.parametrize("length", [1, 3, 40])
def test_what_stands_around_the_scan_is_torchs_own(length):
    """Also where gates are wide open or shut and steps tiny or long, in any number of threads; NaN stays."""
    from torch.nn import functional

    draw = torch.Generator().manual_seed(length)
    projected = 30 * torch.randn(2, length, 14, generator=draw) ** 3
    steps = 20 * torch.randn(2, length, 7, generator=draw)
    taps, bias, skip = (torch.randn(*shape, generator=draw) for shape in ((4, 7), (7,), (7,)))
    projected[0, -1, 3] = projected[1, 0, 10] = steps[1, 0, 2] = torch.nan
    signal, gate = projected.double().chunk(2, dim=-1)
    windows = functional.pad(signal, (0, 0, 3, 0)).unfold(1, 4, 1)
    convolved = functional.silu((windows * taps.T).sum(-1) + bias)
    gated = (convolved.float() + skip * steps) * functional.silu(gate)
    for threads in (1, 2, 5):
        found = np.empty((2, length, 7), np.float32)
        audiomamba_cpu.convolved(projected.numpy(), taps.numpy(), bias.numpy(), found, threads=threads)
        close = {"check_dtype": False, "equal_nan": True, "rtol": 4e-6}
        torch.testing.assert_close(
            torch.from_numpy(found), convolved, atol=1e-6 * float(convolved.nan_to_num().abs().max()), **close
        )
        made = steps.clone()
        audiomamba_cpu.softplus(made.numpy(), threads=threads)
        torch.testing.assert_close(made, functional.softplus(steps.double()), atol=0, **close)
        scanned = convolved.float().clone()
        audiomamba_cpu.gated(scanned.numpy(), steps.numpy(), skip.numpy(), projected.numpy(), threads=threads)
        torch.testing.assert_close(scanned, gated, atol=1e-6 * float(gated.nan_to_num().abs().max()), **close)


@pytest.mark.parametrize("layout", ["official", "freq"])
def test_whole_path_against_other_peoples_parts(checkpoint, layout):
    """librosa's mel spectrogram, numpy, and transformers' Mamba, put together from the description alone."""
    from torch.nn import functional
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    clip, state, dim = speechlike(40_000), small_state(), SMALL["dim"]
    mel = import_librosa().feature.melspectrogram(
        y=clip,
        sr=16_000,
        n_fft=400,
        hop_length=160,
        n_mels=80,
        fmin=50,
        fmax=8000,
        htk=True,
        norm=None,
        pad_mode="reflect",
    )
    logs = np.log(mel.T + 1.1920929e-07)
    logs = (logs - logs.mean()) / (logs.std(ddof=1) + 1e-8)
    chunks = np.pad(logs, ((0, -len(logs) % 200), (0, 0))).reshape(-1, 200, 80)

    config = MambaConfig(
        hidden_size=dim, state_size=4, conv_kernel=4, expand=3, time_step_rank=1, num_hidden_layers=SMALL["depth"]
    )
    expected = []
    with torch.no_grad():
        for chunk in chunks:
            patches = chunk.reshape(50, 4, 5, 16).transpose(0, 2, 1, 3).reshape(250, 64)  # time-major tokens
            tokens = torch.from_numpy(patches).float() @ state["patch_embed.proj.weight"].reshape(dim, 64).T
            tokens = tokens + state["patch_embed.proj.bias"]
            tokens = torch.cat([state["cls_token"][0], tokens]) + state["pos_embed"][0]
            for number in range(SMALL["depth"]):
                mixer, prefix = MambaMixer(config, layer_idx=number).eval(), f"blocks.{number}."
                own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
                mixer.load_state_dict({name.removeprefix("mixer."): own[name] for name in own if "mixer." in name})
                normed = functional.layer_norm(tokens, (dim,), own["norm.weight"], own["norm.bias"], eps=1e-6)
                tokens = tokens + mixer(normed[None])[0]
            tokens = functional.layer_norm(
                tokens, (dim,), state["encoder_norm.weight"], state["encoder_norm.bias"], eps=1e-6
            )
            tokens = tokens[1:].numpy()
            if layout == "official":  # tokens (t f), read as (f t)
                expected.append(tokens.reshape(5, 50, dim).transpose(1, 0, 2).reshape(50, 5 * dim))
            else:
                expected.append(tokens.reshape(50, 5 * dim))
    frames = load(checkpoint, options={"layout": layout}).frames(clip)
    expected = np.concatenate(expected)[: -(-len(logs) // 4)]
    assert frames.shape == expected.shape == (63, 5 * dim)
    np.testing.assert_allclose(frames, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["tiny", "small", "base"])
def test_full_size(name):
    preset = encoders.preset(f"audiomamba-{name}")
    with torch.device("meta"):
        model = audiomamba.build(preset)
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert count == preset.parameters
    assert f"{count / 1e6:.1f} M" == preset.paper_parameters
    assert preset.vector_size == preset.paper_vector_size == 5 * preset.config["dim"]


def test_random_weights_follow_the_seed_and_leave_the_generator_alone():
    before = torch.random.get_rng_state()
    first, again, other = (load("random", seed=seed) for seed in (1, 1, 2))
    clip = speechlike(4_000)
    values = [encoder.frames(clip) for encoder in (first, again, other)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.weights_id == "random:1"
    assert np.array_equal(values[0], values[1])
    assert not np.allclose(values[0], values[2], atol=1e-3)


@pytest.mark.slow
def test_another_process_gives_the_same(checkpoint):
    code = (
        "import sys, numpy as np; from dataclasses import replace; from serfuse import encoders\n"
        "from serfuse.encoders import audiomamba, LoadRequest\n"
        f"preset = replace(encoders.preset('audiomamba-tiny'), config={SMALL!r})\n"
        f"encoder = audiomamba.load(preset, LoadRequest(weights={str(checkpoint)!r}, device='cpu'))\n"
        "sys.stdout.buffer.write(encoder.frames(np.sin(np.arange(9000) * .1).astype('f')).tobytes())"
    )
    output = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True).stdout
    here = load(checkpoint).frames(np.sin(np.arange(9000) * 0.1).astype("f"))
    np.testing.assert_allclose(np.frombuffer(output, np.float32).reshape(here.shape), here, atol=1e-6)


def test_weights_that_are_absent_incomplete_or_of_another_model(tmp_path, monkeypatch):
    monkeypatch.setenv("SERFUSE_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(WeightsError, match=r"ssam_base_200_16x4_4x256_fp16_r1.*audiomamba-base"):
        encoders.load("audiomamba-base")
    state = small_state()
    path = tmp_path / "x.pth"
    torch.save({"model": {name: value for name, value in state.items() if "blocks.1" not in name}}, path)
    with pytest.raises(WeightsError, match="not a complete checkpoint"):
        load(path)
    torch.save({"model": state}, path)
    with pytest.raises(WeightsError, match="another model than audiomamba-tiny"):
        encoders.load("audiomamba-tiny", LoadRequest(weights=path))
    state["blocks.0.mixer.D"][3] = float("nan")
    torch.save({"model": state}, path)
    with pytest.raises(WeightsError, match="NaN"):
        load(path)
