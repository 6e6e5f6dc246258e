"""What is odd about a piece of audio, said by name: a wrong scale, an offset, clipping, a low level, no speech.

Nothing here refuses a clip or changes a sample. The thresholds are set so that recorded and synthetic speech of usual
kinds raises no remark; see docs/corpora.md for what each one means.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

KINDS = {
    "file": "header wrong or several recordings in one file",
    "scale": "samples far beyond full scale",
    "offset": "direct-current offset",
    "clipping": "clipped",
    "level": "almost silent",
    "speech": "no speech heard",
}
"""Every kind of remark, and what it means in a few words."""

_FULL = 4.0  # times full scale: lossy codecs and mixing overshoot by less
_OFFSET, _OFFSET_SHARE = 0.003, 0.2  # of full scale, and of the effective value of the rest
_RUN, _CLIPPED = 3, 1e-3  # equal samples at an extreme in a row, and their share of all
_CLIP_FROM = 0.02  # a peak below holds so few steps that equal samples are usual
_LEVEL = -60.0  # dB of full scale, of the loudest frame
_SWING = 6.0  # dB between soft and loud frames: speech has pauses and syllables
_FRAME = 0.032  # seconds
_VOICED, _SHARE = 0.4, 0.9  # of the autocorrelation, at the period of a voice, which so many frames stay below
_VOICE = (60.0, 500.0)  # Hz
_SHORTEST = 0.25  # seconds: less says nothing about speech
_AT_ONCE = 64  # frames
_LOOKED_AT = 400  # frames whose voicing is looked at, at most


@dataclass(frozen=True)
class Remark:
    """One thing that is odd about a clip.

    Attributes:
        kind: one of `KINDS`.
        text: what was found, in words that follow the clip's name.
    """

    kind: str
    text: str


def inspect(waveform: np.ndarray, sample_rate: int) -> tuple[Remark, ...]:
    """Remark on a finite mono waveform `(samples,)` whose full scale is 1, at `sample_rate` Hz.

    Where the audio comes from a file, `serfuse.audio.read_recording` gives them, from its samples before resampling.
    """
    waveform = np.asarray(waveform, dtype=np.float32)
    meter = Meter()
    if len(waveform):
        meter.add(waveform[:, None], waveform)
    return meter.remarks(waveform, sample_rate)


def counts(remarks: Mapping[str, Sequence[Remark]] | Iterable[Sequence[Remark]]) -> dict[str, int]:
    """Count the clips that have a remark of each kind, in the order of `KINDS`, without those that none has.

    Args:
        remarks: of each clip.
    """
    each = remarks.values() if isinstance(remarks, Mapping) else remarks
    found = Counter(kind for clip in each for kind in {remark.kind for remark in clip})
    return {kind: found[kind] for kind in KINDS if found[kind]}


class Meter:
    """Figures of a clip's samples as they are decoded, block by block."""

    def __init__(self) -> None:
        self._seen = 0
        self._sum = self._squares = 0.0
        self._unsquared: np.ndarray | None = None
        self._peak = 0.0
        self._low, self._high = math.inf, -math.inf
        self._flat = {"low": 0, "high": 0}
        self._channels = 1

    def add(self, block: np.ndarray, mono: np.ndarray) -> None:
        """Take in a block `(frames, channels)` and its mean over channels `(frames,)`."""
        if not len(mono):
            return
        self._seen += len(mono)
        self._channels = block.shape[1]
        self._sum += float(mono.sum(dtype=np.float64))
        self._square()
        self._unsquared = mono
        low, high = float(block.min()), float(block.max())
        self._peak = max(self._peak, -low, high)
        self._count("low", low, self._low, block)
        self._count("high", high, self._high, block)
        self._low, self._high = min(low, self._low), max(high, self._high)

    def _square(self) -> None:
        """Sum up the squares of the last block: of a clip that is one block they are mostly not asked for."""
        if self._unsquared is not None:
            self._squares += float(np.square(self._unsquared, dtype=np.float64).sum())
            self._unsquared = None

    def _count(self, side: str, extreme: float, before: float, block: np.ndarray) -> None:
        """Count samples that stay at the clip's extreme for some time."""
        beyond = extreme < before if side == "low" else extreme > before
        if beyond:
            self._flat[side] = 0
        elif extreme != before:
            return
        at = block == np.float32(extreme)
        if np.count_nonzero(at) >= _RUN:
            inside = at[:-2] & at[1:-1] & at[2:]
            held = at.copy()
            held[:] = False
            for shift in range(_RUN):
                held[shift : len(held) - (_RUN - 1 - shift)] |= inside
            self._flat[side] += int(np.count_nonzero(held))

    def remarks(self, waveform: np.ndarray, sample_rate: int) -> tuple[Remark, ...]:
        """Give all remarks, once every block was added.

        Args:
            waveform: the clip `(samples,)`, at any rate.
            sample_rate: its rate in Hz.
        """
        if not self._seen:
            return ()
        found = []
        mean = self._sum / self._seen
        if self._peak > _FULL:
            found.append(
                Remark(
                    "scale",
                    f"its samples reach {self._peak:.3g}, full scale is 1 (values in the range of integers?): levels "
                    "are wrong",
                )
            )
        if abs(mean) > _OFFSET and abs(mean) > _OFFSET_SHARE * self._rest(mean):
            found.append(Remark("offset", f"its samples lie {mean:+.3g} beside zero (direct current)"))
        flat = sum(self._flat.values()) / (self._seen * self._channels)
        if flat > _CLIPPED and self._peak > _CLIP_FROM:
            found.append(Remark("clipping", f"clipped: {100 * flat:.2g} % of its samples stay at the highest value"))
        scale = max(1.0, -float(waveform.min(initial=0.0)), float(waveform.max(initial=0.0)))
        frames = _Frames(waveform, scale, sample_rate)
        level = 10 * np.log10(np.maximum(frames.power(), 1e-12)) + 20 * math.log10(scale)
        loudest = float(level.max())
        if loudest < _LEVEL:
            found.append(Remark("level", f"almost silent: its loudest moment has {loudest:.0f} dB of full scale"))
        elif missing := _missing_speech(frames, level, sample_rate, len(waveform) / sample_rate):
            found.append(Remark("speech", missing))
        return tuple(found)

    def _rest(self, mean: float) -> float:
        """The effective value of what is no offset."""
        self._square()
        return math.sqrt(max(0.0, self._squares / self._seen - mean * mean))


class _Frames:
    """A waveform over `scale`, in frames of 32 ms without their mean, so that an offset is no sound."""

    def __init__(self, waveform: np.ndarray, scale: float, sample_rate: int) -> None:
        self.size = min(len(waveform), max(1, round(_FRAME * sample_rate)))
        count = len(waveform) // self.size
        self._cut, self._scale = waveform[: count * self.size].reshape(count, self.size), scale

    def __getitem__(self, places: slice | np.ndarray) -> np.ndarray:
        """Some of them, float64 `(frames, samples)`."""
        frames = self._cut[places].astype(np.float64)
        if self._scale != 1.0:
            frames /= self._scale
        frames -= _means(frames)[:, None]
        return frames

    def power(self) -> np.ndarray:
        """Mean square of each, from a few at a time, which stay in the processor's cache."""
        found = np.empty(len(self._cut))
        for start in range(0, len(found), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            frames = self[some]
            found[some] = _means(np.square(frames, out=frames))
        return found


def _means(rows: np.ndarray) -> np.ndarray:
    """Mean of each, as `rows.mean(axis=1)`, which thinks longer than it computes."""
    return np.add.reduce(rows, axis=1) / rows.shape[1]


def _missing_speech(frames: _Frames, level: np.ndarray, sample_rate: int, seconds: float) -> str:
    """Say why this is no speech, or ""."""
    if seconds < _SHORTEST:
        return ""
    order = np.argsort(level)
    # Of the two levels that a percentile lies between, those nearer to each other: mostly they are apart enough.
    last = len(level) - 1
    if level[order[int(0.95 * last)]] - level[order[min(last, int(0.05 * last) + 1)]] < _SWING:
        soft, loud = np.percentile(level, (5, 95))
        if loud - soft < _SWING:
            return f"no speech heard: its level stays within {loud - soft:.1f} dB"
    # A voice is periodic in some of the louder frames.
    loudest = order[::-1][: max(4, min(_LOOKED_AT, len(level) // 2))]
    first, last = int(sample_rate / _VOICE[1]), min(int(sample_rate / _VOICE[0]), frames.size // 2)
    if last <= first:
        return ""
    # So many make the quantile that is asked for below; in speech the loudest few are such.
    enough = len(loudest) - int(_SHARE * (len(loudest) - 1))
    voicing = np.zeros(0)
    while len(voicing) < len(loudest):
        some = loudest[len(voicing) : len(voicing) + enough]
        voicing = np.concatenate([voicing, _voicing(frames[some], first, last)])
        if np.count_nonzero(voicing >= _VOICED) >= enough:
            return ""
    if float(np.quantile(voicing, _SHARE)) < _VOICED:
        return "no speech heard: no moment sounds like a voice"
    return ""


def _voicing(frames: np.ndarray, first: int, last: int) -> np.ndarray:
    """How periodic each of `(frames, samples)` is, at the best of the periods `first` to `last` samples; 1 at most."""
    shape, window = _windowed(frames.shape[1])
    correlation = _correlation(frames * shape)
    return (correlation[:, first:last] / np.maximum(correlation[:, :1], 1e-30) / window[first:last]).max(axis=1)


def _correlation(frames: np.ndarray) -> np.ndarray:
    """Autocorrelation of each of `(..., samples)`, of the same shape."""
    spectrum = np.fft.rfft(frames, 2 * frames.shape[-1])
    return np.fft.irfft(np.abs(spectrum) ** 2)[..., : frames.shape[-1]]


@lru_cache(maxsize=8)  # as many rates as occur together
def _windowed(size: int) -> tuple[np.ndarray, np.ndarray]:
    """A window of `size` samples, and its autocorrelation, 1 at the first."""
    shape = np.hanning(size)
    own = _correlation(shape)
    return shape, own / own[0]
