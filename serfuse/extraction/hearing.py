"""Clips decoded once: what was noticed on the way is counted, and kept in the store beside their labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import audio
from ..audio import quality
from ..audio.quality import Remark
from ..corpora.base import Clip
from ..errors import AudioError
from ..store import AudioFacts, EmbeddingStore
from ..store.heard import Heard

_NAMED = 3  # clips that a line of the table names


class Hearing:
    """What decoding told of a corpus' clips, of this call and of those before.

    Args:
        store: that keeps it; `None` where that is done elsewhere, from `new`.
        corpus: name of the corpus.
        facts: what each clip's audio is, by clip id.
    """

    def __init__(self, store: EmbeddingStore | None, corpus: str, facts: Mapping[str, AudioFacts]) -> None:
        self._store, self._corpus, self._facts = store, corpus, facts
        self._new: dict[str, Heard] = {}
        self._kept = 0

    def read(self, clip: Clip, sample_rates: Sequence[int]) -> dict[int, np.ndarray | AudioError]:
        """The clip's waveform at each rate, float32 `(samples,)`, from one decoding. Threads may call this at once.

        Raises:
            AudioError: see `serfuse.audio.read`.
        """
        found = audio.read_recordings(clip.path, sample_rates, start=clip.start, end=clip.end)
        for recording in found.values():
            if isinstance(recording, audio.Recording):
                remarks = tuple((remark.kind, remark.text) for remark in recording.remarks)
                self._new[str(self._facts[clip.id].audio)] = Heard(recording.sound, remarks)
                break
        return {
            rate: recording if isinstance(recording, AudioError) else recording.waveform
            for rate, recording in found.items()
        }

    @property
    def new(self) -> dict[str, Heard]:
        """What was heard now, by the audio's identity."""
        return dict(self._new)

    def add(self, items: Mapping[str, Heard]) -> None:
        """Take what was heard elsewhere."""
        self._new.update(items)

    def store(self) -> None:
        """Keep what was heard now.

        Raises:
            StoreError: the store cannot be written.
        """
        if len(new := self.new) > self._kept:
            self._store.record_heard(self._corpus, new)
            self._kept = len(new)

    def remarks(self, clips: Sequence[Clip]) -> dict[str, list[Remark]]:
        """Remarks by clip id, of the clips that have some; what was heard now is stored first.

        Raises:
            StoreError: the store cannot be read or written.
        """
        self.store()
        known = self._store.remarked(self._corpus)
        found = {}
        for clip in clips:
            audio_id = str(self._facts[clip.id].audio)
            item = self._new.get(audio_id) or known.get(audio_id)
            if item is not None and item.remarks:
                found[clip.id] = [Remark(kind, text) for kind, text in item.remarks]
        return found


def as_dict(remarks: Mapping[str, Sequence[Remark]]) -> dict[str, Any]:
    """Counts of clips by kind, and each remark, as JSON values."""
    return {
        "counts": quality.counts(remarks),
        "clips": [
            {"clip": clip, "kind": remark.kind, "remark": remark.text}
            for clip, each in remarks.items()
            for remark in each
        ],
    }


def table(remarks: Mapping[str, Sequence[Remark]]) -> list[str]:
    """A line per kind of remark: how many clips have it, and the first of them by name."""
    lines = []
    for kind, count in quality.counts(remarks).items():
        having = [clip for clip, each in remarks.items() if any(remark.kind == kind for remark in each)]
        first = next(remark.text for remark in remarks[having[0]] if remark.kind == kind)
        others = f"; also {', '.join(having[1:_NAMED])}{' ...' if count > _NAMED else ''}" if count > 1 else ""
        lines.append(f"{count:6d}  {quality.KINDS[kind]} ({having[0]}: {first}{others})")
    return lines
