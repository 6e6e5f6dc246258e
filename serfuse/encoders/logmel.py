"""Log-mel spectrogram and how fast it changes; pooled, their statistics. No weights, no learning."""

from typing import Any

import numpy as np

from ..errors import ConfigError
from .base import Encoder, EncoderEntry, EncoderPreset, LoadRequest
from .checkpoints.locate import resolve
from .checks import check_waveform, resized, resolve_dtype, resolve_layer, resolve_options
from .numba_cache import import_librosa

WINDOW = 400
"""Samples of one frame (25 ms at 16 kHz)."""

FLOOR = 1e-6
"""Power added before the logarithm, 100 dB below that of a full-scale sine: digital silence stays finite."""


class LogMel(Encoder):
    """Natural logarithm of the mel power spectrum, one row every 10 ms; no frame reaches beyond the clip.

    With option `change` the absolute slope of every band over five frames follows in further columns: without
    it a mean over time is deaf to how lively the speech is.
    """

    def __init__(self, preset: EncoderPreset, options: dict[str, Any]) -> None:
        librosa = import_librosa()

        self.preset = resized(preset, vector_size=options["mels"] * (2 if options["change"] else 1))
        self.weights_id = "none"
        self.options = options
        self._filters = librosa.filters.mel(sr=preset.sample_rate, n_fft=WINDOW, n_mels=options["mels"])

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        librosa = import_librosa()

        waveform = check_waveform(self.preset, waveform)
        spectrum = librosa.stft(waveform, n_fft=WINDOW, hop_length=self.preset.hop, center=False)
        mel = self._filters @ (np.abs(spectrum) ** 2)
        frames = np.log(mel.T + FLOOR)
        if self.options["change"]:
            slope = librosa.feature.delta(frames, width=5, axis=0, mode="nearest")
            frames = np.concatenate([frames, np.abs(slope)], axis=1)
        return frames.astype(np.float32)


def load(preset: EncoderPreset, request: LoadRequest) -> LogMel:
    """Build the encoder. Options: `mels` (80, or 64), the number of bands; `change` (true or false).

    Raises:
        WeightsError, ConfigError: weights, a layer or dtype were asked for, or another number of bands.
    """
    resolve(preset, request)  # raises where weights were asked for
    resolve_layer(preset, request.layer)
    resolve_dtype(preset, request)
    options = resolve_options(preset, request)
    if options["mels"] not in (64, 80):
        raise ConfigError(f"logmel has 64 or 80 mels, got mels={options['mels']!r}.")
    if not isinstance(options["change"], bool):
        raise ConfigError(f"Option change of logmel is true or false, got {options['change']!r}.")
    return LogMel(preset, options)


LOGMEL = EncoderEntry(
    EncoderPreset(
        name="logmel",
        family="signal",
        sample_rate=16000,
        vector_size=160,
        licence="ISC (librosa)",
        hop=160,
        min_samples=400,
        needs_weights=False,
        libraries=("librosa",),
        citation="McFee et al., librosa, SciPy 2015",
        options={"mels": 80, "change": True},
    ),
    load,
)
