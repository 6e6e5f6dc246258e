"""An encoder: how loud each 20 ms are, in eight bands. Nothing heavy is imported before `load`."""

import numpy as np

from serfuse.encoders import Encoder, EncoderEntry, EncoderPreset, LoadRequest
from serfuse.encoders.checks import check_waveform, resolve_dtype, resolve_layer, resolve_options

FRAME = 320


class Levels(Encoder):
    """Decibels of eight bands of equal width, a row for each 20 ms."""

    def __init__(self, preset: EncoderPreset, request: LoadRequest) -> None:
        resolve_layer(preset, request.layer)
        resolve_dtype(preset, request)
        self.preset, self.weights_id = preset, "none"
        self.options = resolve_options(preset, request)

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        waveform = check_waveform(self.preset, waveform)
        blocks = waveform[: len(waveform) // FRAME * FRAME].reshape(-1, FRAME)
        power = np.abs(np.fft.rfft(blocks, axis=1)[:, :160]) ** 2
        bands = power.reshape(len(blocks), 8, -1).mean(axis=2)
        return (10 * np.log10(bands + self.options["floor"])).astype(np.float32)


LEVELS = EncoderEntry(
    EncoderPreset(
        name="levels",
        family="signal",
        sample_rate=16000,
        vector_size=8,
        licence="Apache-2.0",
        hop=FRAME,
        min_samples=FRAME,
        needs_weights=False,
        libraries=("numpy",),
        options={"floor": 1e-6},
    ),
    Levels,
)
