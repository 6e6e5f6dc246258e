"""Audio: read and checked (`reading`), from streams and arrays (`spool`), judged (`quality`), padded (`padding`)."""

from .decoding import RATES
from .reading import (
    MAX_SECONDS,
    AudioInfo,
    Recording,
    content_hash,
    identify,
    info,
    read,
    read_recording,
    read_recordings,
    resample,
    sampled_hash,
)

__all__ = [
    "MAX_SECONDS",
    "RATES",
    "AudioInfo",
    "Recording",
    "content_hash",
    "identify",
    "info",
    "read",
    "read_recording",
    "read_recordings",
    "resample",
    "sampled_hash",
]
