"""The embedding store: what was extracted once is never computed again, and never mixed up."""

from .damage import DamageError
from .encoder_notes import encoder_notes
from .files import StorePath
from .key import EXTRACTION_VERSION, EmbeddingKey
from .records import AudioFacts, FileStamp, Skipped
from .store import Chosen, EmbeddingStore, default_root

__all__ = [
    "EXTRACTION_VERSION",
    "AudioFacts",
    "Chosen",
    "DamageError",
    "EmbeddingKey",
    "EmbeddingStore",
    "FileStamp",
    "Skipped",
    "StorePath",
    "default_root",
    "encoder_notes",
]
