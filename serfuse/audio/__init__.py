"""Audio files: read and checked (`reading`), padded (`padding`)."""

from .reading import MAX_SECONDS, RATES, AudioInfo, content_hash, info, read, resample

__all__ = ["MAX_SECONDS", "RATES", "AudioInfo", "content_hash", "info", "read", "resample"]
