"""Which encoders of a call run side by side, so that each file is decoded once for all of them."""

from collections.abc import Mapping
from typing import TypeVar

from .. import encoders, machine
from ..encoders.base import Encoder, EncoderPreset, LoadRequest
from ..errors import SerfuseError
from .batching import CPU_BATCH_SECONDS, GPU_BATCH_SECONDS

_SHARE = 0.7  # of the memory that is free
_MARGIN = 1.2  # what a library keeps beside the weights
# Bytes that a forward takes for each second of audio in a batch: 20 MB were measured with the attention models, whose
# first convolution gives 512 channels at 3.2 kHz.
_LIGHT, _HEAVY = 8 * 2**20, 32 * 2**20
_LIGHT_FAMILIES = {"signal", "speaker", "keyword"}

Named = TypeVar("Named", bound="str | Encoder")


def groups(
    asked: Mapping[Named, LoadRequest | None],
    *,
    longest: float,
    batch_seconds: float | None = None,
    processes: int = 1,
    room: int | None = None,
) -> list[list[Named]]:
    """Encoders that fit into memory together, in the order in which they were asked for.

    Their weights are there at once; they run one after the other, so of their forwards only the largest counts. It is
    an estimate from what the presets say.

    Args:
        asked: names or loaded encoders, and what to ask of each.
        longest: seconds of the longest clip as it is padded.
        batch_seconds: audio that goes through an encoder at once; by default that of a GPU or a CPU.
        processes: that share the memory.
        room: bytes; by default 70 % of what is free, on the GPU where there is one.
    """
    if len(asked) < 2:
        return [[name] for name in asked]
    on_gpu = any(_on_gpu(name, request) for name, request in asked.items())
    if room is None:
        room = int(_SHARE * (_gpu_memory() if on_gpu else machine.available()) / max(processes, 1))
    at_once = max(longest, batch_seconds or (GPU_BATCH_SECONDS if on_gpu else CPU_BATCH_SECONDS))
    found: list[list[Named]] = []
    weights = forward = 0
    for name, request in asked.items():
        preset = _preset(name)
        own = weight_bytes(preset, request) if preset and isinstance(name, str) else 0
        run = forward_bytes(preset, at_once) if preset else 0
        if not found or weights + own + max(forward, run) > room:
            found.append([])
            weights = forward = 0
        found[-1].append(name)
        weights, forward = weights + own, max(forward, run)
    return found


def weight_bytes(preset: EncoderPreset, request: LoadRequest | None = None) -> int:
    """Memory that the weights of an encoder take."""
    half = request is not None and request.dtype in ("float16", "bfloat16")
    return int(_MARGIN * (preset.parameters or 0) * (2 if half else 4))


def forward_bytes(preset: EncoderPreset, seconds: float) -> int:
    """Memory that a forward of so much audio takes at most."""
    return int(seconds * (_LIGHT if preset.family in _LIGHT_FAMILIES else _HEAVY))


def _preset(name: str | Encoder) -> EncoderPreset | None:
    if isinstance(name, Encoder):
        return name.preset
    try:
        return encoders.preset(name)
    except SerfuseError:  # an unknown name takes nothing, and is told of when it is loaded
        return None


def _on_gpu(name: str | Encoder, request: LoadRequest | None) -> bool:
    if isinstance(name, Encoder):
        return name.device.startswith("cuda")
    device = request.device if request else "auto"
    return device.startswith("cuda") or (device == "auto" and bool(machine.gpus()))


def _gpu_memory() -> int:
    """Bytes that are free on the GPU that is used unless another is named; those of the machine without one."""
    import torch

    if not torch.cuda.is_available():
        return machine.available()
    return int(torch.cuda.mem_get_info()[0])
