"""The thirteen encoders on a device: speed, memory, and how far its frames are from a CPU's.

    python benchmarks/encoders_device.py                     # a GPU where there is one, else the CPU
    python benchmarks/encoders_device.py --device cuda:1 hubert wavlm
    python benchmarks/encoders_device.py --format safetensors mms-1b
    python benchmarks/encoders_device.py --jobs 4 --cpu-clips 1      # the shortest that still compares

writes benchmarks/encoders_device.md (or --out), anew after every row. Every encoder runs at full size with random
weights, in a process of its own, so that memory is its own too. With `--jobs` several load and compare with the CPU at
once; what is timed runs alone on the device, though beside their work on the processors. An encoder that fails, or
takes longer than `--limit` seconds, has its reason in its row, and the others go on. With `--format safetensors` or
`bin` a checkpoint in transformers' format is written to a temporary folder first and loaded from there, as a published
one would be. Ends with 1 where one failed, a device and a CPU differ by more than 1e-3, or a batch and its clips alone
by more than 1e-5, of the frames' deviation (at least 1).
"""

import argparse
import fcntl
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from serfuse import encoders
from serfuse.encoders import LoadRequest

THIRTEEN = [
    "wavlm", "wav2vec2", "hubert", "unispeech-sat", "mms-1b", "xvector", "audiomamba-tiny", "audiomamba-small",
    "audiomamba-base", "encodec", "dac", "speechtokenizer", "soundstream",
]  # fmt: skip
TARGET = Path(__file__).with_suffix(".md")
AGREEMENT, ALONE = 1e-3, 1e-5
HEADS = ("encoder", "load s", "audio s per s, alone", "in batches", "peak memory GiB", "of the device", "batch - alone")
HEADS += ("device - CPU",)


def speechlike(samples: int, rate: int, seed: int) -> np.ndarray:
    """A gliding tone with harmonics, a swelling envelope and noise."""
    time_ = np.arange(samples) / rate
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * (2 + seed) * time_)) / rate
    tone = sum(np.sin(number * phase) / number for number in range(1, 12))
    noise = np.random.default_rng(seed).standard_normal(samples)
    return (0.1 * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * time_)) * (tone + 0.05 * noise)).astype(np.float32)


def difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """Largest difference over that of the frames' own deviation, or over 1 where that is smaller."""
    return max(float(np.abs(a - b).max()) / max(1.0, float(b.std())) for a, b in zip(ours, theirs, strict=True))


@contextmanager
def alone_with(path: str | None) -> Iterator[None]:
    """Wait until no other process is inside with the same file."""
    with open(path or os.devnull) as file:
        if path:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def measure(name: str, device: str, weights: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One encoder in this process."""
    dtype, clips, seconds = arguments.dtype, arguments.clips, arguments.seconds
    begun = time.perf_counter()
    encoder = encoders.load(name, LoadRequest(weights=weights, device=device, dtype=dtype))
    loaded = time.perf_counter() - begun
    waves = [
        speechlike(round(seconds * encoder.sample_rate), encoder.sample_rate, seed % clips) for seed in range(clips)
    ]
    with alone_with(arguments.turn):
        encoder.frames(waves[0])  # what a first call sets up is not its speed, nor what a first batch does
        encoder.frames_batch(waves)
        begun = time.perf_counter()
        alone = [encoder.frames(wave) for wave in waves]
        one = time.perf_counter() - begun
        begun = time.perf_counter()
        together = encoder.frames_batch(waves)
        batch = time.perf_counter() - begun
    found = {
        "load": loaded,
        "alone": clips * seconds / one,
        "batch": clips * seconds / batch,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "device_memory": None,
        "batch_alone": difference(together, alone),
        "device_cpu": None,
    }
    if encoder.device.startswith("cuda"):
        import torch

        found["device_memory"] = torch.cuda.max_memory_allocated(encoder.device) / 2**30
        del encoder
        torch.cuda.empty_cache()
        cpu = encoders.load(name, LoadRequest(weights=weights, device="cpu", dtype=dtype))
        compared = slice(arguments.cpu_clips)
        found["device_cpu"] = difference(together[compared], [cpu.frames(wave) for wave in waves[compared]])
    return found


def save(name: str, form: str, folder: str) -> None:
    """A checkpoint of a transformers model with random weights."""
    import torch

    from serfuse.encoders import speech_ssl

    preset = encoders.preset(name)
    torch.manual_seed(0)
    model = speech_ssl.build(preset)
    if form == "safetensors":
        model.save_pretrained(folder)
    else:
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), Path(folder) / "pytorch_model.bin")
    settings = {"do_normalize": preset.config["do_normalize"], "sampling_rate": preset.sample_rate}
    (Path(folder) / "preprocessor_config.json").write_text(json.dumps(settings), "utf-8")


def apart(limit: float, *arguments: str) -> str:
    """What this file prints in a process of its own.

    Raises:
        RuntimeError: it failed, or took longer than `limit` seconds; the last line says why.
    """
    try:
        done = subprocess.run(
            [sys.executable, __file__, *arguments], capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"longer than {limit:g} s") from None
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return done.stdout


def row(name: str, arguments: argparse.Namespace, turn: str) -> tuple[str, bool]:
    """A line of the table, and whether everything in it agrees."""
    settings = [f"--device={arguments.device}", f"--dtype={arguments.dtype}", f"--cpu-clips={arguments.cpu_clips}"]
    settings += [f"--clips={arguments.clips}", f"--seconds={arguments.seconds}", f"--turn={turn}"]
    try:
        with tempfile.TemporaryDirectory() as folder:
            weights = "random"
            if arguments.format != "random":
                apart(arguments.limit, name, "--save", folder, f"--format={arguments.format}")
                weights = folder
            found = json.loads(apart(arguments.limit, name, "--weights", weights, *settings).splitlines()[-1])
    except (RuntimeError, OSError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split()).replace("|", "/")[:200]
        return f"| {name} | failed: {reason} |" + " |" * (len(HEADS) - 2), False

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    cells = [name, number(found["load"], ".1f"), *(number(found[key], ".3g") for key in ("alone", "batch"))]
    cells += [number(found[key], ".2f") for key in ("memory", "device_memory")]
    cells += [number(found[key], ".1e") for key in ("batch_alone", "device_cpu")]
    agrees = found["batch_alone"] <= ALONE and (found["device_cpu"] or 0) <= AGREEMENT
    return "| " + " | ".join(cells) + " |", agrees


def machine(device: str) -> str:
    """What it was measured on."""
    import torch

    chosen = f"{torch.cuda.get_device_name(device)}, " if device.startswith("cuda") else ""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{chosen}{processors} processors ({platform.machine()}), {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="encoders [all thirteen]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N [auto]")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--format", choices=["random", "safetensors", "bin"], default="random")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a clip")
    parser.add_argument("--cpu-clips", type=int, default=8, help="so many of them also on a CPU, to compare [8]")
    parser.add_argument("--jobs", type=int, default=1, help="encoders at once; they take turns on the device [1]")
    parser.add_argument("--limit", type=float, default=3600, help="seconds that one encoder may take [3600]")
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--turn", help=argparse.SUPPRESS)  # the file that whoever is on the device holds
    parser.add_argument("--weights", help=argparse.SUPPRESS)  # one encoder, in this process
    parser.add_argument("--save", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.save:
        save(arguments.names[0], arguments.format, arguments.save)
        return
    if arguments.weights:
        print(json.dumps(measure(arguments.names[0], arguments.device, arguments.weights, arguments)))
        return
    from serfuse.encoders.checks import resolve_device

    arguments.device = resolve_device(arguments.device)
    command = ["python", f"benchmarks/{Path(__file__).name}", *arguments.names]
    for option in ("dtype", "format", "clips", "seconds", "cpu_clips", "jobs"):
        if getattr(arguments, option) != parser.get_default(option):
            command.append(f"--{option.replace('_', '-')} {getattr(arguments, option)}")
    text = (
        "# Speed, memory and agreement of the encoders\n\n"
        f"Made by `{' '.join(command)}`.\n"
        f"On {machine(arguments.device)}: {arguments.clips} clips of {arguments.seconds:g} s, {arguments.dtype}, "
        "random weights at full size.\n\n"
    )
    lines, agree = ["| " + " | ".join(HEADS) + " |", "|" + " --- |" * len(HEADS)], True
    print("\n".join(lines))
    with tempfile.NamedTemporaryFile() as turn, ThreadPoolExecutor(arguments.jobs) as pool:
        for line, agrees in pool.map(lambda name: row(name, arguments, turn.name), arguments.names or THIRTEEN):
            agree &= agrees
            lines.append(line)
            print(line, flush=True)
            arguments.out.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
