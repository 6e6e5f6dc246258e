"""A small real encoder for tests of extraction: cheap statistics of 10 ms blocks, and a count of what it was asked.

`install()` makes it known to this process under the names `counting`, `counting-batch` and `counting-layers` (which
has three layers and gives them from one forward), until `uninstall()`; and
`as_package` to other processes, as a package would that brings an encoder. With `COUNTING_LOG` it writes down when it
began with which waveform.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serfuse.encoders import ENCODERS
from serfuse.encoders.base import Encoder, EncoderEntry, EncoderPreset, LoadRequest
from serfuse.encoders.checks import check_waveform, resolve_layer, resolve_options

HEARD: list[int] = []
"""Number of clips of every call, in order; a test clears it."""


def _preset(name: str) -> EncoderPreset:
    return EncoderPreset(
        name,
        "codec",
        8000,
        4,
        hop=80,
        layers=3 if name == "counting-layers" else 0,
        min_samples=800,
        needs_weights=False,
        options={"scale": 1.0, "loud": False},
    )


class Counting(Encoder):
    def __init__(self, preset: EncoderPreset, request: LoadRequest) -> None:
        self.preset = preset
        self.weights_id = f"random:{request.seed}" if request.weights == "random" else "none"
        self.options: dict[str, Any] = resolve_options(preset, request)

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        waveform = check_waveform(self.preset, waveform)
        HEARD.append(1)
        _log(waveform)
        time.sleep(float(os.environ.get("COUNTING_SLEEP", "0")))
        blocks = waveform[: len(waveform) // 80 * 80].reshape(-1, 80) * self.options["scale"]
        return np.stack([blocks.mean(1), blocks.std(1), blocks.max(1), blocks.min(1)], axis=1)


class CountingBatch(Counting):
    """Takes several clips at once, and fails as a whole when one of them is clipped."""

    def frames_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        assert len({len(waveform) for waveform in waveforms}) == 1, "a batch has one length"
        if any(np.abs(waveform).max() > 2.0 for waveform in waveforms):
            raise RuntimeError("the device gave up")
        frames = [self.frames(waveform) for waveform in waveforms]
        HEARD[-len(waveforms) :] = [len(waveforms)]
        return frames


class CountingLayers(Counting):
    """Layer K is the layer before it, squared and shifted; those behind the one it is loaded for are not there."""

    def __init__(self, preset: EncoderPreset, request: LoadRequest) -> None:
        super().__init__(preset, request)
        number = resolve_layer(preset, request.layer)
        self.layer = "last" if number is None else str(number)

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        return self.frames_of_layers([waveform], [self.layer])[self.layer][0]

    def frames_of_layers(self, waveforms: Sequence[np.ndarray], layers: Sequence[str]) -> dict[str, list[np.ndarray]]:
        there = 3 if self.layer == "last" else int(self.layer)
        numbers = {layer: 3 if layer == "last" else int(layer) for layer in layers}
        assert max(numbers.values()) <= there, "a layer that was dropped"
        hidden = [super(CountingLayers, self).frames(waveform) for waveform in waveforms]
        found = [hidden]
        for number in range(there):
            found.append([frames**2 + number for frames in found[-1]])
        return {layer: found[number] for layer, number in numbers.items()}


def digest(waveform: np.ndarray) -> str:
    """What the log calls a waveform."""
    return hashlib.sha256(np.ascontiguousarray(waveform, np.float32).tobytes()).hexdigest()[:16]


def _log(waveform: np.ndarray) -> None:
    if path := os.environ.get("COUNTING_LOG"):
        line = f"{time.time()} {digest(waveform)}\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(descriptor, line.encode())
        os.close(descriptor)


def load(preset: EncoderPreset, request: LoadRequest) -> Counting:
    return KINDS[preset.name](preset, request)


KINDS = {"counting": Counting, "counting-batch": CountingBatch, "counting-layers": CountingLayers}
NAMES = tuple(KINDS)


def install() -> None:
    """Make the encoders known to this process."""
    for name in NAMES:
        ENCODERS.register(name, EncoderEntry(_preset(name), load))


def uninstall() -> None:
    """Take them back."""
    for name in NAMES:
        ENCODERS.unregister(name)


COUNTING, COUNTING_BATCH, COUNTING_LAYERS = (EncoderEntry(_preset(name), load) for name in NAMES)


def as_package(folder: Path) -> dict[str, str]:
    """Make the encoders known to processes that are started with these variables.

    Args:
        folder: gets what an installed package has to tell of itself.
    """
    about = folder / "counting_encoder-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: counting-encoder\nVersion: 0\n")
    names = {"counting": "COUNTING", "counting-batch": "COUNTING_BATCH", "counting-layers": "COUNTING_LAYERS"}
    points = "".join(f"{name} = counting_encoder:{entry}\n" for name, entry in names.items())
    (about / "entry_points.txt").write_text(f"[serfuse.encoders]\n{points}")
    paths = [str(folder), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
