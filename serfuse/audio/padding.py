"""The padding of waveforms, and to which length clips are padded."""

import math
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from . import MAX_SECONDS


def pad(waveform: np.ndarray, samples: int) -> np.ndarray:
    """Add zeros on the right of a waveform, or cut it there, to exactly `samples` samples.

    Raises:
        ValueError: the waveform is not of shape `(n,)`, or `samples` is negative.
    """
    waveform = np.asarray(waveform)
    if waveform.ndim != 1:
        raise ValueError(f"pad takes a waveform of shape (samples,), got {waveform.shape}.")
    if samples < 0:
        raise ValueError(f"samples must not be negative, got {samples}.")
    if samples <= len(waveform):
        return waveform[:samples]
    return np.pad(waveform, (0, samples - len(waveform)))


@dataclass(frozen=True)
class PadPolicy:
    """To which length clips are padded before they enter an encoder.

    `none` leaves each clip as it is, `max` pads to the longest clip of the corpus, a number of seconds pads or
    cuts to that length. Seconds are whole milliseconds, so that `name`, which is part of an embedding's key,
    says all there is.

    Attributes:
        kind: "none", "max" or "seconds".
        seconds: the length; `None` for "none", and for "max" until `resolve` has been told the longest clip.
    """

    kind: str
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> "PadPolicy":
        """Read a policy from "none", "max", or a number of seconds such as "5.0". Also takes what `name` gives.

        Raises:
            ConfigError: anything else, or seconds that are not in (0, 600].
        """
        text = str(text).strip().lower()
        if text in ("none", "max"):
            return cls(text)
        kind, number = ("max", text[4:]) if text.startswith("max:") else ("seconds", text)
        try:
            seconds = round(float(number), 3)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= MAX_SECONDS:
            raise ConfigError(
                f"Unknown pad policy {text!r}. Choose none, max, or a number of seconds above 0 and up to "
                f"{MAX_SECONDS:g}, such as 5.0."
            )
        return cls(kind, seconds)

    def resolve(self, longest: float) -> "PadPolicy":
        """Settle this policy for a corpus whose longest clip lasts `longest` seconds (rounded up to a millisecond)."""
        if self.kind != "max":
            return self
        # The small subtraction keeps 5.005 from becoming 5.006 through its binary representation.
        return PadPolicy("max", math.ceil(longest * 1000 - 1e-6) / 1000)

    @property
    def resolved(self) -> bool:
        """Whether the length is known."""
        return self.kind == "none" or self.seconds is not None

    @property
    def name(self) -> str:
        """The policy as it stands in an embedding's key: "none", "max:8.978" or "5.000".

        Raises:
            ValueError: the policy is `max` and has not been resolved.
        """
        if self.kind == "none":
            return "none"
        if self.seconds is None:
            raise ValueError("The pad policy max has no length yet: call resolve(longest) first.")
        return f"{'max:' if self.kind == 'max' else ''}{self.seconds:.3f}"

    def samples(self, n: int, sample_rate: int) -> int:
        """Count the samples of a clip of `n` samples once padded (or cut) for an encoder at `sample_rate` Hz.

        `max` never cuts: a clip that is longer than the resolved length keeps its own.

        Raises:
            ValueError: the policy is `max` and has not been resolved.
        """
        if self.kind == "none":
            return n
        if self.seconds is None:
            raise ValueError("The pad policy max has no length yet: call resolve(longest) first.")
        if self.kind == "max":
            return max(n, math.ceil(self.seconds * sample_rate - 1e-6))
        return max(1, round(self.seconds * sample_rate))

    def __str__(self) -> str:
        return self.name if self.resolved else self.kind
