"""From a corpus and an encoder to rows in the store: only what is missing, durably, and bad clips by name."""

import gc
import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from .. import encoders
from ..audio import padding
from ..audio.padding import PadPolicy
from ..audio.quality import Remark
from ..corpora.base import Clip, Corpus
from ..corpora.subset import spread
from ..encoders import pooling as poolings
from ..encoders.base import Encoder, LoadRequest
from ..errors import AudioError, ConfigError, EncoderError, SerfuseError, StoreError
from ..progress import Observer
from ..store import AudioFacts, EmbeddingKey, EmbeddingStore, FileStamp, Skipped
from . import hearing
from .embed import embed, reason
from .hearing import Hearing
from .prefetch import ReadAhead
from .survey import far_longer, resolve_pad, summarize, survey

CPU_BATCH_SECONDS = 30.0
GPU_BATCH_SECONDS = 240.0
_FLUSH_SECONDS = 10.0
_ALIKE = 3  # clips that fail with the same words before it is the library that is at fault
_FLUSH_VALUES = 16 * 2**20  # of float32: 64 MB

_log = logging.getLogger(__name__)

Encoders = Sequence[str | Encoder] | Mapping[str, LoadRequest]
"""Several encoders: by name, loaded, or by name with what to ask of each."""


@dataclass
class ExtractReport:
    """What one `extract` did.

    Attributes:
        encoder: name.
        key: under which the rows are; `None` when the encoder could not run.
        done: clips computed now.
        reused: clips whose row was already in the store.
        failed: `(clip id, reason)` of clips that have no row.
        skip_bad: the failed ones were recorded as skipped.
        seconds: wall time of this call.
        audio_seconds: length of the audio computed now.
        vector_size: length of a vector; 0 when there is none.
        error: why the encoder could not run; empty when it did.
        remarks: by clip id, what is odd about clips that were decoded now or before; see `serfuse.audio.quality`.
    """

    encoder: str
    key: EmbeddingKey | None = None
    done: int = 0
    reused: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    skip_bad: bool = False
    seconds: float = 0.0
    audio_seconds: float = 0.0
    vector_size: int = 0
    error: str = ""
    remarks: dict[str, list[Remark]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every clip has its row, or was skipped because that was asked for and others have theirs."""
        if self.error:
            return False
        return not self.failed or (self.skip_bad and bool(self.done or self.reused))

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        if self.key is None:
            return {"encoder": self.encoder, "error": self.error}
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
            "remarks": hearing.as_dict(self.remarks),
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
        libraries=encoders.libraries(encoder.preset),
    )


class Extraction:
    """A corpus on its way into a store. Making one prepares everything that does not depend on an encoder.

    The files are looked at, "max" finds its length, and the store gets to know the clips; then `run` computes what is
    missing, for one encoder after the other.

    Args:
        corpus: what is read.
        store: where the rows go.
        pooling: see `serfuse.encoders.pooling`.
        pad: see `PadPolicy`; "max" means the longest clip of the whole corpus, also under a limit.
        limit: only this many clips, spread over emotions and speakers; others that the store knows stay in it.
        skip_bad: record the clips that fail as skipped, so that later steps go on without them.
        batch_seconds: audio that goes through an encoder at once, where clips have equal lengths; by default
            `CPU_BATCH_SECONDS` or `GPU_BATCH_SECONDS`, by the encoder's device.
        observer: hears of each file that is looked at, and of each batch that is computed.

    Attributes:
        corpus: the clips that are extracted.
        store: where to.
        pooling: as given.
        pad: resolved.
        facts: what each clip's audio is, by clip id.
        summary: counts of the corpus, see `summarize`.

    Raises:
        StoreError: the store cannot be written, or is damaged.
        ConfigError: an unknown pooling or pad policy.
        CorpusError: "max", and no clip's length is known.
    """

    def __init__(
        self,
        corpus: Corpus,
        store: EmbeddingStore,
        *,
        pooling: str = "time",
        pad: PadPolicy | str = "none",
        limit: int | None = None,
        skip_bad: bool = False,
        batch_seconds: float | None = None,
        observer: Observer | None = None,
    ) -> None:
        poolings.check_pooling(pooling)
        policy = PadPolicy.parse(pad) if isinstance(pad, str) else pad
        store.check_writable(corpus.name)
        chosen = spread(corpus, limit) if limit else corpus
        self._observer = observer or Observer()
        self._skip_bad, self._batch_seconds = skip_bad, batch_seconds
        self.facts = survey(corpus if policy.kind == "max" else chosen, store, self._observer)
        self.corpus, self.store, self.pooling = chosen, store, pooling
        if note := far_longer(policy, self.facts):
            self._observer.say(note)
        self.pad = resolve_pad(policy, self.facts)
        complete = len(chosen.clips) == len(corpus.clips)
        store.write_corpus(chosen, self.facts, complete=complete, source=dict(chosen.source) or None)
        self.summary = summarize(chosen, self.facts, of=len(corpus.clips))
        self._heard = Hearing(store, corpus.name, self.facts)

    def each(self, encoders: Encoders) -> Iterator[ExtractReport]:
        """Run several encoders, each loaded when its turn comes. What is wrong with one does not concern the others.

        Args:
            encoders: names, loaded encoders, or names with what to ask of each.

        Yields:
            a report for each; its `error` says why there is nothing, where that is so.

        Raises:
            StoreError: a full disk or a damaged store, which the next encoder would meet too.
            Interrupted: Ctrl-C; what was finished is stored.
        """
        asked = encoders if isinstance(encoders, Mapping) else dict.fromkeys(encoders)
        for encoder, request in asked.items():
            name = encoder if isinstance(encoder, str) else encoder.name
            try:
                report = self.run(encoder, request)
            except StoreError:
                raise
            except SerfuseError as error:
                report = ExtractReport(name, skip_bad=self._skip_bad, error=str(error))
            except Exception as error:  # whatever a library raises, the other encoders can still run
                _log.debug("encoder %s", name, exc_info=True)
                report = ExtractReport(name, skip_bad=self._skip_bad, error=f"{type(error).__name__}: {error}")
            _free_memory()
            yield report

    def run(self, encoder: str | Encoder, request: LoadRequest | None = None) -> ExtractReport:
        """Compute and store the embeddings that the store lacks.

        Rows are stored every few seconds and survive whatever happens next; the same call goes on where this one
        ended. A clip that cannot be used is in the report with its reason, and the others are computed all the same.

        Args:
            encoder: loaded, or the name of one to load.
            request: what to ask of it, where it is loaded here.

        Raises:
            StoreError: the store is damaged, or the disk is full.
            ConfigError: settings that do not go together, or vectors of different lengths.
            WeightsError: the encoder's weights are absent or damaged, or failed while it ran.
            EncoderError: its library fails for the first clips in one and the same way, so not because of them.
            Interrupted: Ctrl-C; what was finished is stored.
        """
        loaded = self._load(encoder, request or LoadRequest()) if isinstance(encoder, str) else encoder
        begun = time.monotonic()
        key = make_key(loaded, self.pooling, self.pad)
        report = ExtractReport(loaded.name, key, skip_bad=self._skip_bad)
        todo = self._missing(key)
        report.reused = len(self.corpus.clips) - len(todo)
        writer = _Writer(self.store, self.corpus.name, self.facts, report)
        try:
            with self._observer.working(loaded.name, len(todo), "clip"):
                self._compute(loaded, todo, writer)
        except KeyboardInterrupt:
            writer.flush()
            report.remarks = self._heard.remarks(self.corpus.clips)
            report.seconds = time.monotonic() - begun
            raise Interrupted(report) from None
        except BaseException:
            writer.flush()
            raise
        writer.flush()
        if todo:
            self.store.compact(self.corpus.name, key)
        self._record(report)
        report.remarks = self._heard.remarks(self.corpus.clips)
        if report.done or report.reused:
            report.vector_size = self.store.size(self.corpus.name, key)[0]
        report.seconds = time.monotonic() - begun
        return report

    def _load(self, name: str, request: LoadRequest) -> Encoder:
        if encoders.preset(name).needs_weights:
            drawn = request.weights == "random"
            self._observer.say(f"{name}: {'drawing random weights' if drawn else 'loading the weights'} ...")
        if self.pooling == "paper":
            options = {**encoders.preset(name).paper_options, **request.options}
            request = replace(request, options=options)
        return encoders.load(name, request)

    def _missing(self, key: EmbeddingKey) -> list[Clip]:
        """The clips whose row the store lacks, or has of other audio."""
        present = self.store.present(self.corpus.name, key)
        known = {clip.id: self.facts[clip.id].audio for clip in self.corpus.clips}
        return [clip for clip in self.corpus.clips if known[clip.id] is None or present.get(clip.id) != known[clip.id]]

    def _compute(self, encoder: Encoder, todo: Sequence[Clip], writer: "_Writer") -> None:
        facts, report = self.facts, writer.report
        gpu = encoder.device.startswith("cuda")
        batch_seconds = self._batch_seconds or (GPU_BATCH_SECONDS if gpu else CPU_BATCH_SECONDS)
        groups = _plan(todo, facts, encoder, self.pad, batch_seconds)
        work = sum(_cost(facts[clip.id]) for clip in todo)
        finished = 0.0

        def read(clip: Clip) -> np.ndarray:
            return _read(clip, facts[clip.id], encoder.sample_rate, self.pad, self._heard)

        with ReadAhead(read, groups, lambda clip: _cost(facts[clip.id]), 2 * batch_seconds) as batches:
            for group, waveforms in batches:
                for clip, outcome in zip(group, embed(encoder, waveforms, self.pooling), strict=True):
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
                done = writer.count + len(report.failed)
                self._observer.advance(done, fraction=finished / work if work else 1.0)

    def _record(self, report: ExtractReport) -> None:
        """Bring the record of skipped clips up to date."""
        reasons = dict(report.failed)
        here = {clip.id for clip in self.corpus.clips}
        before = self.store.skipped(self.corpus.name, report.key)
        keep = [item for item in before if item.clip not in here or (item.clip in reasons and not report.skip_bad)]
        if report.skip_bad:
            keep += [Skipped(clip, self.facts[clip].audio, reason) for clip, reason in reasons.items()]
        self.store.record_skipped(self.corpus.name, report.key, keep)


@overload
def extract(corpus: Corpus, encoders: str | Encoder, store: EmbeddingStore, **settings: Any) -> ExtractReport: ...


@overload
def extract(corpus: Corpus, encoders: Encoders, store: EmbeddingStore, **settings: Any) -> list[ExtractReport]: ...


def extract(
    corpus: Corpus,
    encoders: str | Encoder | Encoders,
    store: EmbeddingStore,
    **settings: Any,
) -> ExtractReport | list[ExtractReport]:
    """Compute and store the embeddings that the store lacks, as `serfuse extract` does.

    `extract(corpus, "prosody", store, pooling="mean-std")` gives one report, and
    `extract(corpus, {"hubert": LoadRequest(layer="6"), "logmel": LoadRequest()}, store)` a list of them.

    Args:
        corpus: from a reader of `serfuse.corpora`.
        encoders: one encoder, loaded or by its name, whose errors are raised; or several, or a mapping from names to
            what to ask of each, where an encoder that fails has its `error` in its report and the others go on.
        store: where the rows go.
        settings: `pooling`, `pad` and whatever else `Extraction` takes.

    Raises:
        StoreError: the store cannot be written (before anything is computed), is damaged, or the disk is full.
        ConfigError: settings that do not go together, or vectors of different lengths.
        WeightsError: the encoder's weights are absent or damaged, or failed while it ran.
        Interrupted: Ctrl-C; what was finished is stored.
    """
    extraction = Extraction(corpus, store, **settings)
    if isinstance(encoders, str | Encoder):
        return extraction.run(encoders)
    return list(extraction.each(encoders))


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
        self, store: EmbeddingStore, corpus: str, facts: Mapping[str, AudioFacts], report: ExtractReport
    ) -> None:
        self._store, self._corpus, self._facts, self.report = store, corpus, facts, report
        self._rows: list[tuple[str, np.ndarray]] = []
        self._size = 0
        self._since = time.monotonic()

    @property
    def count(self) -> int:
        """Rows given so far, stored or not."""
        return self.report.done + len(self._rows)

    def add(self, clip: str, vector: np.ndarray) -> None:
        self._size = self._size or len(vector)
        if len(vector) != self._size:
            raise ConfigError(
                f"Encoder {self.report.encoder!r} with pooling {self.report.key.pooling!r} gave {len(vector)} values "
                f"for clip {clip!r} and {self._size} for clips before. Vectors of one length need clips of one length: "
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
            self._store.append(self._corpus, self.report.key, ids, hashes, matrix)
            # Only now: when Ctrl-C comes in between, the rows are stored twice rather than not at all.
            self.report.done += len(ids)
            self._rows = []
        self._since = time.monotonic()


def _read(clip: Clip, facts: AudioFacts, sample_rate: int, policy: PadPolicy, heard: Hearing) -> np.ndarray:
    if facts.audio is None:
        raise AudioError(facts.problem or "The file could not be read.")
    path = Path(clip.path)
    waveform = heard.read(clip, sample_rate)
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


def _cost(facts: AudioFacts) -> float:
    return 0.0 if math.isnan(facts.seconds) else facts.seconds


def _free_memory() -> None:
    """Give a large model's memory back before the next one is loaded."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
