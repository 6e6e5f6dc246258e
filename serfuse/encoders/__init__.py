"""Frozen encoders by name. Nothing heavy is imported before `load`.

Adding one: an entry in `presets.py`, a file with `load(preset, request) -> Encoder`, a line in `ENCODERS`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..registry import Registry, unknown_name
from . import pooling
from .base import Encoder, EncoderPreset, LoadRequest
from .checkpoints.locate import find_weights
from .presets import PRESETS

ENCODERS: Registry[Callable[[EncoderPreset, LoadRequest], Encoder]] = Registry(
    "encoder",
    [
        ("wavlm", "serfuse.encoders.speech_ssl:load"),
        ("wav2vec2", "serfuse.encoders.speech_ssl:load"),
        ("hubert", "serfuse.encoders.speech_ssl:load"),
        ("unispeech-sat", "serfuse.encoders.speech_ssl:load"),
        ("mms-1b", "serfuse.encoders.speech_ssl:load"),
        ("xvector", "serfuse.encoders.xvector:load"),
        ("audiomamba-tiny", "serfuse.encoders.audiomamba:load"),
        ("audiomamba-small", "serfuse.encoders.audiomamba:load"),
        ("audiomamba-base", "serfuse.encoders.audiomamba:load"),
        ("encodec", "serfuse.encoders.encodec:load"),
        ("dac", "serfuse.encoders.dac:load"),
        ("speechtokenizer", "serfuse.encoders.speechtokenizer:load"),
        ("soundstream", "serfuse.encoders.soundstream:load"),
        ("soundstream-lyra", "serfuse.encoders.lyra:load"),
        ("logmel", "serfuse.encoders.logmel:load"),
        ("prosody", "serfuse.encoders.prosody:load"),
    ],
)

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderPreset",
    "LoadRequest",
    "load",
    "names",
    "preset",
    "table_row",
    "weights_status",
]


def names() -> list[str]:
    """All encoder names, in table order."""
    return ENCODERS.names()


def preset(name: str) -> EncoderPreset:
    """The plain data of encoder `name`.

    Raises:
        UnknownNameError: no such encoder; the message lists the choices.
    """
    if name not in PRESETS:
        raise unknown_name("encoder", name, names())
    return PRESETS[name]


def load(name: str, request: LoadRequest | None = None) -> Encoder:
    """Build encoder `name` as `request` asks, with its weights found, checked and loaded.

    Raises:
        UnknownNameError: no such encoder.
        WeightsError: weights absent, incomplete or of another model.
        ConfigError: a layer, dtype, device or option that this encoder does not have.
    """
    return ENCODERS.get(name)(preset(name), request or LoadRequest())


def weights_status(name: str, folder: str | Path | None = None) -> tuple[bool, str]:
    """Whether the weights of `name` are on this machine, and where they are or where to get them.

    Args:
        folder: a file or folder to look at instead of the usual places.
    """
    return find_weights(preset(name), folder)


def table_row(name: str) -> dict[str, Any]:
    """One row of `serfuse list encoders`, without importing torch.

    Returns:
        name, family, vector size per pooling (`time`, `paper`, `mean-std`), sample_rate (Hz), frame_rate
        (frames per second or None), parameters, paper_parameters, licence, weights_here, where.
    """
    data = preset(name)
    here, where = weights_status(name)
    return {
        "name": data.name,
        "family": data.family,
        "time": pooling.vector_size(data, "time"),
        "paper": pooling.vector_size(data, "paper"),
        "mean-std": pooling.vector_size(data, "mean-std"),
        "sample_rate": data.sample_rate,
        "frame_rate": data.frame_rate,
        "parameters": data.parameters,
        "paper_parameters": data.paper_parameters,
        "licence": data.licence,
        "weights_here": here,
        "where": where,
    }
