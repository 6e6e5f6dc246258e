"""A group of jobs over a corpus: clips are claimed, decoded ahead, embedded by every job, and committed."""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ..claims import Claims
from ..corpora.base import Clip, Corpus
from ..encoders.base import Encoder
from ..encoders.turns import TURNS
from ..errors import EncoderError, SerfuseError, StoreError
from ..store import AudioFacts, EmbeddingKey, EmbeddingStore
from . import batching
from .commit import FLUSH_SECONDS, Commit
from .decode import Waveforms, decode, of_job
from .embed import embed_each, reason
from .hearing import Hearing
from .job import Job
from .passes import Outcomes, Pass, Passes
from .prefetch import ReadAhead
from .report import ExtractReport
from .share import Share
from .tally import Tally

_ALIKE = 3  # clips that fail with the same words before it is the library that is at fault
_POLL_SECONDS = 0.2
_PORTIONS = 8  # what is claimed at once is at most this part of what is left, so that several end together

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Running:
    """A job at work.

    Attributes:
        job: what is run: the outputs that some clip lacks.
        whole: all outputs that were asked for.
        share: what it lacks.
        commit: where its rows go.
        failed: `(clip id, reason)` of clips that have no row.
        failed_of: by clip, the outputs that it has no row under for that reason.
        audio_seconds: of clips computed here.
        seconds: that it took for itself.
        error: what ended it before all was done.
    """

    job: Job
    whole: Job
    share: Share
    commit: Commit
    failed: list[tuple[str, str]] = field(default_factory=list)
    failed_of: dict[str, set[int]] = field(default_factory=dict)
    audio_seconds: float = 0.0
    seconds: float = 0.0
    error: Exception | None = None


@dataclass(eq=False)
class Batch:
    """Clips that are decoded together, and which of them each job takes."""

    clips: list[Clip]
    takers: list[tuple[Running, list[int]]]

    def jobs(self, clip: Clip) -> list[Job]:
        place = next(place for place, other in enumerate(self.clips) if other is clip)
        return [running.job for running, places in self.takers if place in places]


class Pipeline:
    """The way of clips through a group of jobs.

    Args:
        corpus: the clips that are wanted.
        store: where rows go.
        facts: what each clip's audio is, by clip id.
        heard: told of what decoding notices.
        claims: of the processes on this store.
        batch_seconds: audio that goes through an encoder at once; `None` for the defaults of `batching`.
        flush_seconds: between two writes.
    """

    def __init__(
        self,
        corpus: Corpus,
        store: EmbeddingStore,
        facts: Mapping[str, AudioFacts],
        heard: Hearing,
        claims: Claims,
        *,
        batch_seconds: float | None = None,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self.corpus, self.store, self.facts, self.heard, self.claims = corpus, store, facts, heard, claims
        self._batch_seconds, self._flush_seconds = batch_seconds, flush_seconds
        self._costs = {clip.id: batching.cost(facts[clip.id]) for clip in corpus.clips}

    def start(self, job: Job) -> Running:
        """Find out what a job lacks.

        Raises:
            StoreError: a part of the store is damaged.
        """
        whole = job
        share = self._share(job)
        there = [output for place, output in enumerate(job.outputs) if not share.left_of(place)]
        if there and len(there) < len(job.outputs):  # neither claimed nor pooled
            job = job.only([output for output in job.outputs if output not in there])
            share = self._share(job)
        commit = Commit(
            self.store,
            self.corpus.name,
            self.facts,
            job,
            flush_seconds=self._flush_seconds,
            stored=share.settle,
            lacking=share.lacking,
        )
        return Running(job, whole, share, commit)

    def _share(self, job: Job) -> Share:
        return Share(self.store, self.corpus.name, self.corpus.clips, self.facts, job, claims=self.claims)

    def lacking(self, running: Running) -> tuple[int, float]:
        """How many clips a job lacks, and their seconds of audio."""
        clips = [clip.id for clip in self.corpus.clips if running.share.lacks(clip.id)]
        return len(clips), sum(self._costs[clip] for clip in clips)

    def report(self, running: Running, skip_bad: bool) -> list[ExtractReport]:
        """What a job did until now, for each of its keys."""
        places = {output.key: place for place, output in enumerate(running.job.outputs)}
        return [
            self._report_of(running, output.key, places.get(output.key), skip_bad) for output in running.whole.outputs
        ]

    def _report_of(self, running: Running, key: EmbeddingKey, place: int | None, skip_bad: bool) -> ExtractReport:
        """What a job did of one of its keys; without a place all of it was there before."""
        if place is None:
            return ExtractReport(running.job.name, key, reused=len(self.corpus.clips), skip_bad=skip_bad)
        failed = [(clip, why) for clip, why in running.failed if place in running.failed_of[clip]]
        done, there = running.commit.done_of[place], len(self.corpus.clips) - running.share.left_of(place)
        return ExtractReport(
            running.job.name,
            key,
            done=done,
            reused=max(0, there - done - len(failed)),
            failed=failed,
            skip_bad=skip_bad,
            audio_seconds=running.audio_seconds if done else 0.0,
            seconds=running.seconds,
            error="" if running.error is None else said(running.error),
        )

    def run(self, group: Sequence[Running], tally: Tally) -> None:
        """Compute what the jobs lack, with the processes that work on the same store: until all is there.

        A job that fails has its `error` then, and the others go on. What was finished is stored, however this ends.

        Raises:
            StoreError: the store is damaged, or the disk is full.
        """
        begun = time.monotonic()
        for running in group:
            running.share.arrived = lambda clip: tally.elsewhere(1, self._costs[clip])
        try:
            self._run(group, tally)
        except BaseException:
            self._flush_all(group)
            raise
        finally:
            for running in group:
                running.share.give_up()
            # What is for all of them, such as waiting for a file, is shared out.
            common = time.monotonic() - begun - sum(running.seconds for running in group)
            for running in group:
                running.seconds += max(0.0, common) / len(group)

    def _run(self, group: Sequence[Running], tally: Tally) -> None:
        while active := [running for running in group if running.error is None]:
            wanted = [clip for clip in self.corpus.clips if any(one.share.lacks(clip.id) for one in active)]
            if not wanted:
                return
            worked = self._pass(wanted, active, tally)
            for running in active:
                running.commit.flush()
            if not worked:  # others are at the rest
                time.sleep(_POLL_SECONDS)
                tally.wait()
            for running in active:
                running.share.look()

    def _pass(self, wanted: Sequence[Clip], active: Sequence[Running], tally: Tally) -> bool:
        """Go once through clips that are lacking; `False` when others have all of them just now."""
        jobs = [running.job for running in active]
        at_once = max(batching.limit(job, self._batch_seconds) for job in jobs)
        planned = batching.batches(wanted, self.facts, jobs, self._batch_seconds)
        left = sum(self._costs[clip.id] for clip in wanted)

        def portion() -> float:
            return min(at_once, left / _PORTIONS)

        def claimed() -> Iterator[Batch]:
            nonlocal left
            coming = iter(planned)
            while some := _portion(coming, self._costs, portion()):
                for running in active:
                    if running.error is None:
                        running.share.take(clip.id for batch in some for clip in batch)
                for batch in some:
                    left -= sum(self._costs[clip.id] for clip in batch)
                    if ours := self._taken(batch, active):
                        yield ours

        def read(batch: Batch, clip: Clip) -> Waveforms:
            return decode(clip, self.facts[clip.id], batch.jobs(clip), self.heard)

        worked = False
        ahead = ReadAhead(
            read,
            claimed(),
            lambda batch: batch.clips,
            lambda batch: sum(self._costs[clip.id] for clip in batch.clips),
            lambda: 2 * portion(),
        )
        several = [job for job in jobs if job.encoder.passes_at_once > 1]
        together = max((batching.limit(job, self._batch_seconds) for job in several), default=0.0)
        most = max(job.encoder.passes_at_once for job in jobs)
        with Passes[Running](most, together) as passes, _kept(passes), ahead as batches:
            for batch, decoded in batches:
                worked = True
                for running, places in batch.takers:
                    items = [(batch.clips[place], decoded[place]) for place in places]
                    self._work(running, items, passes, tally)
                if all(running.error is not None for running in active):
                    break
            self._settle(passes, tally)
        return worked

    def _taken(self, batch: Sequence[Clip], active: Sequence[Running]) -> Batch | None:
        """What of a batch was claimed."""
        takers = [
            (running, {clip.id for clip in batch if clip.id in running.share.mine})
            for running in active
            if running.error is None
        ]
        clips = [clip for clip in batch if any(clip.id in ids for _, ids in takers)]
        found = [(running, [n for n, clip in enumerate(clips) if clip.id in ids]) for running, ids in takers]
        return Batch(clips, [(running, places) for running, places in found if places]) if clips else None

    def _work(
        self,
        running: Running,
        items: Sequence[tuple[Clip, Waveforms | Exception]],
        passes: Passes[Running],
        tally: Tally,
    ) -> None:
        """Have a job work on a batch: now, or beside other passes, whose outcomes are taken as they are needed."""
        job = running.job
        for piece in batching.steps(job, [clip for clip, _ in items], self.facts, self._batch_seconds):
            clips = [clip for clip, _ in items[piece]]
            waveforms = [of_job(decoded, job) for _, decoded in items[piece]]
            seconds = sum(batching.padded_seconds(job, clip, self.facts) for clip in clips)
            one = Pass(running, clips, seconds, partial(_embedded, job, waveforms))
            # A GPU is launched for without others at Python's lock.
            self._settle(passes, tally, math.inf if job.on_gpu else seconds)
            if running.error is not None:
                return
            if job.encoder.passes_at_once > 1:
                passes.begin(one)
            else:
                self._finish(one, tally)

    def _settle(self, passes: Passes[Running], tally: Tally, seconds: float = math.inf) -> None:
        """Take the outcomes of passes until one of so much audio may begin; by default of all of them."""
        while not passes.room(seconds):
            begun = time.monotonic()
            one = passes.oldest()
            one.owner.seconds += time.monotonic() - begun
            self._finish(one, tally)

    def _finish(self, one: Pass[Running], tally: Tally) -> None:
        """Take what a pass made; what goes wrong with the encoder, rather than with a clip or the store, ends a job."""
        running = one.owner
        if running.error is not None:
            return
        begun = time.monotonic()
        try:
            self._took(running, one.clips, one.outcomes(), tally)
        except StoreError:
            raise
        except Exception as error:
            _log.debug("encoder %s", running.job.name, exc_info=True)
            self._end(running, error)
        finally:
            running.seconds += time.monotonic() - begun

    def _end(self, running: Running, error: Exception) -> None:
        """A job cannot go on; what it has finished is stored."""
        running.error = error
        running.commit.flush()
        running.share.give_up()

    def _took(
        self, running: Running, clips: Sequence[Clip], outcomes: Sequence[list[np.ndarray] | Exception], tally: Tally
    ) -> None:
        """What a job made of some clips."""
        job, commit = running.job, running.commit
        for clip, outcome in zip(clips, outcomes, strict=True):
            if isinstance(outcome, Exception):
                if not commit.count and not self._reused(running):
                    _check_failures(job.encoder, running.failed, outcome)
                running.failed.append((clip.id, reason(outcome)))
                running.failed_of[clip.id] = running.share.lacking(clip.id)
                running.share.settle([clip.id])
                _log.debug("clip %s", clip.id, exc_info=outcome)
            else:
                commit.add(clip.id, outcome)
                running.audio_seconds += self._costs[clip.id]
        commit.flush_if_due()
        tally.step(len(clips), sum(self._costs[clip.id] for clip in clips))

    def _reused(self, running: Running) -> bool:
        return len(self.corpus.clips) - running.share.left > len(running.failed)

    def _flush_all(self, group: Sequence[Running]) -> None:
        """Store what is finished; an error of the store that is under way already is not told twice."""
        failure: StoreError | None = None
        for running in group:
            try:
                running.commit.flush()
            except StoreError as error:
                failure = error
        if failure is not None:
            raise failure


@contextmanager
def _kept(passes: Passes[Running]) -> Iterator[None]:
    """Give what passes have made to be stored, also where something ends them all."""
    try:
        yield
    except BaseException:
        for one in passes.ended():
            with suppress(Exception):  # what ended them is to be told, not this
                for clip, outcome in zip(one.clips, one.outcomes(), strict=True):
                    if not isinstance(outcome, Exception):
                        one.owner.commit.add(clip.id, outcome)
        raise


def _embedded(job: Job, waveforms: Sequence[np.ndarray | Exception]) -> Outcomes:
    """What a pass of a job makes."""
    with TURNS.launching() if job.on_gpu else nullcontext():
        return embed_each(job.encoder, waveforms, job.wanted)


def said(error: Exception) -> str:
    """Why an encoder could not go on, for people."""
    return str(error) if isinstance(error, SerfuseError) else f"{type(error).__name__}: {error}"


def _portion(coming: Iterator[list[Clip]], costs: Mapping[str, float], seconds: float) -> list[list[Clip]]:
    """The next batches, of about so many seconds of audio; at least one, if there is one."""
    some: list[list[Clip]] = []
    taken, clips = 0.0, 0
    for batch in coming:
        some.append(batch)
        taken += sum(costs[clip.id] for clip in batch)
        clips += len(batch)
        if taken >= seconds or clips >= 1024:
            break
    return some


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
