"""What the makers of an encoder had heard before: sentences for the audit of a cross-validation."""

import re
from collections.abc import Collection, Iterable

from ..encoders import ENCODERS, preset
from .key import EmbeddingKey


def encoder_notes(corpus: str, keys: Iterable[EmbeddingKey]) -> list[str]:
    """What an audit must say of the encoders whose embeddings are classified.

    Args:
        corpus: under test, by its name in the store.
        keys: of the embeddings.

    Returns:
        a sentence for each encoder that was trained on emotion labels or has heard the corpus, the leaks first, and
        one for each of which that is not known. Embeddings that were imported and weights that were drawn have none.
    """
    leaks, others = [], []
    for key in {key.encoder: key for key in keys}.values():
        if key.random or key.encoder not in ENCODERS:
            continue
        data = preset(key.encoder)
        if named := _naming(data.emotion_labels, corpus):
            leaks.append(
                f"LEAKAGE: {data.name} was trained on emotion labels of {named}, the corpus under test: it may have "
                "seen the answers for the very clips it is tested on. These figures say nothing about new speakers."
            )
        elif named := _naming(data.corpora_seen, corpus):
            leaks.append(
                f"{data.name} has heard the recordings of {named}, the corpus under test, without their emotion "
                "labels: no test clip is new to it."
            )
        elif data.emotion_labels:
            others.append(
                f"{data.name} was trained on emotion labels of {' and '.join(data.emotion_labels)}: mind clips that "
                f"{corpus} shares with it, and compare it with encoders that were, too."
            )
        elif not data.trained_on and data.needs_weights:
            others.append(
                f"What {data.name} was trained on is not known here: emotion labels, or {corpus} itself, may be among "
                "it. See its model card."
            )
    return leaks + others


def _naming(seen: Collection[str], corpus: str) -> str:
    """The one of `seen` that a corpus' name in the store means, however it is written; "" where none does."""
    here = _plain(corpus)
    return next((name for name in seen if _plain(name) in here), "")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
