"""Vectors on their way to the store: every few seconds, durably, under all keys of a job."""

import time
from collections.abc import Callable, Container, Mapping, Sequence

import numpy as np

from ..errors import ConfigError
from ..store import AudioFacts, EmbeddingStore
from .job import Job

FLUSH_SECONDS = 10.0
"""Work that a crash can lose at most."""

_FLUSH_VALUES = 16 * 2**20  # of float32: 64 MB


class Commit:
    """Rows of one job.

    Args:
        store: where to.
        corpus: name of the corpus.
        facts: what each clip's audio is, by clip id.
        job: whose vectors they are.
        flush_seconds: between two writes.
        stored: called with the clips whose rows are in the store, once they are.
        lacking: gives the numbers of the job's outputs that a clip has no row under yet; by default all.

    Attributes:
        done: clips whose rows were stored.
        done_of: for each output, how many rows were stored.
    """

    def __init__(
        self,
        store: EmbeddingStore,
        corpus: str,
        facts: Mapping[str, AudioFacts],
        job: Job,
        *,
        flush_seconds: float = FLUSH_SECONDS,
        stored: Callable[[Sequence[str]], None] = lambda clips: None,
        lacking: Callable[[str], Container[int]] | None = None,
    ) -> None:
        self._store, self._corpus, self._facts, self._job = store, corpus, facts, job
        self._flush_seconds, self._stored = flush_seconds, stored
        self._lacking = lacking or (lambda clip: range(len(job.outputs)))
        self._ids: list[str] = []
        self._rows: list[dict[str, np.ndarray]] = [{} for _ in job.outputs]
        self._sizes = [0] * len(job.outputs)
        self._since = time.monotonic()
        self.done = 0
        self.done_of = [0] * len(job.outputs)

    @property
    def count(self) -> int:
        """Clips given so far, stored or not."""
        return self.done + len(self._ids)

    def add(self, clip: str, vectors: Sequence[np.ndarray]) -> None:
        """Take the vectors of a clip, one for each output of the job; those that it lacks are stored.

        Raises:
            ConfigError: a vector is not as long as that of another clip.
        """
        for place, (output, vector) in enumerate(zip(self._job.outputs, vectors, strict=True)):
            self._sizes[place] = self._sizes[place] or len(vector)
            if len(vector) != self._sizes[place]:
                raise ConfigError(
                    f"Encoder {self._job.name!r} with pooling {output.pooling!r} gave {len(vector)} values for clip "
                    f"{clip!r} and {self._sizes[place]} for clips before. Vectors of one length need clips of one "
                    "length: use --pad SECONDS, or --pool time."
                )
        lacking = self._lacking(clip)
        for place, vector in enumerate(vectors):
            if place in lacking:
                self._rows[place][clip] = vector
        self._ids.append(clip)

    def flush_if_due(self) -> None:
        """Store what waits, if it has waited long enough or is large."""
        waited = time.monotonic() - self._since >= self._flush_seconds
        if waited or len(self._ids) * sum(self._sizes) >= _FLUSH_VALUES:
            self.flush()

    def flush(self) -> None:
        """Store what waits.

        Raises:
            StoreError: the store cannot be written; what waits goes on waiting.
        """
        if self._ids:
            ids = self._ids
            for output, rows in zip(self._job.outputs, self._rows, strict=True):
                if rows:
                    hashes = [str(self._facts[clip].audio) for clip in rows]
                    self._store.append(self._corpus, output.key, list(rows), hashes, np.stack(list(rows.values())))
            # Only now: when Ctrl-C comes in between, the rows are stored twice rather than not at all.
            self.done += len(ids)
            self.done_of = [done + len(rows) for done, rows in zip(self.done_of, self._rows, strict=True)]
            self._ids, self._rows = [], [{} for _ in self._job.outputs]
            self._stored(ids)
        self._since = time.monotonic()
