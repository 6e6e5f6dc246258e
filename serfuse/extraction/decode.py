"""From a clip's file to the waveforms that jobs take: decoded once, resampled once per rate, padded once per length."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..audio import padding
from ..corpora.base import Clip
from ..errors import AudioError
from ..store import AudioFacts, FileStamp
from .hearing import Hearing
from .job import Job

Form = tuple[int, str]
"""What jobs share a waveform by: sample rate in Hz, and name of the pad policy."""

Waveforms = dict[Form, np.ndarray | Exception]
"""A clip in each form, or why it has none."""


def form(job: Job) -> Form:
    """What a job takes."""
    return job.sample_rate, job.pad.name


def decode(clip: Clip, facts: AudioFacts, jobs: Sequence[Job], heard: Hearing) -> Waveforms:
    """The clip in every form that jobs take. Threads may call this at once.

    Args:
        clip: which.
        facts: of the survey.
        jobs: at least one.
        heard: told of what is noticed on the way.

    Returns:
        float32 `(samples,)` for each form, not to be changed: jobs share it.

    Raises:
        AudioError: the file cannot be used, or is not the one that was surveyed.
    """
    if facts.audio is None:
        raise AudioError(facts.problem or "The file could not be read.")
    forms = {form(job): job.pad for job in jobs}
    found = heard.read(clip, list(dict.fromkeys(rate for rate, _ in forms)))
    # The row goes under the hash of the survey, so it must be made from just that content.
    with suppress(OSError):
        if facts.stamp is not None and FileStamp.of(Path(clip.path)) != facts.stamp:
            raise AudioError(f"{clip.path}: changed while it was extracted. Run the same command again.")
    return {one: _padded(found[one[0]], one[0], policy) for one, policy in forms.items()}


def _padded(waveform: np.ndarray | AudioError, sample_rate: int, policy: padding.PadPolicy) -> np.ndarray | Exception:
    if isinstance(waveform, AudioError):
        return waveform
    return padding.pad(waveform, policy.samples(len(waveform), sample_rate))


def of_job(decoded: Mapping[Form, np.ndarray | Exception] | Exception, job: Job) -> np.ndarray | Exception:
    """The waveform that a job takes, or why there is none."""
    return decoded if isinstance(decoded, Exception) else decoded[form(job)]
