"""Extraction on a Ray cluster: tasks decode, actors embed, and this process alone reads and writes the store.

The machines of the cluster need serfuse with the same versions, the audio files under the same paths and the encoders'
weights, but not the store. A batch is one block of Ray Data: it is decoded by a task, embedded by an actor of a pool,
and stored here soon after it arrives. An actor that is lost takes its batch along and no more: Ray gives the batch to
another, a few times. When this process is lost, what arrived is stored, and the next call, here or on a cluster,
computes the rest.

Batches travel as bytes and JSON, so that no class of serfuse's needs to be the same on both sides but the numbers' own.
"""

import json
import logging
import math
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import audio, errors, ray_cluster
from ..audio.padding import PadPolicy
from ..corpora.base import Clip, Corpus
from ..encoders.base import Encoder, LoadRequest
from ..errors import AudioError, ConfigError, EncoderError, RunError, SerfuseError, StoreError
from ..progress import Observer
from ..store import AudioFacts, EmbeddingStore, FileStamp
from ..store.heard import Heard
from . import batching
from .computing import Computing, Prepared, load_encoder
from .decode import decode, form, of_job
from .embed import embed_each
from .extract import Extraction
from .hearing import Hearing
from .job import Job
from .pipeline import Batch, Pipeline, Running
from .tally import Tally

_TRIES = 3  # of a batch whose actor is lost, after the first


class RayExtraction(Extraction):
    """An `Extraction` whose clips are decoded and embedded by a Ray cluster.

    Args:
        corpus: what is read; its files lie under the same paths on every machine of the cluster.
        store: where the rows go, read and written by this process only.
        address: of a running cluster ("auto", "10.0.0.1:6379", "ray://..."); `None` starts one here.
        jobs: actors; by default one for each GPU, and where there is none one for each machine.
        actor: what embeds, a subclass of `Embedding`.
        settings: as `Extraction` takes them.

    Raises:
        ConfigError: Ray is not installed, or settings that do not go together.
        RunError: no cluster at that address, none could be started, or it is too small.
        StoreError: as for `Extraction`.
    """

    def __init__(
        self,
        corpus: Corpus,
        store: EmbeddingStore,
        *,
        address: str | None = None,
        jobs: int | None = None,
        actor: "type[Embedding] | None" = None,
        **settings: Any,
    ) -> None:
        if jobs is not None and jobs < 1:
            raise ConfigError(f"jobs must be at least 1, got {jobs}.")
        self._cluster, self._actor = Cluster(address, jobs), actor or Embedding
        try:
            super().__init__(corpus, store, **settings)
        except BaseException:
            self._cluster.close()
            raise

    def __enter__(self) -> "RayExtraction":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the cluster; one that was started here ends."""
        self._cluster.close()

    def _make_computing(self) -> Computing:
        return _RayComputing(self.prepared, self._observer, self._cluster, self._actor)


class _RayComputing(Computing):
    """Loads encoders here as well, since only a loaded one knows its key: on the CPU, as nothing runs here."""

    def __init__(self, prepared: Prepared, observer: Observer, cluster: "Cluster", actor: "type[Embedding]") -> None:
        self._cluster, self._actor = cluster, actor
        self._asked: dict[int, tuple[str, LoadRequest]] = {}
        super().__init__(prepared, observer)

    def _make_pipeline(self) -> Pipeline:
        prepared = self.prepared
        return _RayPipeline(
            prepared.corpus,
            prepared.store,
            prepared.facts,
            self.heard,
            self.claims,
            batch_seconds=prepared.batch_seconds,
            flush_seconds=prepared.flush_seconds,
            cluster=self._cluster,
            asked=self._asked,
            actor=self._actor,
        )

    def _job(self, encoder: str | Encoder, request: LoadRequest | None) -> Job:
        if not isinstance(encoder, str):
            raise ConfigError(f"The machines of a cluster load encoders by name: give {encoder.name!r}, not an object.")
        request = request or LoadRequest()
        self._cluster.check_device(request.device)
        job = super()._job(encoder, replace(request, device="cpu"))
        self._asked[id(job.encoder)] = (encoder, request)
        return job


@dataclass(frozen=True)
class Pool:
    """The actors of a pass.

    Attributes:
        actors: how many embed at once.
        threads: processor cores of each.
        gpus: of each, 0 or 1.
    """

    actors: int
    threads: int
    gpus: int


class Cluster:
    """A Ray cluster and how its processors are shared out.

    Args:
        address: see `RayExtraction`.
        jobs: actors.

    Raises:
        ConfigError: Ray is not installed.
        RunError: no cluster, or one with a single processor core.
    """

    def __init__(self, address: str | None, jobs: int | None) -> None:
        # One more than there are: decoding needs one of its own, and waits for files most of the time.
        here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.ray, self._owned = ray_cluster.connect(address, max(here, jobs or 1) + 1)
        machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        self._jobs = jobs
        self._cores = [int(machine.get("CPU", 0)) for machine in machines]
        self._gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
        if sum(self._cores) < 2:
            self.close()
            raise RunError(
                f"The Ray cluster has {sum(self._cores)} processor cores; it takes one to decode and one to embed."
            )

    def pool(self, devices: Sequence[str]) -> Pool:
        """The actors for encoders that were asked for on such devices: with a GPU each, unless all are to do without.

        Args:
            devices: "auto", "cpu" or "cuda" for each encoder.
        """
        gpus = 0 if set(devices) == {"cpu"} else self._gpus
        actors = self._jobs or gpus or sum(1 for count in self._cores if count)
        threads = max(1, min((sum(self._cores) - 1) // actors, max(self._cores) - (len(self._cores) == 1)))
        return Pool(actors, threads, 1 if gpus else 0)

    def check_device(self, device: str) -> None:
        """Refuse what this cluster does not have, and the number of a GPU, which is another one on each machine.

        Raises:
            ConfigError: as said.
        """
        if device not in ("auto", "cpu", "cuda") and not device.startswith("cuda:"):
            raise ConfigError(f"Unknown device {device!r}. Use auto, cpu or cuda.")
        if device.startswith("cuda:"):
            raise ConfigError(
                f"Device {device!r} was asked for, but a cluster shares its GPUs out by itself. Use --device cuda."
            )
        if device == "cuda" and not self._gpus:
            raise ConfigError("Device 'cuda' was asked for, but the Ray cluster has no GPU. Use --device cpu or auto.")

    def close(self) -> None:
        """Let go of it; one that was started here ends."""
        if self._owned:
            self.ray.shutdown()
            self._owned = False


class _RayPipeline(Pipeline):
    """A pipeline whose passes go through a cluster."""

    def __init__(
        self,
        *arguments: Any,
        cluster: Cluster,
        asked: Mapping[int, tuple[str, LoadRequest]],
        actor: type["Embedding"],
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, **settings)
        self._cluster, self._requests, self._actor = cluster, asked, actor

    def _pass(self, wanted: Sequence[Clip], active: Sequence[Running], tally: Tally) -> bool:
        jobs = [running.job for running in active]
        for running in active:
            running.share.take(clip.id for clip in wanted)
        # Where the actors run decides which clips go together, not where this process does.
        pool = self._cluster.pool([self._requests[id(job.encoder)][1].device for job in jobs])
        seconds = self._batch_seconds or (batching.GPU_BATCH_SECONDS if pool.gpus else batching.CPU_BATCH_SECONDS)
        planned = batching.batches(wanted, self.facts, jobs, seconds, on_gpu=bool(pool.gpus))
        batches = [batch for batch in (self._taken(some, active) for some in planned) if batch is not None]
        if not batches:
            return False
        arrived: set[int] = set()
        for row in self._rows(batches, active, pool, seconds):
            arrived.add(int(row["number"]))
            self._received(batches[int(row["number"])], active, row, tally)
            if all(running.error is not None for running in active):
                return True
        for number in set(range(len(batches))) - arrived:
            self._lost(batches[number], tally)
        return True

    def _rows(self, batches: Sequence[Batch], active: Sequence[Running], pool: Pool, seconds: float) -> Any:
        """What became of each batch of so many seconds, in the order in which they are done."""
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # a batch that no actor survives is told of, and ends nothing
        for name in ("ray.data", "ray.data.dataset"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        jobs = [running.job for running in active]
        forms = [(job.sample_rate, job.pad) for job in jobs]
        items = [
            {"number": number, "batch": _batch_as_json(batch, active, self.facts)}
            for number, batch in enumerate(batches)
        ]
        asked = [(*self._requests[id(job.encoder)], job.wanted, _keys(job)) for job in jobs]
        return _embedded(
            ray.data.from_items(items, override_num_blocks=len(items)).map(
                decode_batch, fn_kwargs={"forms": forms}, num_cpus=1
            ),
            self._actor,
            fn_constructor_args=(asked, jobs[0].pad, seconds),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=pool.actors),
            num_cpus=pool.threads,
            num_gpus=pool.gpus,
        ).iter_rows()

    def _received(self, batch: Batch, active: Sequence[Running], row: Mapping[str, Any], tally: Tally) -> None:
        self.heard.add(_heard_from_json(row["heard"]))
        values = np.frombuffer(row["vectors"], np.float32)
        for number, found in json.loads(row["outcomes"]).items():
            running = active[int(number)]
            if running.error is not None:
                continue
            places = next(places for one, places in batch.takers if one is running)
            clips = [batch.clips[place] for place in places]
            if found["error"]:
                self._end(running, _exception(*found["error"], whole=True))
                continue
            outcomes = [
                _exception(*item) if item and isinstance(item[0], str) else [values[begin:end] for begin, end in item]
                for item in found["clips"]
            ]
            running.seconds += found["seconds"]
            try:
                self._took(running, clips, outcomes, tally)
            except StoreError:
                raise
            except Exception as error:
                self._end(running, error)

    def _lost(self, batch: Batch, tally: Tally) -> None:
        why = RuntimeError(
            f"the process that worked on it was lost {_TRIES + 1} times, or its machine ran out of memory"
        )
        for running, places in batch.takers:
            if running.error is None:
                clips = [batch.clips[place] for place in places]
                self._took(running, clips, [why] * len(clips), tally)


def _embedded(decoded: Any, actor: "type[Embedding]", **settings: Any) -> Any:
    """`decoded.map_batches`, where a batch that ends its actor again and again does not do so for ever."""
    tries = {"max_restarts": -1, "max_task_retries": _TRIES}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray 2.60 deprecates the one way to say so, and has no other yet
        try:
            return decoded.map_batches(actor, ray_remote_args_fn=lambda: tries, **settings)
        except TypeError:  # gone: Ray's own number of tries
            return decoded.map_batches(actor, **settings)


# --- in the cluster -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wanted:
    """What decoding knows of a job."""

    sample_rate: int
    pad: PadPolicy


def decode_batch(row: dict[str, Any], forms: Sequence[tuple[int, PadPolicy]]) -> dict[str, Any]:
    """Decode the clips of a batch, each once, in the forms that its jobs take.

    Args:
        row: `number` and `batch`.
        forms: sample rate and padding of each job.

    Returns:
        `number` and `batch` as they are, `waveforms` (float32, one behind the other), `layout`: for each clip by job
        `[begin, end]` in them or `[kind, text]` of an error; `heard`.
    """
    content = json.loads(row["batch"])
    clips, facts = _clips_and_facts(content)
    takers = {int(number): set(places) for number, places in content["takers"].items()}
    heard = Hearing(None, "", facts)
    pieces: list[np.ndarray] = []
    layout, size = [], 0
    for place, clip in enumerate(clips):
        facts[clip.id] = _as_here(clip, facts[clip.id])
        wanted = {number: _Wanted(*forms[number]) for number, places in takers.items() if place in places}
        try:
            found: Any = decode(clip, facts[clip.id], list(wanted.values()), heard)
        except Exception as error:  # as with threads: what a file does to a library is the clip's own
            found = error
        spans: dict[tuple[int, str], list[Any]] = {}
        for job in wanted.values():
            if form(job) in spans:
                continue
            one = of_job(found, job)
            if isinstance(one, Exception):
                spans[form(job)] = _told(one)
            else:
                spans[form(job)] = [size, size + len(one)]
                pieces.append(np.ascontiguousarray(one, np.float32))
                size += len(one)
        layout.append({number: spans[form(job)] for number, job in wanted.items()})
    return {
        "number": row["number"],
        "batch": row["batch"],
        "waveforms": b"".join(piece.tobytes() for piece in pieces),
        "layout": json.dumps(layout),
        "heard": _heard_as_json(heard),
    }


class Embedding:
    """An actor: the encoders of a group, loaded when the first batch comes.

    Args:
        asked: name, request, layers with their poolings, and expected keys of each job.
        pad: of all jobs, resolved.
        batch_seconds: see `batching.limit`.
    """

    def __init__(
        self,
        asked: Sequence[tuple[str, LoadRequest, list[tuple[str, str]], list[dict[str, Any]]]],
        pad: PadPolicy,
        batch_seconds: float | None,
    ) -> None:
        self._asked, self._pad, self._batch_seconds = asked, pad, batch_seconds
        self._jobs: dict[int, Job | Exception] = {}

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Embed one batch.

        Args:
            batch: a row of `decode_batch`, in arrays of length 1.

        Returns:
            `number`, `heard`, `vectors` (float32, one behind the other) and `outcomes`: for each job `error` (`[kind,
            text]` or `None`), `seconds` and, of its `clips`, `[[begin, end], ...]` for each output or `[kind, text]`.
        """
        content, layout = json.loads(batch["batch"][0]), json.loads(batch["layout"][0])
        waveforms = np.frombuffer(batch["waveforms"][0], np.float32)
        clips, facts = _clips_and_facts(content)
        outcomes: dict[str, Any] = {}
        vectors: list[np.ndarray] = []
        for number, places in content["takers"].items():
            inputs = [_waveform(layout[place][number], waveforms) for place in places]
            outcomes[number] = self._embedded(int(number), [clips[place] for place in places], facts, inputs, vectors)
        return {
            "number": batch["number"],
            "heard": batch["heard"],
            "vectors": np.array([b"".join(vector.tobytes() for vector in vectors)], dtype=object),
            "outcomes": np.array([json.dumps(outcomes)], dtype=object),
        }

    def _embedded(
        self,
        number: int,
        clips: Sequence[Clip],
        facts: Mapping[str, AudioFacts],
        inputs: Sequence[np.ndarray | Exception],
        vectors: list[np.ndarray],
    ) -> dict[str, Any]:
        begun = time.monotonic()
        told: list[Any] = []
        size = sum(map(len, vectors))
        try:
            job = self._job(number)
            for piece in batching.steps(job, clips, facts, self._batch_seconds):
                for outcome in embed_each(job.encoder, inputs[piece], job.wanted):
                    if isinstance(outcome, Exception):
                        told.append(_told(outcome))
                        continue
                    spans = []
                    for vector in outcome:
                        vectors.append(np.ascontiguousarray(vector, np.float32))
                        spans.append([size, size + len(vector)])
                        size += len(vector)
                    told.append(spans)
        except Exception as error:  # about the encoder, not a clip: the others go on
            return {"error": _told(error), "clips": [], "seconds": time.monotonic() - begun}
        return {"error": None, "clips": told, "seconds": time.monotonic() - begun}

    def _job(self, number: int) -> Job:
        if number not in self._jobs:
            try:
                name, request, wanted, keys = self._asked[number]
                encoder = load_encoder(name, request, [pooling for _, pooling in wanted])
                job = Job.of_each(encoder, wanted, self._pad)
                if _keys(job) != keys:
                    pairs = zip(_keys(job), keys, strict=True)
                    mine, theirs = next((mine, theirs) for mine, theirs in pairs if mine != theirs)
                    field = next((one for one in theirs if mine.get(one) != theirs[one]), "key")
                    raise EncoderError(
                        f"A machine of the cluster would make other embeddings of {name}: {field} is "
                        f"{mine.get(field)!r} there and {theirs.get(field)!r} here. Use the same versions and weights."
                    )
                self._jobs[number] = job
            except Exception as error:
                self._jobs[number] = error
        found = self._jobs[number]
        if isinstance(found, Exception):
            raise found
        return found


# --- between them -------------------------------------------------------------------------------------------------


def _keys(job: Job) -> list[dict[str, Any]]:
    return [output.key.to_dict() for output in job.outputs]


def _batch_as_json(batch: Batch, active: Sequence[Running], facts: Mapping[str, AudioFacts]) -> str:
    clips = []
    for clip in batch.clips:
        known = facts[clip.id]
        stamp = known.stamp
        clips.append(
            {
                "id": clip.id,
                "path": str(clip.path),
                "start": clip.start,
                "end": clip.end,
                "audio": known.audio,
                "seconds": None if math.isnan(known.seconds) else known.seconds,
                "stamp": None if stamp is None else [stamp.size, stamp.mtime_ns, stamp.ctime_ns],
                "problem": known.problem,
            }
        )
    takers = {active.index(running): places for running, places in batch.takers}
    return json.dumps({"clips": clips, "takers": takers})


def _clips_and_facts(content: Mapping[str, Any]) -> tuple[list[Clip], dict[str, AudioFacts]]:
    clips, facts = [], {}
    for item in content["clips"]:
        clips.append(Clip(item["id"], Path(item["path"]), "", start=item["start"], end=item["end"]))
        stamp = FileStamp(*item["stamp"]) if item["stamp"] else None
        seconds = math.nan if item["seconds"] is None else item["seconds"]
        facts[item["id"]] = AudioFacts(item["audio"], seconds, stamp, problem=item["problem"])
    return clips, facts


def _as_here(clip: Clip, facts: AudioFacts) -> AudioFacts:
    """The facts with the stamp that the file has on this machine, where its content is the one that was surveyed."""
    with suppress(OSError, AudioError):
        stamp = FileStamp.of(clip.path)
        if facts.audio and stamp != facts.stamp and audio.content_hash(clip.path) == facts.audio.partition("@")[0]:
            return replace(facts, stamp=stamp)
    return facts


def _waveform(told: Sequence[Any], waveforms: np.ndarray) -> np.ndarray | Exception:
    return _exception(*told) if isinstance(told[0], str) else waveforms[told[0] : told[1]]


def _heard_as_json(heard: Hearing) -> str:
    return json.dumps({name: [item.sound, item.remarks] for name, item in heard.new.items()})


def _heard_from_json(text: str) -> dict[str, Any]:
    found = json.loads(text)
    return {name: Heard(sound, tuple(map(tuple, remarks))) for name, (sound, remarks) in found.items()}


def _told(error: Exception) -> list[str]:
    """An error as the name of its kind and its text."""
    return [type(error).__name__, str(error)]


def _exception(kind: str, text: str, *, whole: bool = False) -> Exception:
    """The error again: one of serfuse's as it was, any other with its name.

    Args:
        kind: name of its class.
        text: what it says.
        whole: it is about an encoder, and is shown as it is.
    """
    made = getattr(errors, kind, None)
    if isinstance(made, type) and issubclass(made, SerfuseError):
        return made(text)
    if kind in ("ArithmeticError", "FloatingPointError", "OverflowError", "ZeroDivisionError"):
        return ArithmeticError(text)
    return EncoderError(f"{kind}: {text}") if whole else type(kind, (Exception,), {})(text)
