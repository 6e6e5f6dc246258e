"""Checks that every encoder makes of what it is asked for."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import AudioError, ConfigError
from .base import EncoderPreset, LoadRequest

DTYPES = ("float32", "float16", "bfloat16")


def check_waveform(preset: EncoderPreset, waveform: np.ndarray) -> np.ndarray:
    """`waveform` as contiguous float32.

    Raises:
        AudioError: not one-dimensional, not finite, or shorter than `preset.min_samples`.
    """
    waveform = np.ascontiguousarray(waveform, dtype=np.float32)
    if waveform.ndim != 1:
        raise AudioError(
            f"{preset.name} expects one channel, an array of shape (samples,), got shape {waveform.shape}."
        )
    if waveform.size < preset.min_samples:
        rate = preset.sample_rate
        raise AudioError(
            f"Too short for {preset.name}: {waveform.size} samples ({waveform.size / rate:.3f} s at "
            f"{rate} Hz), at least {preset.min_samples} ({preset.min_samples / rate:.3f} s) are needed. "
            f"Leave the clip out or pad it (--pad)."
        )
    if not np.isfinite(waveform).all():
        raise AudioError(f"The audio for {preset.name} holds NaN or infinite samples. Repair or leave out the clip.")
    return waveform


def check_batch(preset: EncoderPreset, waveforms: Any) -> np.ndarray:
    """Clips of exactly equal length as one float32 matrix `(B, samples)`.

    Raises:
        AudioError: as `check_waveform`.
        ValueError: lengths differ.
    """
    return np.stack(check_clips(preset, waveforms))


def check_clips(preset: EncoderPreset, waveforms: Any, *, alike: bool = True) -> list[np.ndarray]:
    """Clips as contiguous float32, each `(samples,)`.

    Args:
        preset: of the encoder.
        waveforms: at least one.
        alike: they must be of exactly equal length.

    Raises:
        AudioError: as `check_waveform`.
        ValueError: lengths differ that may not, or there is none.
    """
    checked = [check_waveform(preset, waveform) for waveform in waveforms]
    lengths = {waveform.size for waveform in checked}
    if alike and len(lengths) > 1:
        raise ValueError(f"{preset.name} takes clips of exactly equal length together, got lengths {sorted(lengths)}.")
    if not checked:
        raise ValueError(f"{preset.name} was given no clips.")
    return checked


def resolve_layer(preset: EncoderPreset, layer: str | int) -> int | None:
    """The number of a layer, `None` for "last".

    Raises:
        ConfigError: not a layer of this encoder.
    """
    if str(layer) == "last":
        return None
    if preset.layers == 0:
        raise ConfigError(f"{preset.name} has no layers to choose from, got --layer {layer}. Use --layer last.")
    if not str(layer).isdecimal() or int(layer) > preset.layers:
        raise ConfigError(
            f"{preset.name} has layers 1 to {preset.layers} (0 is the input of the first one) and 'last', "
            f"got --layer {layer}."
        )
    return int(layer)


def resolve_options(preset: EncoderPreset, request: LoadRequest) -> dict[str, Any]:
    """The preset's options with those of the request on top.

    Raises:
        ConfigError: an option that this encoder does not have.
    """
    unknown = sorted(set(request.options) - set(preset.options))
    if unknown:
        have = ", ".join(preset.options) or "none"
        raise ConfigError(f"{preset.name} has no option {', '.join(unknown)}. Its options: {have}.")
    return {**preset.options, **request.options}


def resolve_dtype(preset: EncoderPreset, request: LoadRequest, supported: tuple[str, ...] = ("float32",)) -> str:
    """The dtype the encoder computes in.

    Raises:
        ConfigError: not one of `supported`.
    """
    if request.dtype not in supported:
        raise ConfigError(f"{preset.name} computes in {' or '.join(supported)}, got dtype {request.dtype!r}.")
    return request.dtype


def resolve_device(device: str) -> str:
    """A torch device; "auto" is CUDA where there is one.

    Raises:
        ConfigError: unknown, or not on this machine.
    """
    import torch

    if device == "auto":
        return "cuda" if _cuda_devices() else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError:
        wanted = None
    if wanted is None or wanted.type not in ("cpu", "cuda"):
        raise ConfigError(f"Unknown device {device!r}. Use auto, cpu, cuda or cuda:N.")
    if wanted.type == "cuda":
        count = _cuda_devices()
        if not count:
            raise ConfigError(f"Device {device!r} was asked for, but there is no CUDA device here. Use --device cpu.")
        if (wanted.index or 0) >= count:
            raise ConfigError(f"Device {device!r} was asked for, but there are cuda:0 to cuda:{count - 1} here.")
    return device


def _cuda_devices() -> int:
    """How many there are. Where there is none, torch warns of it once TensorFlow has looked for some as well."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "CUDA initialization", UserWarning)
        return torch.cuda.device_count() if torch.cuda.is_available() else 0


def shown(text: str, limit: int = 80) -> str:
    """Text out of a file as a message can hold it: one line of bounded length, without control characters."""
    return repr(text if len(text) <= limit else text[:limit] + "...")[1:-1]


def resized(preset: EncoderPreset, **changes: Any) -> EncoderPreset:
    """The preset of a checkpoint whose sizes differ from the published ones; the same object when none do."""
    changes = {name: value for name, value in changes.items() if getattr(preset, name) != value}
    return replace(preset, **changes) if changes else preset
