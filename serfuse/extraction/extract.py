"""From a corpus and an encoder to rows in the store: only what is missing, durably, and bad clips by name."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .. import audio
from ..audio import padding
from ..audio.padding import PadPolicy
from ..corpora.base import Clip, Corpus
from ..encoders import pooling as poolings
from ..encoders.base import Encoder
from ..errors import AudioError, ConfigError, EncoderError, SerfuseError
from ..store import AudioFacts, EmbeddingKey, EmbeddingStore, FileStamp, Skipped
from .embed import embed, reason
from .prefetch import ReadAhead
from .survey import ProgressCallback, resolve_pad, survey

CPU_BATCH_SECONDS = 30.0
GPU_BATCH_SECONDS = 240.0
_FLUSH_SECONDS = 10.0
_ALIKE = 3  # clips that fail with the same words before it is the library that is at fault
_FLUSH_VALUES = 16 * 2**20  # of float32: 64 MB

_log = logging.getLogger(__name__)


@dataclass
class ExtractReport:
    """What one `extract` did.

    Attributes:
        encoder: name.
        key: under which the rows are.
        done: clips computed now.
        reused: clips whose row was already in the store.
        failed: `(clip id, reason)` of clips that have no row.
        skip_bad: the failed ones were recorded as skipped.
        seconds: wall time of this call.
        audio_seconds: length of the audio computed now.
        vector_size: length of a vector; 0 when there is none.
    """

    encoder: str
    key: EmbeddingKey
    done: int = 0
    reused: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    skip_bad: bool = False
    seconds: float = 0.0
    audio_seconds: float = 0.0
    vector_size: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "encoder": self.encoder,
            "key": self.key.to_dict(),
            "name": self.key.folder,
            "random_weights": self.key.random,
            "done": self.done,
            "reused": self.reused,
            "failed": [{"clip": clip, "reason": reason} for clip, reason in self.failed],
            "skipped": self.skip_bad,
            "seconds": round(self.seconds, 3),
            "audio_seconds": round(self.audio_seconds, 3),
            "vector_size": self.vector_size,
        }


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `extract`, after the finished clips were stored.

    Attributes:
        report: what was done until then.
    """

    def __init__(self, report: ExtractReport) -> None:
        super().__init__()
        self.report = report


def make_key(encoder: Encoder, pooling: str, pad: PadPolicy) -> EmbeddingKey:
    """The key of what `extract` stores.

    Raises:
        ConfigError: an unknown pooling, or one that needs clips of one length while they are not padded to one.
    """
    poolings.check_pooling(pooling)
    if pooling == "paper" and encoder.preset.paper_pooling == "channels" and pad.kind == "none":
        raise ConfigError(
            f"The pooling 'paper' of {encoder.name} keeps one value per frame, so every clip must have one length. "
            "Received --pad none; use --pad 5.0 (the papers' length), --pad max, or --pool time."
        )
    return EmbeddingKey(
        encoder=encoder.name,
        weights=encoder.weights_id,
        layer=encoder.layer,
        pooling=pooling,
        pad=pad.name,
        sample_rate=encoder.sample_rate,
        dtype=encoder.dtype,
        options=encoder.options,
        libraries=_libraries(encoder),
    )


def extract(
    corpus: Corpus,
    encoder: Encoder,
    store: EmbeddingStore,
    *,
    pooling: str = "time",
    pad: PadPolicy | str = "none",
    facts: Mapping[str, AudioFacts] | None = None,
    skip_bad: bool = False,
    batch_seconds: float | None = None,
    progress: ProgressCallback | None = None,
) -> ExtractReport:
    """Compute and store the embeddings that the store lacks.

    Rows are stored every few seconds and survive whatever happens next; the same call goes on where this one ended.
    A clip that cannot be used is in the report with its reason, and the others are computed all the same.

    Args:
        pooling: see `serfuse.encoders.pooling`.
        pad: see `PadPolicy`; "max" is resolved over the clips of `facts`.
        facts: what `survey` gave, of this corpus or a larger one; the caller has then given the corpus to the store
            (`EmbeddingStore.write_corpus`). Without it both are done here.
        skip_bad: record the clips that fail as skipped, so that later steps go on without them.
        batch_seconds: audio that goes through the encoder at once, where clips have equal lengths; by default
            `CPU_BATCH_SECONDS` or `GPU_BATCH_SECONDS`, by the encoder's device.
        progress: called after every batch with the clips done now, those to do, `None`, and the part of the audio.

    Raises:
        StoreError: the store cannot be written (before anything is computed), is damaged, or the disk is full.
        ConfigError: settings that do not go together, or vectors of different lengths.
        WeightsError: the encoder's weights failed while it ran.
        EncoderError: its library fails for the first clips in one and the same way, so not because of them.
        Interrupted: Ctrl-C; what was finished is stored.
    """
    begun = time.monotonic()
    store.check_writable(corpus.name)
    if facts is None:
        facts = survey(corpus, store)
        store.write_corpus(corpus, facts)
    policy = resolve_pad(pad, facts)
    key = make_key(encoder, pooling, policy)
    report = ExtractReport(encoder.name, key, skip_bad=skip_bad)

    present = store.present(corpus.name, key)
    todo: list[Clip] = []
    for clip in corpus.clips:
        if facts[clip.id].audio is not None and present.get(clip.id) == facts[clip.id].audio:
            report.reused += 1
        else:
            todo.append(clip)
    batch_seconds = batch_seconds or (GPU_BATCH_SECONDS if encoder.device.startswith("cuda") else CPU_BATCH_SECONDS)
    groups = _plan(todo, facts, encoder, policy, batch_seconds)
    writer = _Writer(store, corpus.name, key, facts, report)
    work = sum(_cost(facts[clip.id]) for clip in todo)
    finished = 0.0

    def read(clip: Clip) -> np.ndarray:
        return _read(clip, facts[clip.id], encoder.sample_rate, policy)

    try:
        with ReadAhead(read, groups, lambda clip: _cost(facts[clip.id]), 2 * batch_seconds) as batches:
            for group, waveforms in batches:
                for clip, outcome in zip(group, embed(encoder, waveforms, pooling), strict=True):
                    if isinstance(outcome, Exception):
                        if not writer.count and not report.reused:
                            _check_failures(encoder, report.failed, outcome)
                        report.failed.append((clip.id, reason(outcome)))
                        _log.debug("clip %s", clip.id, exc_info=outcome)
                    else:
                        writer.add(clip.id, outcome)
                        report.audio_seconds += _cost(facts[clip.id])
                    finished += _cost(facts[clip.id])
                writer.flush_if_due()
                if progress:
                    progress(writer.count + len(report.failed), len(todo), None, finished / work if work else 1.0)
    except KeyboardInterrupt:
        writer.flush()
        report.seconds = time.monotonic() - begun
        raise Interrupted(report) from None
    except BaseException:
        writer.flush()
        raise
    writer.flush()
    if todo:
        store.compact(corpus.name, key)
    _record(corpus, store, key, facts, report)
    if report.done or report.reused:
        report.vector_size = store.size(corpus.name, key)[0]
    report.seconds = time.monotonic() - begun
    return report


def _check_failures(encoder: Encoder, before: list[tuple[str, str]], error: Exception) -> None:
    """Refuse to blame the clips for a library that has failed for every one of them, each time with the same words.

    Raises:
        EncoderError: `error`, which is not about a clip's audio, is the third such one, and no clip has a vector.
    """
    if isinstance(error, SerfuseError | ArithmeticError) or len(before) < _ALIKE - 1:
        return
    said = reason(error)
    if all(earlier == said for _, earlier in before[1 - _ALIKE :]):
        raise EncoderError(
            f"{encoder.name} fails for the first {_ALIKE} clips in the same way ({said}), so this is about the "
            "installation rather than about the clips, and none was recorded as unusable. Mend it, or look closer by "
            "extracting one of these clips alone."
        ) from error


class _Writer:
    """Rows on their way to the store."""

    def __init__(
        self,
        store: EmbeddingStore,
        corpus: str,
        key: EmbeddingKey,
        facts: Mapping[str, AudioFacts],
        report: ExtractReport,
    ) -> None:
        self._store, self._corpus, self._key, self._facts, self._report = store, corpus, key, facts, report
        self._rows: list[tuple[str, np.ndarray]] = []
        self._size = 0
        self._since = time.monotonic()

    @property
    def count(self) -> int:
        """Rows given so far, stored or not."""
        return self._report.done + len(self._rows)

    def add(self, clip: str, vector: np.ndarray) -> None:
        self._size = self._size or len(vector)
        if len(vector) != self._size:
            raise ConfigError(
                f"Encoder {self._key.encoder!r} with pooling {self._key.pooling!r} gave {len(vector)} values for clip "
                f"{clip!r} and {self._size} for clips before. Vectors of one length need clips of one length: "
                "use --pad SECONDS, or --pool time."
            )
        self._rows.append((clip, vector))

    def flush_if_due(self) -> None:
        if time.monotonic() - self._since >= _FLUSH_SECONDS or len(self._rows) * self._size >= _FLUSH_VALUES:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            ids = [clip for clip, _ in self._rows]
            hashes = [str(self._facts[clip].audio) for clip in ids]
            matrix = np.stack([vector for _, vector in self._rows])
            self._store.append(self._corpus, self._key, ids, hashes, matrix)
            # Only now: when Ctrl-C comes in between, the rows are stored twice rather than not at all.
            self._report.done += len(ids)
            self._rows = []
        self._since = time.monotonic()


def _read(clip: Clip, facts: AudioFacts, sample_rate: int, policy: PadPolicy) -> np.ndarray:
    if facts.audio is None:
        raise AudioError(facts.problem or "The file could not be read.")
    path = Path(clip.path)
    waveform = audio.read(path, sample_rate, start=clip.start, end=clip.end)
    # The row goes under the hash of the survey, so it must be made from just that content.
    with suppress(OSError):
        if facts.stamp is not None and FileStamp.of(path) != facts.stamp:
            raise AudioError(f"{path}: changed while it was extracted. Run the same command again.")
    return padding.pad(waveform, policy.samples(len(waveform), sample_rate))


def _plan(
    clips: Sequence[Clip], facts: Mapping[str, AudioFacts], encoder: Encoder, policy: PadPolicy, batch_seconds: float
) -> list[list[Clip]]:
    """Clips that go through the encoder together: of equal length as far as their headers tell, in corpus order."""
    if not encoder.batches:
        return [[clip] for clip in clips]
    groups: list[list[Clip]] = []
    open_groups: dict[int, tuple[list[Clip], int]] = {}
    for clip in clips:
        seconds = facts[clip.id].seconds
        if math.isnan(seconds):
            groups.append([clip])
            continue
        samples = policy.samples(round(seconds * encoder.sample_rate), encoder.sample_rate)
        limit = max(1, int(batch_seconds * encoder.sample_rate // max(samples, 1)))
        if samples not in open_groups or len(open_groups[samples][0]) >= limit:
            open_groups[samples] = ([], limit)
            groups.append(open_groups[samples][0])
        open_groups[samples][0].append(clip)
    return groups


def _record(
    corpus: Corpus, store: EmbeddingStore, key: EmbeddingKey, facts: Mapping[str, AudioFacts], report: ExtractReport
) -> None:
    """Bring the record of skipped clips up to date."""
    reasons = dict(report.failed)
    here = {clip.id for clip in corpus.clips}
    before = store.skipped(corpus.name, key)
    keep = [item for item in before if item.clip not in here or (item.clip in reasons and not report.skip_bad)]
    if report.skip_bad:
        keep += [Skipped(clip, facts[clip].audio, reason) for clip, reason in reasons.items()]
    store.record_skipped(corpus.name, key, keep)


def _libraries(encoder: Encoder) -> dict[str, str]:
    """Versions that belong into the key: where there are no weights, the library's code defines the numbers."""
    return {"librosa": metadata.version("librosa")} if encoder.preset.family == "signal" else {}


def _cost(facts: AudioFacts) -> float:
    return 0.0 if math.isnan(facts.seconds) else facts.seconds
