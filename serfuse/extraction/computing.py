"""One process' part of an extraction: encoders loaded, grouped, run."""

import gc
import logging
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import encoders
from ..audio.padding import PadPolicy
from ..corpora.base import Corpus
from ..encoders.base import Encoder, LoadRequest
from ..encoders.checks import resolve_layer
from ..encoders.hub_names import canonical
from ..errors import ConfigError, StoreError
from ..progress import Observer
from ..store import AudioFacts, EmbeddingStore
from . import batching, grouping
from .commit import FLUSH_SECONDS
from .hearing import Hearing
from .job import Job
from .pipeline import Pipeline, Running, said
from .report import ExtractReport, Interrupted
from .tally import Tally

ALL_LAYERS = "all"
"""What `LoadRequest.layer` says where `extract` is to store every layer, from 0, the input of the first one."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What is known before the first encoder is loaded, in values that go from process to process.

    Attributes:
        corpus: the clips that are wanted, surveyed and recorded in the store.
        store: where the rows go.
        facts: what each clip's audio is, by clip id.
        poolings: see `serfuse.encoders.pooling`; each makes a vector of the same forward.
        pad: resolved.
        skip_bad: clips that fail are recorded as skipped.
        batch_seconds: audio that goes through an encoder at once; `None` for the defaults of `batching`.
        flush_seconds: between two writes.
        processes: on this machine, which share its memory.
    """

    corpus: Corpus
    store: EmbeddingStore
    facts: Mapping[str, AudioFacts]
    poolings: tuple[str, ...]
    pad: PadPolicy
    skip_bad: bool = False
    batch_seconds: float | None = None
    flush_seconds: float = FLUSH_SECONDS
    processes: int = 1


class Computing:
    """Computes what a prepared extraction lacks, beside other processes that do the same.

    Args:
        prepared: what to do.
        observer: hears of encoders that are loaded.

    Attributes:
        prepared: as given.
        claims: of the processes on this store.
        heard: what decoding noticed.
    """

    def __init__(self, prepared: Prepared, observer: Observer) -> None:
        self.prepared, self._observer = prepared, observer
        self.claims = prepared.store.claims(prepared.corpus.name)
        self.heard = Hearing(prepared.store, prepared.corpus.name, prepared.facts)
        self._pipeline = self._make_pipeline()

    def _make_pipeline(self) -> Pipeline:
        return Pipeline(
            self.prepared.corpus,
            self.prepared.store,
            self.prepared.facts,
            self.heard,
            self.claims,
            batch_seconds=self.prepared.batch_seconds,
            flush_seconds=self.prepared.flush_seconds,
        )

    def one(self, encoder: str | Encoder, request: LoadRequest | None, tally: Tally) -> list[ExtractReport]:
        """Run one encoder, whose errors are raised; a report for each of its keys.

        Raises:
            SerfuseError: what is wrong with the encoder, the settings or the store.
            Interrupted: Ctrl-C; what was finished is stored.
        """
        running = self._pipeline.start(self._job(encoder, request))
        tally.expect(*self._pipeline.lacking(running))
        self._run([running], tally)
        if running.error is not None:
            raise running.error
        return self._pipeline.report(running, self.prepared.skip_bad)

    def compute(self, asked: Mapping[Any, LoadRequest | None], tally: Tally) -> Iterator[ExtractReport]:
        """Run several encoders, those that fit into memory together side by side.

        Args:
            asked: names or loaded encoders, and what to ask of each.
            tally: the call's line of progress.

        Yields:
            a report for each key of each; its `key` is `None` where the encoder could not be loaded.

        Raises:
            StoreError: a full disk or a damaged store.
            Interrupted: Ctrl-C; what was finished is stored.
        """
        groups = grouping.groups(
            asked, longest=self._longest(), batch_seconds=self.prepared.batch_seconds, processes=self.prepared.processes
        )
        clips = len(self.prepared.corpus.clips)
        seconds = sum(batching.cost(self.prepared.facts[clip.id]) for clip in self.prepared.corpus.clips)
        behind = sum(len(group) for group in groups[1:])
        tally.expect(behind * clips, behind * seconds)
        for number, group in enumerate(groups):
            failed: dict[Any, ExtractReport] = {}
            started: dict[Any, Running] = {}
            for name in group:
                try:
                    running = self._pipeline.start(self._job(name, asked[name]))
                except StoreError:
                    raise
                except Exception as error:  # whatever a library raises, the other encoders can still run
                    _log.debug("encoder %s", name, exc_info=True)
                    failed[name] = ExtractReport(name_of(name), skip_bad=self.prepared.skip_bad, error=said(error))
                    continue
                started[name] = running
                lacking = self._pipeline.lacking(running)
                if number == 0:
                    tally.expect(*lacking)
                else:
                    tally.spare(clips - lacking[0], seconds - lacking[1])
            if started:
                self._run(list(started.values()), tally)
            for name in group:
                if name in failed:
                    yield failed[name]
                else:
                    yield from self._pipeline.report(started[name], self.prepared.skip_bad)
            started.clear()
            _free_memory()

    def finished(self, asked: Mapping[str, LoadRequest | None]) -> list[ExtractReport] | None:
        """Reports of encoders of which the store has everything, so that no process need be started for them.

        Args:
            asked: names, and what to ask of each. They are loaded, since their keys say what their weights are, but
                only where the store has all clips of some kind of each.

        Returns:
            a report for each, `None` where something is lacking or an encoder cannot be loaded.

        Raises:
            StoreError: a part of the store is damaged.
        """
        if not all(isinstance(name, str) and self._has_all(canonical(name)) for name in asked):
            return None
        reports: list[ExtractReport] = []
        for name, request in asked.items():
            try:
                running = self._pipeline.start(self._job(name, request))
            except StoreError:
                raise
            except Exception:  # the processes will say the same of it, beside what becomes of the others
                return None
            if running.share.left:
                return None
            reports += self._pipeline.report(running, self.prepared.skip_bad)
            del running
            _free_memory()
        return reports

    def _has_all(self, encoder: str) -> bool:
        """Whether the store has rows of all clips under some key of an encoder."""
        store, corpus = self.prepared.store, self.prepared.corpus
        ids = {clip.id for clip in corpus.clips}
        keys = [key for key in store.keys(corpus.name) if key.encoder == encoder]
        return any(ids <= {clip for clip, _ in store.arrivals(corpus.name, key).new()} for key in keys)

    def _run(self, group: Sequence[Running], tally: Tally) -> None:
        """Run a group.

        Raises:
            StoreError: a full disk or a damaged store.
            Interrupted: Ctrl-C.
        """
        try:
            tally.begin()
            self._pipeline.run(group, tally)
        except KeyboardInterrupt:
            reports = [report for running in group for report in self._pipeline.report(running, self.prepared.skip_bad)]
            begun = [report for report in reports if report.done or report.failed]
            raise Interrupted(*(begun or reports[:1])) from None

    def _job(self, encoder: str | Encoder, request: LoadRequest | None) -> Job:
        request = request or LoadRequest()
        loaded = self._load(encoder, request) if isinstance(encoder, str) else encoder
        layers = layers_of(loaded, request.layer) if isinstance(encoder, str) else [loaded.layer]
        wanted = [(layer, pooling) for layer in layers for pooling in self.prepared.poolings]
        return Job.of_each(loaded, wanted, self.prepared.pad)

    def _load(self, name: str, request: LoadRequest) -> Encoder:
        if encoders.preset(name).needs_weights:
            drawn = request.weights == "random"
            self._observer.say(f"{name}: {'drawing random weights' if drawn else 'loading the weights'} ...")
        return load_encoder(name, request, self.prepared.poolings)

    def _longest(self) -> float:
        """Seconds of the longest clip as it is padded."""
        lengths = [self.prepared.facts[clip.id].seconds for clip in self.prepared.corpus.clips]
        longest = max((seconds for seconds in lengths if not math.isnan(seconds)), default=0.0)
        return self.prepared.pad.samples(round(longest * 1000), 1000) / 1000


def load_encoder(name: str, request: LoadRequest, poolings: Sequence[str]) -> Encoder:
    """An encoder as it is asked for, with the papers' options where their pooling is and no others are given.

    Args:
        name: of the encoder.
        request: whose `layer` may name several ("0,6,9") or "all": the layers behind the last of them are dropped.
        poolings: of its frames.

    Raises:
        SerfuseError: as for `serfuse.encoders.load`.
        ConfigError: poolings that need the encoder in two forms; several layers of an encoder that has none.
    """
    data = encoders.preset(name)
    if "paper" in poolings and data.paper_options:
        if len(poolings) > 1:
            raise ConfigError(
                f"{name} has other settings under the pooling 'paper' than under {', '.join(set(poolings) - {'paper'})}"
                ", so one forward does not give both. Extract them one after the other."
            )
        request = replace(request, options={**data.paper_options, **request.options})
    layers = split_layers(request.layer)
    if len(layers) > 1 or layers == [ALL_LAYERS]:
        if data.vector_size and not data.layers:
            raise ConfigError(f"{name} has no layers to choose from, got --layer {request.layer}. Use --layer last.")
        numbers = [layer for layer in layers if layer not in (ALL_LAYERS, "last")]
        for number in numbers if data.layers else ():
            resolve_layer(data, number)
        whole = len(numbers) < len(layers) or not all(number.isdecimal() for number in numbers)
        request = replace(request, layer="last" if whole else max(numbers, key=int))
    return encoders.load(name, request)


def split_layers(text: str) -> list[str]:
    """`"0,6,9"` as `["0", "6", "9"]`, each layer once and numbers without leading zeros."""
    found = [part.strip() for part in str(text).split(",")]
    return list(dict.fromkeys(str(int(part)) if part.isdecimal() else part for part in found))


def layers_of(encoder: Encoder, text: str) -> list[str]:
    """The layers that `LoadRequest.layer` asks of a loaded encoder, all from one forward.

    Raises:
        ConfigError: a layer that it does not have, or it has none.
    """
    asked = split_layers(text)
    if asked == [ALL_LAYERS] or (ALL_LAYERS in asked and set(asked) == {ALL_LAYERS, "last"}):
        if not encoder.preset.layers:
            raise ConfigError(f"{encoder.name} has no layers to choose from, got --layer all. Use --layer last.")
        return [str(number) for number in range(encoder.preset.layers + 1)] + [one for one in asked if one == "last"]
    if ALL_LAYERS in asked:
        raise ConfigError(f"--layer {text}: 'all' holds every number already; give it alone, or with 'last'.")
    if len(asked) == 1:
        return [encoder.layer]
    for layer in asked:
        resolve_layer(encoder.preset, layer)
    return asked


def name_of(encoder: str | Encoder) -> str:
    """What reports call an encoder that was given by name or loaded: of `hf:./FOLDER` it is `hf.FOLDER`."""
    if not isinstance(encoder, str):
        return encoder.name
    try:
        return canonical(encoder)
    except ConfigError:  # of no encoder, as loading it says
        return encoder


def _free_memory() -> None:
    """Give a large model's memory back before the next one is loaded."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
