"""openSMILE's functionals, statistics of a whole clip: eGeMAPS and ComParE, through audEERING's own package.

The package `opensmile` is an extra, since its licence allows private use, research and education only.
"""

from typing import Any

import numpy as np

from .base import Encoder, EncoderEntry, EncoderPreset, LoadRequest
from .checkpoints.locate import resolve
from .checks import check_waveform, resolve_dtype, resolve_layer, resolve_options

LOUDEST = 32767 / 32768
"""Full scale as the package can hold it: it counts in 16-bit integers, and 1.0 would come out as -1.0."""


class Smile(Encoder):
    """The functionals of one of openSMILE's feature sets, one row per clip."""

    def __init__(self, preset: EncoderPreset, options: dict[str, Any]) -> None:
        import opensmile

        self.preset, self.weights_id, self.options = preset, "none", options
        self._smile = opensmile.Smile(
            feature_set=opensmile.FeatureSet[preset.config["feature_set"]],
            feature_level=opensmile.FeatureLevel.Functionals,
            sampling_rate=preset.sample_rate,
        )

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        waveform = check_waveform(self.preset, waveform)
        functionals = self._smile(np.clip(waveform, -1.0, LOUDEST), self.sample_rate)
        return np.ascontiguousarray(functionals[:, :, 0], dtype=np.float32)


def load(preset: EncoderPreset, request: LoadRequest) -> Smile:
    """Build the encoder.

    Raises:
        WeightsError: weights were asked for; it has none.
        ConfigError: a layer, dtype or option that it does not have, or the package is not installed.
    """
    resolve(preset, request)  # raises where weights were asked for
    resolve_layer(preset, request.layer)
    resolve_dtype(preset, request)
    return Smile(preset, resolve_options(preset, request))


def _preset(name: str, feature_set: str, vector_size: int, citation: str) -> EncoderEntry:
    return EncoderEntry(
        EncoderPreset(
            name=name,
            family="signal",
            sample_rate=16000,
            vector_size=vector_size,
            licence="audEERING Research License (openSMILE: private use, research and education; nothing commercial)",
            min_samples=960,
            needs_weights=False,
            libraries=("opensmile",),
            citation=f"{citation}; Eyben et al., openSMILE, ACM Multimedia 2010",
            config={"feature_set": feature_set},
        ),
        load,
    )


ENTRIES = {
    entry.name: entry
    for entry in (
        _preset(
            "egemaps", "eGeMAPSv02", 88, "Eyben et al., The Geneva Minimalistic Acoustic Parameter Set, IEEE TAC 2016"
        ),
        _preset("compare-2016", "ComParE_2016", 6373, "Schuller et al., The ComParE 2016 Challenge, Interspeech 2016"),
    )
}
