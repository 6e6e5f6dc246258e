"""The embedding store: what was extracted once is never computed again, and never mixed up."""

from ..embedding_key import EXTRACTION_VERSION, EmbeddingKey
from .facts import AudioFacts, FileStamp, Skipped
from .store import EmbeddingStore, default_root

__all__ = ["EXTRACTION_VERSION", "AudioFacts", "EmbeddingKey", "EmbeddingStore", "FileStamp", "Skipped", "default_root"]
