"""The embedding store: what was extracted once is never computed again, and never mixed up."""

from .key import EXTRACTION_VERSION, EmbeddingKey
from .records import AudioFacts, FileStamp, Skipped
from .store import EmbeddingStore, default_root

__all__ = ["EXTRACTION_VERSION", "AudioFacts", "EmbeddingKey", "EmbeddingStore", "FileStamp", "Skipped", "default_root"]
