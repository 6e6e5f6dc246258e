"""From a corpus and an encoder to rows in the store: only what is missing, durably, and bad clips by name.

The pieces stand in files of their own: `survey` looks at the files; `grouping` says which encoders run side by side;
a `job` is one forward of an encoder and the keys it fills; `batching` says which clips go together; `share` claims
clips, so that several processes divide the work; `decode` (with `prefetch`) makes waveforms; `embed` makes vectors;
`commit` stores them; `pipeline` is a group of jobs on that way, `computing` all groups of one process; `workers` are
processes of this machine that do it together, `ray_engine` the machines of a cluster; a `shard` is the part of a corpus
that one of many calls does.
"""

import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, overload

from ..audio.padding import PadPolicy
from ..corpora.base import Corpus
from ..corpora.subset import spread
from ..encoders import canonical
from ..encoders import pooling as poolings
from ..encoders.base import Encoder, LoadRequest
from ..encoders.checks import shown
from ..errors import ConfigError, EncoderError, StoreError
from ..progress import Observer
from ..store import EmbeddingStore, Skipped
from ..store.files import check_shared
from .commit import FLUSH_SECONDS
from .computing import ALL_LAYERS, Computing, Prepared, name_of, split_layers
from .job import make_key
from .report import ExtractReport, Interrupted
from .shard import Shard
from .survey import far_longer, resolve_pad, summarize, survey
from .tally import Tally

__all__ = ["Encoders", "ExtractReport", "Extraction", "Interrupted", "extract", "make_key"]

Encoders = Sequence[str | Encoder] | Mapping[str, LoadRequest]
"""Several encoders: by name, loaded, or by name with what to ask of each."""


class Extraction:
    """A corpus on its way into a store. Making one prepares everything that does not depend on an encoder.

    The files are looked at, "max" finds its length, and the store gets to know the clips; then `each` or `run` compute
    what is missing. Several that fill the same store at once, in whichever processes, share the work.

    Args:
        corpus: what is read.
        store: where the rows go.
        pooling: see `serfuse.encoders.pooling`; several, as a sequence or "time,mean-std", are made of one forward.
        pad: see `PadPolicy`; "max" means the longest clip of the whole corpus, also under a limit.
        limit: only this many clips, spread over emotions and speakers; others that the store knows stay in it.
        shard: only this part of the clips ("2/10"), of which the others are computed by other calls. The store gets to
            know all.
        skip_bad: record the clips that fail as skipped, so that later steps go on without them.
        batch_seconds: audio that goes through an encoder at once, where clips have equal lengths; by default
            `batching.CPU_BATCH_SECONDS` or `GPU_BATCH_SECONDS`, by the encoder's device.
        flush_seconds: rows are stored this often, so that a crash loses no more work.
        jobs: processes of this machine that `each` divides the work among, over its GPUs where there are several.
        observer: hears of each file that is looked at, and of each batch that is computed.

    Attributes:
        corpus: the clips that are extracted.
        store: where to.
        poolings: as given, one by one.
        pad: resolved.
        facts: what each clip's audio is, by clip id.
        summary: counts of the corpus, see `summarize`.

    Raises:
        StoreError: the store cannot be written, or is damaged.
        ConfigError: an unknown pooling, pad policy or shard; seconds that are none.
        CorpusError: "max", and no clip's length is known.
    """

    def __init__(
        self,
        corpus: Corpus,
        store: EmbeddingStore,
        *,
        pooling: str | Sequence[str] = "time",
        pad: PadPolicy | str = "none",
        limit: int | None = None,
        shard: Shard | str | None = None,
        skip_bad: bool = False,
        batch_seconds: float | None = None,
        flush_seconds: float = FLUSH_SECONDS,
        jobs: int = 1,
        observer: Observer | None = None,
    ) -> None:
        chosen_poolings = split_poolings(pooling)
        policy = PadPolicy.parse(pad) if isinstance(pad, str) else pad
        part = Shard.parse(shard) if isinstance(shard, str) else shard
        if jobs < 1:
            raise ConfigError(f"jobs must be at least 1, got {jobs}.")
        if batch_seconds is not None and not 0 < batch_seconds < math.inf:
            raise ConfigError(f"batch_seconds must be seconds of audio above 0, got {batch_seconds}.")
        if not flush_seconds >= 0:
            raise ConfigError(f"flush_seconds must be seconds from 0 on, got {flush_seconds}.")
        if jobs > 1:
            check_shared(store.root)
        store.check_writable(corpus.name)
        chosen = spread(corpus, limit) if limit else corpus
        self._observer = observer or Observer()
        self._jobs = jobs
        with store.claims(corpus.name).holding("survey"):  # what one call has hashed, others find in the store
            self.facts = survey(corpus if policy.kind == "max" else chosen, store, self._observer)
            complete = len(chosen.clips) == len(corpus.clips)
            store.write_corpus(chosen, self.facts, complete=complete, source=dict(chosen.source) or None)
        self.corpus = chosen if part is None else replace(chosen, clips=part.choose(chosen.clips))
        self.store, self.poolings, self._whole = store, chosen_poolings, chosen if part else None
        self._shard = part
        if note := far_longer(policy, self.facts):
            self._observer.say(note)
        self.pad = resolve_pad(policy, self.facts)
        self.summary = summarize(self.corpus, self.facts, of=len(corpus.clips))
        self.prepared = Prepared(
            corpus=self.corpus,
            store=store,
            facts={clip.id: self.facts[clip.id] for clip in self.corpus.clips},
            poolings=chosen_poolings,
            pad=self.pad,
            skip_bad=skip_bad,
            batch_seconds=batch_seconds,
            flush_seconds=flush_seconds,
            processes=jobs,
        )
        self._computing = self._make_computing()

    def _make_computing(self) -> Computing:
        return Computing(self.prepared, self._observer)

    def each(self, encoders: Encoders) -> Iterator[ExtractReport]:
        """Run several encoders: those that fit into memory together side by side, so that a file is decoded once.

        What is wrong with one does not concern the others.

        Args:
            encoders: names, loaded encoders, or names with what to ask of each. `LoadRequest(layer="0,6,9")` asks for
                several layers and `LoadRequest(layer="all")` for every one, all from one forward.

        Yields:
            a report for each, in this order, or one for each layer and pooling of it where there are several; its
            `error` says why there is nothing, where that is so.

        Raises:
            StoreError: a full disk or a damaged store, which the next encoder would meet too.
            ConfigError: several processes, and an encoder that is loaded in this one; two names that are one in the
                store.
            Interrupted: Ctrl-C; what was finished is stored.
        """
        asked = encoders if isinstance(encoders, Mapping) else dict.fromkeys(encoders)
        _check_names([name for name in asked if isinstance(name, str)])
        with self._seen():
            if self._jobs > 1:
                from .workers import Workers

                done = self._computing.finished(asked)
                found = iter(done) if done else Workers(self.prepared, self._jobs, self._observer).each(asked)
            else:
                found = self._in_this_process(asked)
            for report in found:
                yield report if report.key is None else self.finish(report)

    def _in_this_process(self, asked: Mapping[Any, LoadRequest | None]) -> Iterator[ExtractReport]:
        with self._progress([name_of(encoder) for encoder in asked]) as tally:
            yield from self._computing.compute(asked, tally)

    @contextmanager
    def _progress(self, names: Sequence[str]) -> Iterator[Tally]:
        """The line of progress of a call in this process; Ctrl-C ends it with remarks in its reports."""
        tally = Tally(self._observer, names)
        try:
            yield tally
        except Interrupted as interrupted:
            tally.end_interrupted()
            for report in interrupted.reports:
                report.remarks = self._computing.heard.remarks(self.corpus.clips)
            raise
        except StoreError:
            with suppress(StoreError):  # where there is room for this at least: as for what has its row
                self._computing.heard.store()
            raise
        finally:
            tally.end()

    def run(self, encoder: str | Encoder, request: LoadRequest | None = None) -> ExtractReport:
        """Compute and store the embeddings that the store lacks, of one layer and one pooling.

        Rows are stored every few seconds and survive whatever happens next; the same call goes on where this one
        ended. A clip that cannot be used is in the report with its reason, and the others are computed all the same.

        Args:
            encoder: loaded, or the name of one to load.
            request: what to ask of it, where it is loaded here.

        Raises:
            ConfigError: several layers or poolings, which are `each`'s.
            StoreError: the store is damaged, or the disk is full.
            ConfigError: settings that do not go together, or vectors of different lengths.
            WeightsError: the encoder's weights are absent or damaged, or failed while it ran.
            EncoderError: its library fails for the first clips in one and the same way, so not because of them.
            Interrupted: Ctrl-C; what was finished is stored.
        """
        layers = split_layers("last" if request is None else request.layer)
        if len(self.poolings) > 1 or len(layers) > 1 or layers == [ALL_LAYERS]:
            raise ConfigError(
                f"run() makes one kind of embeddings; several layers or poolings of {name_of(encoder)} are made by "
                "each(), which gives a report for each kind."
            )
        if self._jobs > 1:
            (report,) = self.each([encoder] if request is None else {encoder: request})
            if report.error:
                raise EncoderError(report.error)
            return report
        with self._seen():
            with self._progress([name_of(encoder)]) as tally:
                (report,) = self._computing.one(encoder, request, tally)
            return self.finish(report)

    @contextmanager
    def _seen(self) -> Iterator[None]:
        """Let other processes see that this one is at work, also while it has no clip in hand; and on which shard."""
        claims = self._computing.claims
        with claims.holding(f"at work {os.getpid()} {secrets.token_hex(8)}"):  # nobody else's, but for `take_all`
            if self._shard is not None:
                claims.take(self._unit(self._shard.number))
            yield

    def finish(self, report: ExtractReport) -> ExtractReport:
        """Bring the rows of a report's key into one part, and the record of skipped clips up to date.

        Returns:
            the report, with its size and remarks.

        Raises:
            StoreError: the store cannot be written.
        """
        self._computing.heard.store()  # first: a clip that has its row is not decoded again
        if not report.error:
            # Several calls that end together do this one after the other.
            with self._computing.claims.holding(f"{report.key.digest}/finish"):
                if self._shard is not None:  # of two that end together, the second one sees that the first has ended
                    self._computing.claims.release(self._unit(self._shard.number))
                # Also where nothing was computed: a full disk may have ended the call before in the midst of this.
                if (report.done or report.reused) and self._all_there(report):
                    self.store.compact(self.corpus.name, report.key)
                self._record(report)
            if report.done or report.reused:
                report.vector_size = self.store.size(self.corpus.name, report.key)[0]
        report.remarks = self._computing.heard.remarks(self.corpus.clips)
        return report

    def _all_there(self, report: ExtractReport) -> bool:
        """Whether the other shards have ended; then the last one compacts.

        A shard has ended that has all its rows, and one that has some while no process is at it: the rest has failed.
        """
        if self._whole is None:
            return True
        there = {clip for clip, _ in self.store.arrivals(self.corpus.name, report.key).new()}
        settled = there | {item.clip for item in self.store.skipped(self.corpus.name, report.key)}
        begun, lacking = set(), set()
        for clip, number in self._shard.numbers(self._whole.clips):
            if clip in there:
                begun.add(number)
            if clip not in settled and not self.facts[clip].problem:
                lacking.add(number)
        lacking.discard(self._shard.number)
        return lacking <= begun and not any(self._at_work(number) for number in lacking)

    def _at_work(self, number: int) -> bool:
        """Whether a process is at another shard just now."""
        unit, claims = self._unit(number), self._computing.claims
        if not claims.take(unit):
            return True
        claims.release(unit)
        return False

    def _unit(self, number: int) -> str:
        """What is claimed by who works on a shard."""
        return f"shard {number}/{self._shard.of}"

    def _record(self, report: ExtractReport) -> None:
        """Bring the record of skipped clips up to date."""
        reasons = dict(report.failed)
        here = {clip.id for clip in self.corpus.clips}
        before = self.store.skipped(self.corpus.name, report.key)
        keep = [item for item in before if item.clip not in here or (item.clip in reasons and not report.skip_bad)]
        if report.skip_bad:
            keep += [Skipped(clip, self.facts[clip].audio, reason) for clip, reason in reasons.items()]
        self.store.record_skipped(self.corpus.name, report.key, keep)


def _check_names(names: Sequence[str]) -> None:
    """Refuse two folders of one name, whose embeddings the store would tell apart by their weights alone.

    Raises:
        ConfigError: `hf:./a b` beside `hf:./a-b`, or one folder by two of its paths.
    """
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(canonical(name), name)
        if other != name:
            raise ConfigError(
                f"{shown(other)} and {shown(name)} are both called {canonical(name)} in the store. Name one folder "
                "once; rename one of two, or extract them one after the other."
            )


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
    `extract(corpus, {"hubert": LoadRequest(layer="6"), "logmel": LoadRequest()}, store)` a list of them. With
    `LoadRequest(layer="0,6,9")`, `LoadRequest(layer="all")` or `pooling="time,mean-std"` one forward gives all of them,
    and there is a report for each.

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
        return extraction.run(encoders) if len(extraction.poolings) == 1 else list(extraction.each([encoders]))
    return list(extraction.each(encoders))


def split_poolings(pooling: str | Sequence[str]) -> tuple[str, ...]:
    """`"time,mean-std"` as `("time", "mean-std")`, each once.

    Raises:
        ConfigError: an unknown one.
    """
    given = pooling.split(",") if isinstance(pooling, str) else pooling
    return tuple(dict.fromkeys(poolings.check_pooling(one.strip()) for one in given))
