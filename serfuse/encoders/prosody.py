"""Contours of pitch, energy, voice quality and tempo, frame by frame, from librosa and numpy.

Pooled with `mean-std` they are the classical statistics of prosody. No weights, no learning.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..errors import ConfigError
from .base import Encoder, EncoderEntry, EncoderPreset, LoadRequest
from .checkpoints.locate import resolve
from .checks import check_waveform, resolve_dtype, resolve_layer, resolve_options
from .numba_cache import import_librosa
from .pyin import F0_MAX, F0_MIN, autocorrelation, power_spectrum, pyin

FRAME = 1024
"""Samples of one frame (64 ms at 16 kHz): four periods of the lowest voice."""

BLOCK = 3000
"""Most frames that are worked on at once: half a minute, a few hundred megabytes."""

_PIECE = 64  # frames whose spectra are worked on at once: what fits in a processor's cache

OFFSET_SHARE = 0.05
"""Share of a clip's effective value from which on a direct-current offset is taken out of it."""

CONTOURS = (
    "f0",  # semitones above 27.5 Hz, interpolated over unvoiced frames
    "f0_slope",  # semitones per frame, smoothed
    "f0_change",  # absolute semitones from the frame before, 0 where either is unvoiced
    "voiced",  # 1 or 0
    "voicing_probability",  # of pYIN
    "voiced_run",  # seconds that the stretch of voice around this frame lasts, 0 when unvoiced
    "level",  # RMS in dB of full scale
    "level_slope",  # dB per frame, smoothed
    "level_change",  # absolute dB from the frame before
    "quiet",  # 1 where the level is 25 dB or more below the clip's loudest frame
    "hnr",  # harmonics-to-noise ratio in dB, from the normalised autocorrelation
    "jitter",  # relative change of the period from the frame before, 0 where either is unvoiced
    "shimmer",  # absolute dB by which the peak amplitude changed, 0 where either is unvoiced
    "h1_h2",  # level of the first harmonic over the second in dB (-40 to 40), 0 where unvoiced
    "alpha_ratio",  # 50-1000 Hz over 1-5 kHz, dB
    "hammarberg",  # highest peak in 0-2 kHz over highest in 2-5 kHz, dB
    "slope_low",  # spectral slope in 0-500 Hz, dB per 100 Hz
    "slope_mid",  # spectral slope in 500-1500 Hz, dB per 100 Hz
    "centroid",  # octaves above 62.5 Hz
    "centroid_slope",  # octaves per frame, smoothed
    "bandwidth",  # octaves above 62.5 Hz
    "rolloff",  # 85 % of the energy lies below; octaves above 62.5 Hz
    "flatness",  # dB
    "zero_crossings",  # share of samples
    "onset",  # onset strength
    "rate",  # onsets per second, over one second around the frame
)
"""Column by column, what `frames` gives."""

_FLOOR = 1e-10  # power; 100 dB below full scale
_LOWEST = 27.5
_OCTAVES_FROM = 62.5
_CONTEXT = 100  # frames heard before and behind a block of long audio


class Prosody(Encoder):
    """Prosodic contours, one row of `CONTOURS` every 10 ms."""

    def __init__(self, preset: EncoderPreset, options: dict[str, Any]) -> None:
        self.preset = preset
        self.weights_id = "none"
        self._remove_offset = options["offset"] == "removed"
        before = self.preset.options_before
        self.options = {name: value for name, value in options.items() if before.get(name) != value}

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        waveform = check_waveform(self.preset, waveform)
        return contours(waveform, self.sample_rate, self.preset.hop, remove_offset=self._remove_offset)


def load(preset: EncoderPreset, request: LoadRequest) -> Prosody:
    """Build the encoder.

    Raises:
        WeightsError: weights were asked for; it has none.
        ConfigError: a layer, dtype or option that it does not have.
    """
    resolve(preset, request)  # raises where weights were asked for
    resolve_layer(preset, request.layer)
    resolve_dtype(preset, request)
    options = resolve_options(preset, request)
    if options["offset"] not in ("removed", "kept"):
        raise ConfigError(f"The option offset of prosody is removed or kept, got {options['offset']!r}.")
    return Prosody(preset, options)


def contours(waveform: np.ndarray, sample_rate: int, hop: int, *, remove_offset: bool = True) -> np.ndarray:
    """The matrix `(1 + samples // hop, len(CONTOURS))`, float32, finite for any finite waveform.

    Long audio is worked through in blocks, so that memory does not grow with what a frame needs on the way. Up to
    `BLOCK` frames there is one block.
    """
    librosa = import_librosa()

    signal = waveform.astype(np.float64)
    if remove_offset:
        signal = without_offset(signal)
    padded = np.pad(signal, FRAME // 2)
    count = 1 + len(signal) // hop
    blocks = [_block(padded, start, min(start + BLOCK, count), sample_rate, hop) for start in range(0, count, BLOCK)]
    local = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    columns = {name: local[name] for name in CONTOURS if name in local}
    columns |= _pitch_and_voice(local, sample_rate, hop)
    columns |= _level(local["level"])
    columns |= _tempo(local["mel"].T, sample_rate, hop)
    for name in ("f0", "level", "centroid"):
        columns[f"{name}_slope"] = librosa.feature.delta(columns[name], width=5, mode="nearest")
    return np.stack([columns[name] for name in CONTOURS], axis=1).astype(np.float32)


def without_offset(signal: np.ndarray) -> np.ndarray:
    """The signal `(samples,)` around zero, if it lies beside it by so much that pitch would suffer; else as it is.

    Two percent of full scale beside soft speech hide all of its pitch; up to 6 % of the speech's own effective value
    nothing changes (measured: 0.0002 semitones), and below 5 % not a digit is touched. Zeros at the end are padding.
    """
    end = len(signal) - int(np.argmax(signal[::-1] != 0)) if signal.any() else 0
    offset, spread = (signal[:end].mean(), signal[:end].std()) if end else (0.0, 0.0)
    if abs(offset) <= OFFSET_SHARE * spread:
        return signal
    centred = signal.copy()
    centred[:end] -= offset
    return centred


def _block(padded: np.ndarray, start: int, stop: int, sample_rate: int, hop: int) -> dict[str, np.ndarray]:
    """What frames `start` to `stop` say by themselves, by name: columns of `CONTOURS`, and what others are made of."""
    # pYIN decides over time, so a block is heard with some of what is around it.
    first, last = max(0, start - _CONTEXT), min(stop + _CONTEXT, 1 + (len(padded) - FRAME) // hop)
    framed = sliding_window_view(padded, FRAME)[first * hop : (last - 1) * hop + 1 : hop]
    inside = slice(start - first, stop - first)
    framed, f0, voiced, probability = (rows[inside] for rows in (framed, *pyin(framed, sample_rate, hop)))
    pieces = [
        _piece(framed[piece], f0[piece], voiced[piece], sample_rate)
        for piece in (slice(begin, begin + _PIECE) for begin in range(0, stop - start, _PIECE))
    ]
    columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    return {"is_voiced": voiced, "voicing_probability": probability, **columns}


def _piece(framed: np.ndarray, f0: np.ndarray, voiced: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
    """What frames `(T, FRAME)` say, each by itself."""
    window, of_window = _window(int(np.ceil(sample_rate / F0_MIN)) + 2)
    windowed = framed * window
    correlation = _normalised(autocorrelation(windowed, len(of_window))) / of_window
    # Scaled so that a full-scale sine has a peak of 0.25 in power, whatever the window.
    power = power_spectrum(windowed, FRAME) / window.sum() ** 2
    return {
        **_pitch(f0, voiced, correlation, power, sample_rate),
        "peak": np.abs(framed).max(axis=1),
        "level": _decibel((framed**2).mean(axis=1)),
        **_spectrum(power, sample_rate),
        "zero_crossings": _zero_crossings(framed),
        "mel": _decibel(power @ _mel_bands(sample_rate)),
    }


@cache
def _window(lags: int) -> tuple[np.ndarray, np.ndarray]:
    """Hann's window of a frame `(FRAME,)`, and its autocorrelation `(lags,)`."""
    window = np.hanning(FRAME + 1)[:-1]
    return window, _normalised(autocorrelation(window[None], lags))[0]


@cache
def _mel_bands(sample_rate: int) -> np.ndarray:
    """Weights `(bins, 40)`."""
    return import_librosa().filters.mel(sr=sample_rate, n_fft=FRAME, n_mels=40).T.astype(np.float64)


def _zero_crossings(framed: np.ndarray) -> np.ndarray:
    """The share of samples whose sign is another than that of the one before, the first apart; silence is positive."""
    negative = framed < -1e-10
    return np.count_nonzero(negative[:, 1:] != negative[:, :-1], axis=1) / framed.shape[1]


def _decibel(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.maximum(power, _FLOOR))


def _change(values: np.ndarray) -> np.ndarray:
    """Absolute difference from the frame before; 0 for the first."""
    return np.abs(np.diff(values, prepend=values[:1]))


def _pitch(
    f0: np.ndarray, voiced: np.ndarray, correlation: np.ndarray, power: np.ndarray, sample_rate: int
) -> dict[str, np.ndarray]:
    """The fundamental frequency, of pYIN on a coarse grid, made fine on the autocorrelation; and what hangs on it.

    The harmonicity is Boersma's (1993): autocorrelation of the windowed frame over that of the window.
    """
    shortest, longest = int(sample_rate / F0_MAX), int(np.ceil(sample_rate / F0_MIN))
    lag = np.clip(np.round(sample_rate / np.where(voiced, f0, F0_MAX)).astype(int), shortest, longest)
    # The best lag within 3 % of pYIN's in voiced frames, within the whole range in the others.
    lags = np.arange(shortest, longest + 1)
    near = np.abs(lags[None] - lag[:, None]) <= np.maximum(2, 0.03 * lag[:, None])
    searched = np.where(near | ~voiced[:, None], correlation[:, shortest : longest + 1], -np.inf)
    best = shortest + searched.argmax(axis=1)
    rows = np.arange(len(best))
    before, peak, after = (correlation[rows, best + step] for step in (-1, 0, 1))
    curvature = before - 2 * peak + after
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(curvature < 0, 0.5 * (before - after) / curvature, 0.0)
    period = best + np.clip(np.nan_to_num(shift), -0.5, 0.5)
    harmonicity = np.clip(peak, 1e-3, 1 - 1e-4)

    spacing = sample_rate / FRAME
    harmonics = []
    for number in (1, 2):
        position = np.clip(np.round(number * sample_rate / period / spacing).astype(int), 1, power.shape[1] - 2)
        harmonics.append(_decibel(np.max([power[rows, position + step] for step in (-1, 0, 1)], axis=0)))
    return {
        "period": period,
        "hnr": 10 * np.log10(harmonicity / (1 - harmonicity)),
        "h1_h2": np.where(voiced, np.clip(harmonics[0] - harmonics[1], -40, 40), 0.0),
    }


def _pitch_and_voice(local: dict[str, np.ndarray], sample_rate: int, hop: int) -> dict[str, np.ndarray]:
    """What pitch and voice do over time."""
    voiced, period = local["is_voiced"], local["period"]
    both = voiced & np.concatenate([[False], voiced[:-1]])
    rows = np.arange(len(period))
    semitones = 12 * np.log2(sample_rate / period / _LOWEST)
    if voiced.any():
        semitones = np.interp(rows, rows[voiced], semitones[voiced])
    else:  # nothing to interpolate from: the middle of the range
        semitones = np.full(len(rows), 12 * np.log2(np.sqrt(F0_MIN * F0_MAX) / _LOWEST))
    return {
        "f0": semitones,
        "f0_change": np.where(both, _change(semitones), 0.0),
        "voiced": voiced.astype(float),
        "voiced_run": _run_lengths(voiced) * hop / sample_rate,
        "jitter": np.where(both, _change(period) / period, 0.0),
        "shimmer": np.where(both, _change(_decibel(local["peak"] ** 2)), 0.0),
    }


def _normalised(correlation: np.ndarray) -> np.ndarray:
    """Autocorrelations `(T, lags)` as 1 at lag 0, and 0 everywhere for a frame of zeros."""
    return correlation / np.maximum(correlation[:, :1], np.finfo(float).tiny)


def _run_lengths(flags: np.ndarray) -> np.ndarray:
    """For each True the length of its run of True, for each False 0."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    lengths = np.zeros(len(flags))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        lengths[start:end] = end - start
    return lengths


def _level(level: np.ndarray) -> dict[str, np.ndarray]:
    return {"level_change": _change(level), "quiet": (level <= level.max() - 25).astype(float)}


def _spectrum(power: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
    """Shape of the spectrum. Centroid, bandwidth, roll-off and flatness are as librosa defines them."""
    frequencies = np.fft.rfftfreq(FRAME, 1 / sample_rate)
    decibel = _decibel(power)
    magnitude = np.sqrt(power) + 1e-12  # silence has a centroid too

    def band(low: float, high: float) -> slice:
        return slice(*np.searchsorted(frequencies, (low, high)))

    def slope(low: float, high: float) -> np.ndarray:
        x = frequencies[band(low, high)] / 100
        x = x - x.mean()
        return decibel[:, band(low, high)] @ x / (x @ x)

    def octaves(hertz: np.ndarray) -> np.ndarray:
        return np.log2(np.maximum(hertz, _OCTAVES_FROM) / _OCTAVES_FROM)

    total = magnitude.sum(axis=1)
    centroid = magnitude @ frequencies / total
    spread = np.einsum("tf,tf->t", magnitude, (frequencies - centroid[:, None]) ** 2) / total
    summed = np.cumsum(magnitude, axis=1)
    audible = np.maximum(magnitude**2, _FLOOR)
    return {
        "alpha_ratio": _decibel(power[:, band(50, 1000)].sum(axis=1))
        - _decibel(power[:, band(1000, 5000)].sum(axis=1)),
        "hammarberg": decibel[:, band(0, 2000)].max(axis=1) - decibel[:, band(2000, 5000)].max(axis=1),
        "slope_low": slope(0, 500),
        "slope_mid": slope(500, 1500),
        "centroid": octaves(centroid),
        "bandwidth": octaves(np.sqrt(spread)),
        "rolloff": octaves(frequencies[(summed >= 0.85 * summed[:, -1:]).argmax(axis=1)]),
        "flatness": 10 * np.log10(np.exp(np.log(audible).mean(axis=1)) / audible.mean(axis=1)),
    }


def _tempo(mel: np.ndarray, sample_rate: int, hop: int) -> dict[str, np.ndarray]:
    """Onset strength, and how many onsets there are a second: close to the rate of syllables. `mel` is in dB."""
    librosa = import_librosa()

    onset = librosa.onset.onset_strength(S=mel, sr=sample_rate, lag=2)
    per_second = sample_rate / hop
    peaks = np.zeros(len(onset))
    reach = round(0.05 * per_second)
    if onset.max() > 0:
        found = librosa.util.peak_pick(
            onset / onset.max(),
            pre_max=reach,
            post_max=reach,
            pre_avg=2 * reach,
            post_avg=2 * reach,
            delta=0.05,
            wait=reach,
        )
        peaks[found] = 1
    around = np.ones(round(per_second) | 1)
    # At the ends of the clip the second around a frame is cut, hence the division.
    seen = np.convolve(np.ones(len(onset)), around)[len(around) // 2 :][: len(onset)]
    count = np.convolve(peaks, around)[len(around) // 2 :][: len(onset)]
    return {"onset": onset, "rate": count / seen * per_second}


PROSODY = EncoderEntry(
    EncoderPreset(
        name="prosody",
        family="signal",
        sample_rate=16000,
        vector_size=26,
        licence="ISC (librosa)",
        hop=160,
        min_samples=1024,
        needs_weights=False,
        libraries=("librosa",),
        citation="McFee et al., librosa, SciPy 2015",
        options={"offset": "removed"},
        options_before={"offset": "kept"},
    ),
    load,
)
