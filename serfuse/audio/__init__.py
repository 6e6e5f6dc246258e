"""Audio: read and checked (`reading`), streams and waveforms as well (`spool`); padded (`padding`)."""

from .reading import MAX_SECONDS, RATES, AudioInfo, content_hash, info, read, resample

__all__ = ["MAX_SECONDS", "RATES", "AudioInfo", "content_hash", "info", "read", "resample"]
