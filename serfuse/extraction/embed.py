"""From waveforms to vectors: frames of a frozen encoder, pooled."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..encoders import pooling as poolings
from ..encoders.base import Encoder
from ..errors import AudioError, SerfuseError
from .batching import alike


def embed(encoder: Encoder, waveforms: Sequence[np.ndarray | Exception], pooling: str) -> list[np.ndarray | Exception]:
    """One vector, or the reason why there is none, per waveform.

    Args:
        encoder: loaded.
        waveforms: float32 `(samples,)` at the encoder's rate, of any lengths; a reason why there is no waveform stays
            what it is. Those of equal length go through the encoder together, see `batching.alike`.
        pooling: see `serfuse.encoders.pooling`.

    Raises:
        SerfuseError: the weights or the settings are at fault, not a clip.
    """
    found = embed_each(encoder, waveforms, [(encoder.layer, pooling)])
    return [outcome if isinstance(outcome, Exception) else outcome[0] for outcome in found]


def embed_each(
    encoder: Encoder, waveforms: Sequence[np.ndarray | Exception], wanted: Sequence[tuple[str, str]]
) -> list[list[np.ndarray] | Exception]:
    """One forward of each waveform, and a vector of it for each layer and pooling that is wanted.

    Args:
        encoder, waveforms: as `embed`.
        wanted: layer and pooling of each vector.

    Returns:
        for each waveform the vectors, in the order of `wanted`, or the reason why there are none.

    Raises:
        SerfuseError: the weights or the settings are at fault, not a clip.
    """
    outcomes: list[Any] = list(waveforms)
    layers = list(dict.fromkeys(layer for layer, _ in wanted))
    there = [place for place, waveform in enumerate(waveforms) if not isinstance(waveform, Exception)]
    for group in alike([len(waveforms[place]) for place in there], encoder):
        places = [there[number] for number in group]
        found = _frames(encoder, [waveforms[place] for place in places], layers)
        for place, frames in zip(places, found, strict=True):
            outcomes[place] = frames if isinstance(frames, Exception) else _vectors(frames, wanted, encoder)
    return outcomes


def _frames(
    encoder: Encoder, waveforms: list[np.ndarray], layers: list[str]
) -> list[dict[str, np.ndarray] | Exception]:
    """Frames of clips that go together, of each layer.

    When a batch fails, its clips are tried alone, so that one cannot spoil all.
    """
    try:
        return _of_layers(encoder, waveforms, layers)
    except AudioError as error:
        failure: Exception = error
    except SerfuseError:
        raise  # about the weights or the settings, not about this clip
    except Exception as error:
        # Whatever a library says about one input must not take the others along.
        failure = error
    if len(waveforms) == 1:
        return [failure]
    return [_frames(encoder, [waveform], layers)[0] for waveform in waveforms]


def _of_layers(encoder: Encoder, waveforms: list[np.ndarray], layers: list[str]) -> list[dict[str, np.ndarray]]:
    if layers != [encoder.layer]:
        found = encoder.frames_of_layers(waveforms, layers)
    elif len(waveforms) == 1:
        return [{encoder.layer: encoder.frames(waveforms[0])}]
    else:
        found = {encoder.layer: encoder.frames_batch(waveforms)}
    for frames in found.values():
        if len(frames) != len(waveforms):
            raise RuntimeError(f"frames_batch gave {len(frames)} results for {len(waveforms)} clips")
    return [{layer: found[layer][place] for layer in layers} for place in range(len(waveforms))]


def _vectors(
    frames: dict[str, np.ndarray], wanted: Sequence[tuple[str, str]], encoder: Encoder
) -> list[np.ndarray] | Exception:
    vectors = []
    for layer, pooling in wanted:
        vector = _pool(frames[layer], pooling, encoder)
        if isinstance(vector, Exception):
            return vector
        vectors.append(vector)
    return vectors


def _pool(frames: np.ndarray, pooling: str, encoder: Encoder) -> np.ndarray | Exception:
    try:
        vector = poolings.pool(frames, pooling, encoder.preset)
    except ValueError as error:
        return error
    bad = int((~np.isfinite(vector)).sum())
    if bad:
        return ArithmeticError(f"{bad} of the {len(vector)} values of its embedding are not finite")
    return vector


def reason(error: Exception) -> str:
    """Why a clip has no vector, for people."""
    text = str(error).strip()
    if isinstance(error, SerfuseError | ArithmeticError):
        return text
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
