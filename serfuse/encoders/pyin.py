"""Probabilistic YIN: fundamental frequency and voicing of speech, many frames at a time.

Mauch and Dixon, pYIN: A fundamental frequency estimator using probabilistic threshold distributions, ICASSP 2014. The
figures are those of `librosa.pyin` 0.11 with the same settings (the same path, frame by frame; probabilities to 1e-12),
without its loops: the thresholds of all frames are compared at once, and the hidden Markov model knows that a
voice moves to near pitches only, so that a state has 34 neighbours to come from and not 294.
"""

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

F0_MIN, F0_MAX = 60.0, 500.0
"""Hz."""

_PER_SEMITONE = 4  # pitches
_THRESHOLDS = 50
_BETA = (2, 18)  # the prior over the thresholds
_BOLTZMANN = 2.0  # the prior over the troughs below one: the first is e^2 times as likely as the second
_NO_TROUGH = 0.01  # what the lowest trough has where the threshold is below all
_SWITCH = 0.01  # from voiced to unvoiced, or back, from one frame to the next
_OCTAVES_PER_SECOND = 35.92
_PITCHES = int(12 * _PER_SEMITONE * np.log2(F0_MAX / F0_MIN)) + 1
_TINY = float(np.finfo(np.float64).tiny)
_AT_ONCE = 64
"""Frames whose spectra are worked on at once: what fits in a processor's cache."""


def pyin(frames: np.ndarray, sample_rate: int, hop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pitch of frames that follow each other every `hop` samples.

    Args:
        frames: `(T, samples)`, float64, not windowed, at least three periods of `F0_MIN` long.

    Returns:
        For each frame the frequency in Hz on a grid of quarters of a semitone (also in unvoiced ones, where it means
        little), whether it is voiced, and the probability of that.
    """
    parts = [_observe(frames[start : start + _AT_ONCE], sample_rate) for start in range(0, len(frames), _AT_ONCE)]
    voiced, unvoiced, probability = (np.concatenate(part) for part in zip(*parts, strict=True))
    states = _decode(voiced, unvoiced, round(_OCTAVES_PER_SECOND * 12 * hop / sample_rate))
    frequencies = F0_MIN * 2 ** (np.arange(_PITCHES) / (12 * _PER_SEMITONE))
    return frequencies[states % _PITCHES], states < _PITCHES, probability


def _observe(frames: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How likely each pitch is by itself `(T, _PITCHES)`, each unvoiced state `(T,)`, and voice at all `(T,)`."""
    shortest, longest = int(sample_rate / F0_MAX), int(np.ceil(sample_rate / F0_MIN))
    difference = _difference(frames, shortest, longest)
    frame, lag = _troughs(difference)
    likely = _trough_probabilities(difference, frame, lag)
    frame, lag, likely = (values[likely > 0] for values in (frame, lag, likely))
    period = shortest + lag + _shift(difference, frame, lag)
    pitch = np.round(12 * _PER_SEMITONE * np.log2(sample_rate / period / F0_MIN))
    # One column more, for what lies above the highest pitch and is dropped; of two in one pitch the longer period wins.
    voiced = np.zeros((len(frames), _PITCHES + 1))
    voiced[frame, np.clip(pitch, 0, _PITCHES).astype(int)] = likely
    voiced = voiced[:, :_PITCHES]
    probability = np.clip(voiced.sum(axis=1), 0, 1)
    return voiced, (1 - probability) / _PITCHES, probability


def _difference(frames: np.ndarray, shortest: int, longest: int) -> np.ndarray:
    """YIN's cumulative mean normalised difference `(T, lags)`, for the lags `shortest` to `longest`."""
    correlation = autocorrelation(frames, longest + 1)
    energy = np.cumsum(frames[:, :longest] ** 2, axis=1)
    energy[:, 0] = 0  # unlike YIN's, but librosa's: the rest decides which of two nearly equal troughs is deeper
    difference = 2 * (correlation[:, :1] - correlation[:, 1:]) - energy
    mean = np.cumsum(difference, axis=1) / np.arange(1, longest + 1)
    return difference[:, shortest - 1 :] / (mean[:, shortest - 1 :] + _TINY)


def autocorrelation(frames: np.ndarray, lags: int) -> np.ndarray:
    """Of frames `(T, samples)`, for the lags from 0: `(T, lags)`."""
    from scipy.fft import dct

    # Zeros enough to keep these lags apart, up to a length that transforms are fast at: 1536 for 1024 and 268 lags.
    size = -(-(frames.shape[1] + lags) // 512) * 512
    power = power_spectrum(frames, size)
    return dct(power, type=1, axis=1)[:, :lags] / size  # `irfft` of what is real, in a third of its time


def power_spectrum(frames: np.ndarray, size: int) -> np.ndarray:
    """Squared magnitudes `(T, size // 2 + 1)` of frames `(T, samples)`, filled up with zeros to `size`."""
    spectrum = np.fft.rfft(frames, n=size, axis=1)
    return spectrum.real**2 + spectrum.imag**2


def _troughs(difference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frame and lag of every local minimum, frame by frame."""
    falls = difference[:, 1:] < difference[:, :-1]
    troughs = np.empty(difference.shape, bool)
    troughs[:, 0] = difference[:, 0] < difference[:, 1]
    troughs[:, 1:] = falls
    troughs[:, 1:-1] &= ~falls[:, 1:]
    return np.nonzero(troughs)


def _trough_probabilities(difference: np.ndarray, frame: np.ndarray, lag: np.ndarray) -> np.ndarray:
    """How likely each trough is to be the period, over the prior of the thresholds."""
    prior, masses = _priors(difference.shape[1])
    heights = difference[frame, lag]
    # Only a trough that some threshold is above has a part in them.
    low = np.flatnonzero(heights < 1)
    below = heights[low, None] < np.linspace(0, 1, _THRESHOLDS + 1)[1:]
    places = np.cumsum(below, axis=0, dtype=np.int32)
    frames = len(difference)
    ends = np.searchsorted(frame[low], np.arange(frames + 1))
    sums = np.concatenate([np.zeros((1, _THRESHOLDS), np.int32), places])[ends]
    counts = np.diff(sums, axis=0)
    places -= sums[frame[low]] + 1  # how many of the frame's troughs below the threshold have a shorter period
    likely = np.zeros(len(frame))
    weights = prior[np.where(below, places, len(prior) - 1)]
    likely[low] = np.einsum("ij,ij->i", weights, (masses / _norm(counts, prior))[frame[low]])
    # The lowest trough of a frame, the first of equals.
    order = np.lexsort((heights, frame))
    lowest = order[np.searchsorted(frame, np.unique(frame))]
    missing = np.concatenate([[0], np.cumsum(masses)])
    under = np.count_nonzero(heights[lowest, None] >= np.linspace(0, 1, _THRESHOLDS + 1)[1:], axis=1)
    likely[lowest] += _NO_TROUGH * missing[under]
    return likely


def _norm(counts: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The sum of the prior over so many troughs; 1 where there are none."""
    return np.where(counts > 0, np.concatenate([[1], np.cumsum(prior)])[np.minimum(counts, len(prior))], 1)


@cache
def _priors(most: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the troughs of a frame, in order, the last 0; and the probability of each threshold."""
    from scipy.stats import beta

    weights = np.exp(-_BOLTZMANN * np.arange(most + 1.0))
    weights[-1] = 0
    return weights, np.diff(beta.cdf(np.linspace(0, 1, _THRESHOLDS + 1), *_BETA))


def _shift(difference: np.ndarray, frame: np.ndarray, lag: np.ndarray) -> np.ndarray:
    """Where between its neighbours a trough is deepest, by a parabola; 0 at the ends."""
    inner = np.clip(lag, 1, difference.shape[1] - 2)
    before, here, after = (difference[frame, inner + step] for step in (-1, 0, 1))
    curvature, slope = after + before - 2 * here, (after - before) / 2
    usable = (np.abs(slope) < np.abs(curvature)) & (inner == lag)
    return np.where(usable, -slope / np.where(usable, curvature, 1), 0.0)


@cache
def _transitions(reach: int) -> np.ndarray:
    """Logarithms `(to, from, steps, pitches)`: voiced or unvoiced, and to each pitch from those near it.

    The further two pitches are apart, the less likely, down to nothing beyond `reach` semitones.
    """
    half = (reach * _PER_SEMITONE + 1) // 2
    steps = np.arange(-half, half + 1)
    triangle = 1 - np.abs(steps) / (half + 1)
    origin = np.arange(_PITCHES)[None] + steps[:, None]
    inside = (origin >= 0) & (origin < _PITCHES)
    # From each pitch the ways out sum to 1, also where the range ends.
    targets = np.arange(_PITCHES)[:, None] + steps
    onwards = np.where((targets >= 0) & (targets < _PITCHES), triangle, 0).sum(axis=1)
    local = np.where(inside, triangle[:, None] / onwards[np.clip(origin, 0, _PITCHES - 1)], 0)
    switch = np.array([[1 - _SWITCH, _SWITCH], [_SWITCH, 1 - _SWITCH]])
    return np.log(switch[:, :, None, None] * local + _TINY)


def _decode(voiced: np.ndarray, unvoiced: np.ndarray, reach: int) -> np.ndarray:
    """The likeliest path through the states, `(T,)`: the voiced pitches, then the unvoiced ones. By Viterbi."""
    logs = _transitions(reach)
    width = logs.shape[2]
    half = width // 2
    seen = np.log(voiced + _TINY), np.log(unvoiced + _TINY)
    values = np.full((len(voiced), 2, _PITCHES + 2 * half), -np.inf)
    inside = values[:, :, half : half + _PITCHES]
    inside[:, 0], inside[:, 1] = seen[0], seen[1][:, None]
    inside[0] -= np.log(2 * _PITCHES)
    ways = np.empty((2, 2, width, _PITCHES))
    flat, best = ways.reshape(2, 2 * width, _PITCHES), np.empty((2, _PITCHES))
    nowhere = np.log(_TINY)  # of a way that does not exist, for when every other is as unlikely
    near = sliding_window_view(values, _PITCHES, axis=2)  # (T, 2, steps, pitches)
    for place in range(1, len(values)):
        before = near[place - 1]
        np.add(before, logs, out=ways)
        np.maximum.reduce(flat, axis=1, out=best)
        np.maximum(best, inside[place - 1].max() + nowhere, out=best)
        inside[place] += best
    states = np.empty(len(values), int)
    states[-1] = inside[-1].argmax()
    for place in range(len(values) - 1, 0, -1):
        to, pitch = divmod(int(states[place]), _PITCHES)
        came = near[place - 1, :, :, pitch] + logs[to, :, :, pitch]
        source, step = divmod(int(came.argmax()), width)
        previous = inside[place - 1]
        if came[source, step] < previous.max() + nowhere:
            states[place - 1] = previous.argmax()
        else:
            states[place - 1] = source * _PITCHES + pitch + step - half
    return states
