"""Which clips go through the encoders together."""

import math
from collections.abc import Iterator, Mapping, Sequence

from ..audio.padding import PadPolicy
from ..corpora.base import Clip
from ..encoders.base import Encoder
from ..store import AudioFacts
from .job import Job

CPU_BATCH_SECONDS = 30.0
"""Audio that goes through an encoder at once on a CPU."""

GPU_BATCH_SECONDS = 240.0
"""The same on a GPU."""

PADDED = 1.2
"""How many times as long as the shortest the longest may be of the clips that are padded to one length on a GPU. On a
CPU none is padded, since there padding takes as long as audio does."""


def cost(facts: AudioFacts) -> float:
    """Seconds of audio, 0 where they are not known: such a clip fails before it is decoded."""
    return 0.0 if math.isnan(facts.seconds) else facts.seconds


def limit(job: Job, batch_seconds: float | None) -> float:
    """Seconds of audio that a job takes at once, where nothing else is asked for (`None`)."""
    return batch_seconds or (GPU_BATCH_SECONDS if job.on_gpu else CPU_BATCH_SECONDS)


def padded(encoder: Encoder, on_gpu: bool | None = None) -> bool:
    """Whether clips of different length go through an encoder together.

    Args:
        encoder: loaded.
        on_gpu: whether it runs on a GPU; by default whether it is on one.
    """
    return encoder.pads and (encoder.device.startswith("cuda") if on_gpu is None else on_gpu)


def alike(lengths: Sequence[int], encoder: Encoder) -> list[list[int]]:
    """Which waveforms go through an encoder in one pass.

    Args:
        lengths: of each, in samples.
        encoder: equal lengths share a pass, and on a GPU lengths that are nearly equal where it takes them.

    Returns:
        their places.
    """
    if not padded(encoder):
        equal: dict[int, list[int]] = {}
        for place, length in enumerate(lengths):
            equal.setdefault(length, []).append(place)
        return list(equal.values())
    groups: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if not groups or lengths[groups[-1][0]] > PADDED * lengths[place]:
            groups.append([])
        groups[-1].append(place)
    return groups


def batches(
    clips: Sequence[Clip],
    facts: Mapping[str, AudioFacts],
    jobs: Sequence[Job],
    batch_seconds: float | None,
    *,
    on_gpu: bool | None = None,
) -> list[list[Clip]]:
    """Clips of equal length, as far as their headers tell, in corpus order.

    Where a job takes clips of different length, they are of nearly equal length, the longest first: a GPU that is too
    small for them says so at the start, and memory that was taken once is enough for all that follow.

    Args:
        clips: those that at least one job wants.
        facts: what each clip's audio is, by clip id.
        jobs: that will get them. A clip has as many lengths as there are rates among those that run batches; where
            none does, each clip is alone.
        batch_seconds: see `limit`.
        on_gpu: whether the jobs run on a GPU; by default those whose encoders are on one.
    """
    together = [job for job in jobs if job.encoder.batches]
    if not together:
        return [[clip] for clip in clips]
    seconds_at_once = max(limit(job, batch_seconds) for job in together)
    rates = sorted({job.sample_rate for job in together})
    pad = together[0].pad
    if any(padded(job.encoder, on_gpu) for job in together):
        return _sorted(clips, facts, pad, seconds_at_once)
    groups: list[list[Clip]] = []
    open_groups: dict[tuple[int, ...], list[Clip]] = {}
    for clip in clips:
        seconds = facts[clip.id].seconds
        if math.isnan(seconds):
            groups.append([clip])
            continue
        samples = tuple(pad.samples(round(seconds * rate), rate) for rate in rates)
        most = max(1, int(seconds_at_once * rates[0] // max(samples[0], 1)))
        if samples not in open_groups or len(open_groups[samples]) >= most:
            open_groups[samples] = []
            groups.append(open_groups[samples])
        open_groups[samples].append(clip)
    return groups


def _sorted(
    clips: Sequence[Clip], facts: Mapping[str, AudioFacts], pad: PadPolicy, seconds_at_once: float
) -> list[list[Clip]]:
    """Clips of nearly equal length, the longest first; at last those that fail, each alone."""
    lengths = {
        clip.id: pad.samples(round(facts[clip.id].seconds * 1000), 1000) / 1000
        for clip in clips
        if cost(facts[clip.id])
    }
    groups: list[list[Clip]] = []
    longest = 0.0
    for clip in sorted((clip for clip in clips if clip.id in lengths), key=lambda clip: -lengths[clip.id]):
        seconds = lengths[clip.id]
        if not groups or longest > PADDED * seconds or (len(groups[-1]) + 1) * longest > seconds_at_once:
            groups.append([])
            longest = seconds
        groups[-1].append(clip)
    return groups + [[clip] for clip in clips if clip.id not in lengths]


def padded_seconds(job: Job, clip: Clip, facts: Mapping[str, AudioFacts]) -> float:
    """Seconds of audio that a job hears of a clip, with what it is filled up by."""
    return job.pad.samples(round(cost(facts[clip.id]) * job.sample_rate), job.sample_rate) / job.sample_rate


def steps(job: Job, clips: Sequence[Clip], facts: Mapping[str, AudioFacts], batch_seconds: float | None) -> Iterator:
    """The part of a batch that one job wants, in pieces that it takes at once.

    Yields:
        slices of `clips`.
    """
    size = 1
    if job.encoder.batches:
        seconds = max((padded_seconds(job, clip, facts) for clip in clips), default=0.0)
        size = len(clips) if seconds <= 0 else max(1, int(limit(job, batch_seconds) // seconds))
    for start in range(0, len(clips), size):
        yield slice(start, start + size)
