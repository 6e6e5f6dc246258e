"""Speech-like sound from a source-filter model: what the synthetic corpus is spoken with.

A glottal flow (Rosenberg 1971, pulse type C) with the pitch, open quotient, tilt, breath and jitter of a voice is
shaped by the formants of a sequence of vowels (Peterson and Barney 1952, averages for men) and interrupted by
consonant-like noises. Everything is computed on whole arrays: the formants act on a short-time spectrum.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import signal

# F1, F2, F3 in Hz of a tract of length 1; F4 and F5 hardly differ between vowels.
_VOWELS = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
    "y": (270, 1900, 2300),
    "@": (500, 1500, 2500),
}
_HIGHER = (3500, 4500)
_BANDWIDTHS = (70, 90, 140, 220, 300)

# Noise: centre and width in Hz, level relative to the vowels, seconds of silence before, seconds of noise.
_NOISES = {
    "s": (6200, 1800, 0.16, 0.0, 0.10),
    "S": (3300, 1300, 0.20, 0.0, 0.10),
    "f": (5000, 5000, 0.06, 0.0, 0.08),
    "t": (4500, 2500, 0.30, 0.055, 0.018),
    "k": (2000, 900, 0.30, 0.060, 0.025),
    "p": (900, 900, 0.25, 0.065, 0.012),
}
# Voiced consonants: formants and level.
_MURMURS = {"m": ((250, 1100, 2200), 0.30), "n": ((250, 1600, 2500), 0.30), "l": ((360, 1200, 2700), 0.45)}

_FRAME = 0.032
_HOP = 0.008


@dataclass(frozen=True)
class Voice:
    """A speaker, and how they speak in one clip.

    Attributes:
        pitch: mean fundamental frequency in Hz.
        pitch_range: standard deviation of the pitch contour in semitones.
        slope: change of pitch from the beginning to the end in semitones.
        tract: factor on all formants; above 1 is a shorter vocal tract.
        rate: speaking rate; 1 is about 4 syllables a second.
        level: of the whole clip in dB.
        tilt: of the source spectrum in dB per octave, on top of the pulse's own; negative is darker.
        open_quotient: part of a cycle the glottis is open, 0.3 (pressed) to 0.9 (lax).
        breath: level of the aspiration noise relative to the voice.
        jitter: standard deviation of the length of a cycle, as a part of it.
    """

    pitch: float = 120.0
    pitch_range: float = 2.0
    slope: float = -2.0
    tract: float = 1.0
    rate: float = 1.0
    level: float = -26.0
    tilt: float = 0.0
    open_quotient: float = 0.6
    breath: float = 0.02
    jitter: float = 0.01


def sentence(rng: np.random.Generator, syllables: int) -> list[tuple[str, str]]:
    """A random sequence of `(consonant, vowel)`, for `speak`."""
    consonants = [*_NOISES, *_MURMURS]
    vowels = list(_VOWELS)
    return [(str(rng.choice(consonants)), str(rng.choice(vowels))) for _ in range(syllables)]


def speak(text: list[tuple[str, str]], voice: Voice, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A sentence in a voice, float64 `(samples,)` within [-1, 1], about a quarter of a second per syllable."""
    phones = _timed(text, voice, rng)
    seconds = sum(length for *_, length in phones)
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    frames = np.arange(0, seconds + _HOP, _HOP)
    formants, voiced, noisy, centre, width = _tracks(phones, frames, voice)
    source, flow = _glottis(times, seconds, voice, sample_rate, rng)
    aspiration = voice.breath * rng.standard_normal(len(times)) * (0.3 + flow)
    friction = rng.standard_normal(len(times))

    def filtered(wave: np.ndarray, response: np.ndarray) -> np.ndarray:
        """`wave` through a response of shape `(frequencies, frames)`, by overlap-add."""
        size, hop = round(_FRAME * sample_rate), round(_HOP * sample_rate)
        # Twice the frame: room for the filter's ringing, which would otherwise wrap around.
        transform = signal.ShortTimeFFT(
            signal.windows.hann(size, sym=False), hop, sample_rate, mfft=2 * size, phase_shift=None
        )
        times = transform.t(len(wave))
        # What transform.stft and .istft do, all frames in one call: theirs go frame by frame.
        before, after = round(-times[0] * sample_rate) + transform.m_num_mid, size + hop
        padded = np.pad(wave, (before, after))
        pieces = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][: len(times)] * transform.win
        place = np.round(np.clip(times / _HOP, 0, response.shape[1] - 1)).astype(int)
        spectrum = np.fft.rfft(pieces, 2 * size, axis=1) * response.T[place]
        pieces = np.fft.irfft(spectrum, axis=1)[:, :size] * transform.dual_win
        result = np.zeros(len(padded))
        for start, piece in zip(range(0, len(pieces) * hop, hop), pieces, strict=True):
            result[start : start + size] += piece
        return result[before : before + len(wave)]

    frequencies = np.fft.rfftfreq(2 * round(_FRAME * sample_rate), 1 / sample_rate)
    tilt = _tilt(frequencies, voice.tilt)[:, None]
    vowels = filtered(source + aspiration, _resonances(frequencies, formants) * tilt * voiced)
    band = np.exp(-0.5 * ((frequencies[:, None] - centre) / width) ** 2)
    noises = filtered(friction, band * noisy * tilt)
    wave = vowels / (np.sqrt(np.mean(vowels**2)) + 1e-12)
    wave = wave + noises / (np.sqrt(np.mean(friction**2)) + 1e-12)
    wave *= 10 ** (voice.level / 20) / (np.sqrt(np.mean(wave**2)) + 1e-12)
    # A limiter rather than clipping: loud clips stay loud without breaking up.
    return np.tanh(wave)


def changed(voice: Voice, **factors: float) -> Voice:
    """The voice with attributes multiplied (pitch, pitch_range, rate, breath, jitter, tract) or added to (others)."""
    multiplied = {"pitch", "pitch_range", "rate", "breath", "jitter", "tract"}
    values = {
        name: getattr(voice, name) * factor if name in multiplied else getattr(voice, name) + factor
        for name, factor in factors.items()
    }
    result = replace(voice, **values)
    return replace(result, open_quotient=float(np.clip(result.open_quotient, 0.3, 0.9)))


def _timed(text: list[tuple[str, str]], voice: Voice, rng: np.random.Generator) -> list[tuple[str, float, float]]:
    """`(phone, level, seconds)` for each part of the sentence; "_" is silence."""
    phones: list[tuple[str, float, float]] = [("_", 0.0, 0.06)]
    for place, (consonant, vowel) in enumerate(text):
        hurry = voice.rate * np.exp(0.10 * rng.standard_normal())
        if consonant in _NOISES:
            _, _, level, silence, noise = _NOISES[consonant]
            if silence:
                phones.append(("_", 0.0, silence / hurry))
            phones.append((consonant, level, max(0.012, noise / hurry)))
        else:
            phones.append((consonant, _MURMURS[consonant][1], 0.07 / hurry))
        longer = 1.5 if place == len(text) - 1 else 1.0  # sentences end slowly
        stress = 10 ** (rng.normal(0, 1.5) / 20)
        phones.append((vowel, stress, 0.15 * longer / hurry))
    phones.append(("_", 0.0, 0.08))
    return phones


def _tracks(
    phones: list[tuple[str, float, float]], frames: np.ndarray, voice: Voice
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per frame: formants `(5, frames)`, level of the voice, level of the noise, centre and width of the noise."""
    ends = np.cumsum([length for *_, length in phones])
    which = np.minimum(np.searchsorted(ends, frames, side="right"), len(phones) - 1)
    rows = []
    formants = _VOWELS["@"]
    for phone, level, _ in phones:
        voiced, noisy, centre, width = 0.0, 0.0, 4000.0, 2000.0
        if phone in _VOWELS:
            formants, voiced = _VOWELS[phone], level
        elif phone in _MURMURS:
            formants, voiced = _MURMURS[phone][0], level
        elif phone in _NOISES:
            noisy, centre, width = level, *_NOISES[phone][:2]
        rows.append((*formants, *_HIGHER, voiced, noisy, centre * np.sqrt(voice.tract), width))
    values = np.array(rows, dtype=float).T[:, which]
    # The mouth moves within some 40 ms; noises begin and end within one frame.
    smooth = np.hanning(9)[1:-1] / np.hanning(9).sum()
    values[:6] = np.apply_along_axis(
        lambda row: np.convolve(np.pad(row, 3, mode="edge"), smooth, mode="valid"), 1, values[:6]
    )
    return values[:5] * voice.tract, values[5], values[6], values[7], values[8]


def _glottis(
    times: np.ndarray, seconds: float, voice: Voice, sample_rate: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Derivative of the glottal flow, scaled to about 1, and the flow itself in [0, 1]."""
    # A contour of a few slow movements around a declining line, and a faster tremble.
    knots = max(4, round(seconds * 4))
    contour = np.interp(times, np.linspace(0, seconds, knots), rng.standard_normal(knots))
    semitones = voice.pitch_range * contour + voice.slope * (times / seconds - 0.5)
    pitch = voice.pitch * 2 ** (semitones / 12)
    # The pulses are drawn at four times the rate: their edges are sharp and would alias.
    over = 4
    fine = np.repeat(pitch, over)
    cycles = np.cumsum(fine) / (sample_rate * over)
    number = cycles.astype(int)
    lengths = 1 + voice.jitter * rng.standard_normal(number[-1] + 2)
    loud = 1 + 3 * voice.jitter * rng.standard_normal(number[-1] + 2)
    cycles = np.cumsum(fine * lengths[number]) / (sample_rate * over)
    number = np.minimum(cycles.astype(int), len(loud) - 1)
    phase = cycles - np.floor(cycles)
    opening, closing = 0.67 * voice.open_quotient, 0.33 * voice.open_quotient
    flow = np.where(
        phase < opening,
        0.5 * (1 - np.cos(np.pi * phase / opening)),
        np.where(phase < opening + closing, np.cos(np.pi * np.clip((phase - opening) / (2 * closing), 0, 0.5)), 0.0),
    )
    slow = signal.resample_poly(flow * loud[number], 1, over)[: len(times)]
    derivative = np.diff(slow, prepend=slow[:1])
    return derivative / (np.std(derivative) + 1e-12), np.clip(slow, 0, 1)


def _resonances(frequencies: np.ndarray, formants: np.ndarray) -> np.ndarray:
    """Response `(frequencies, frames)` of a cascade of formants, each of gain 1 at 0 Hz."""
    s = 2j * np.pi * frequencies[:, None]
    response = np.ones((len(frequencies), formants.shape[1]), dtype=complex)
    for centre, bandwidth in zip(formants, _BANDWIDTHS, strict=True):
        pole = -np.pi * bandwidth + 2j * np.pi * centre
        response *= np.abs(pole) ** 2 / ((s - pole) * (s - np.conj(pole)))
    return response


def _tilt(frequencies: np.ndarray, slope: float) -> np.ndarray:
    """Gain falling by `slope` dB per octave above 300 Hz."""
    octaves = np.log2(np.maximum(frequencies, 300.0) / 300.0)
    return 10 ** (slope * octaves / 20)
