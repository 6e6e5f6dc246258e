"""From the frames of one clip to one vector."""

import math

import numpy as np

from ..errors import ConfigError
from .base import EncoderPreset

POOLINGS = ("time", "paper", "mean-std")

PAPER_SECONDS = 5.0
"""Length that every CREMA-D clip has in the papers, whose printed codec sizes are the frame counts of it."""


def check_pooling(pooling: str) -> str:
    """`pooling` itself.

    Raises:
        ConfigError: it is not one of `POOLINGS`.
    """
    if pooling not in POOLINGS:
        raise ConfigError(f"Unknown pooling {pooling!r}. Choose one of: {', '.join(POOLINGS)}.")
    return pooling


def pool(frames: np.ndarray, pooling: str, preset: EncoderPreset) -> np.ndarray:
    """One vector of one clip.

    Args:
        frames: shape `(T, D)`, T at least 1.
        pooling: "time", the mean over frames, `(D,)`; "mean-std", mean and population standard deviation over
            frames, `(2 D,)`; "paper", the axis the papers took the mean over: `(D,)`, or `(T,)` for the
            encoders whose printed sizes are frame counts (`preset.paper_pooling == "channels"`).
        preset: of the encoder that gave the frames.

    Returns:
        float32.

    Raises:
        ConfigError: an unknown pooling.
        ValueError: `frames` is not a matrix of at least one frame.
    """
    check_pooling(pooling)
    frames = np.asarray(frames)
    if frames.ndim != 2 or 0 in frames.shape:
        raise ValueError(f"Expected frames of shape (T, D) with T and D at least 1, got shape {frames.shape}.")
    over_channels = pooling == "paper" and preset.paper_pooling == "channels"
    # Sums over hundreds of frames lose digits in float32, and then the order of summation would show.
    if pooling != "mean-std" and not over_channels and frames.flags.c_contiguous and frames.shape[1] > 1:
        # Row by row, as in a copy in float64, but without one.
        vector = np.add.reduce(frames, axis=0, dtype=np.float64) / len(frames)
    elif pooling == "mean-std":
        frames = frames.astype(np.float64)
        vector = np.concatenate([frames.mean(axis=0), frames.std(axis=0)])
    else:
        vector = frames.astype(np.float64).mean(axis=1 if over_channels else 0)
    return vector.astype(np.float32)


def vector_size(preset: EncoderPreset, pooling: str, seconds: float | None = None) -> int:
    """Length of the vector that `pool` gives.

    Args:
        seconds: length of the clips; matters only under "paper" for encoders pooled over channels, where it
            defaults to the papers' 5.000 s.

    Raises:
        ConfigError: an unknown pooling.
    """
    check_pooling(pooling)
    if pooling == "mean-std":
        return 2 * preset.vector_size
    if pooling == "paper" and preset.paper_pooling == "channels":
        if preset.paper_vector_size and seconds in (None, PAPER_SECONDS):
            return preset.paper_vector_size
        samples = round((PAPER_SECONDS if seconds is None else seconds) * preset.sample_rate)
        filled_to = {**preset.options, **preset.paper_options}.get("pad_to")
        if filled_to:  # DAC: zeros behind the clip, then whole hops
            return math.ceil(samples / filled_to) * filled_to // preset.hop
        return math.ceil(samples / preset.hop)
    return preset.vector_size
