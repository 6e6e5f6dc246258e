"""Corpora and rows for tests of the store, and of what reads it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from serfuse.corpora.base import Clip, Corpus
from serfuse.store import AudioFacts, EmbeddingKey, EmbeddingStore

KEY = EmbeddingKey("hubert", weights="hub:x@1")
COMPATIBLE = Path(__file__).resolve().parent.parent / "compatibility" / "version_0_1" / "store"


def drawn_clips(
    store: EmbeddingStore, corpus: str, emotions: Sequence[str], *, speakers: int, texts: int
) -> tuple[list[Clip], list[str], list[str]]:
    """Store the clips, by id, of a corpus without audio: every speaker says every text in every emotion.

    Returns:
        the clips, their ids, and what stands for the content of their recordings, for `store.append`.
    """
    clips = [
        Clip(f"s{s}-t{t}-{e}", Path(f"/nowhere/s{s}-t{t}-{e}.wav"), e, f"s{s}", f"t{t}")
        for e in emotions
        for s in range(speakers)
        for t in range(texts)
    ]
    clips.sort(key=lambda clip: clip.id)
    audio = [f"{number:064x}" for number in range(len(clips))]
    facts = {clip.id: AudioFacts(content, 1.0) for clip, content in zip(clips, audio, strict=True)}
    store.write_corpus(Corpus(corpus, tuple(clips)), facts)
    return clips, [clip.id for clip in clips], audio


def corpus_of(*ids: str, name: str = "c") -> Corpus:
    return Corpus(name, tuple(Clip(i, Path(f"/nowhere/{i}.wav"), "anger", i[0], i[1:]) for i in sorted(ids)))


def facts_of(corpus: Corpus, version: str = "1") -> dict[str, AudioFacts]:
    return {clip.id: AudioFacts(f"{clip.id}-{version}", 1.0) for clip in corpus.clips}


def fill(store: EmbeddingStore, count: int, size: int, *, parts: int = 1, key: EmbeddingKey = KEY) -> np.ndarray:
    """Store `count` clips in no order, in some parts; returns the matrix by clip."""
    ids = [f"k{number:06d}" for number in range(count)]
    corpus = corpus_of(*ids)
    store.write_corpus(corpus, facts_of(corpus), source={"corpus": "table", "data": "/data/clips.csv"})
    matrix = np.random.default_rng(count).normal(size=(count, size)).astype(np.float32)
    order = np.random.default_rng(0).permutation(count)
    for some in np.array_split(order, parts):
        store.append("c", key, [ids[n] for n in some], [f"{ids[n]}-1" for n in some], matrix[some])
    return matrix


def parts_of(store: EmbeddingStore, key: EmbeddingKey = KEY, corpus: str = "c") -> list[Path]:
    return sorted((store.root / corpus / key.folder).glob("part-*.parquet"))
