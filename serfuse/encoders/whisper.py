"""The encoder half of Whisper: 30 s of log-mel spectrogram in, 50 frames a second out."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import WeightsError
from .base import TRANSFORMERS_WEIGHTS, EncoderEntry, EncoderPreset, LoadRequest
from .checks import DTYPES, resized
from .layered import LayeredEncoder
from .resolve import open_request
from .transformers_encoder import open_model

if TYPE_CHECKING:
    import torch

_HOP = 320
_POSITIONS = 1500
_WINDOW = _HOP * _POSITIONS  # samples of the 30 s that the model was trained on
_PREPARED = {"sampling_rate": 16000, "n_fft": 400, "hop_length": 160, "chunk_length": 30, "dither": 0.0}


class Whisper(LayeredEncoder):
    """Whisper's encoder. A clip is filled to 30 s with zeros, as in training, and only its own frames are given.

    Longer clips go through in windows of 30 s, each by itself, whose frames follow one another.
    """

    pads = True  # every clip is filled to 30 s, so clips of any lengths share a pass

    def __init__(self, preset: EncoderPreset, model: "torch.nn.Module", **settings: Any) -> None:
        import transformers

        config = model.config
        preset = resized(preset, vector_size=config.d_model, layers=config.encoder_layers)
        super().__init__(preset, model, model.layers, **settings)
        self._mel = transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins)

    def _pieces(self, clips: list[np.ndarray]) -> "Iterator[tuple[torch.Tensor, list[tuple[int, int]]]]":
        import torch

        for start in range(0, max(len(clip) for clip in clips), _WINDOW):
            windows = {n: clip[start : start + _WINDOW] for n, clip in enumerate(clips) if len(clip) > start}
            features = [
                self._mel(window, sampling_rate=self.sample_rate, return_tensors="np", device=self.device)[
                    "input_features"
                ]
                for window in windows.values()
            ]
            yield (
                torch.from_numpy(np.concatenate(features)).to(self.device, self._dtype),
                [(number, -(-len(window) // _HOP)) for number, window in windows.items()],
            )


def load(preset: EncoderPreset, request: LoadRequest) -> Whisper:
    """Build the encoder; the decoder of a checkpoint is left out.

    Raises:
        WeightsError: weights absent, incomplete, unreadable or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    opening = open_request(preset, request, DTYPES)
    model = open_model(
        preset,
        opening.weights,
        _build,
        "WhisperConfig",
        prefixes=("model.encoder.", "encoder."),
        prepared=_PREPARED,
    )
    if not opening.weights.random:
        _check_bands(preset, opening.weights, model.config.num_mel_bins)
    return Whisper(
        preset,
        model,
        **opening.settings,
    )


def build(preset: EncoderPreset) -> "torch.nn.Module":
    """The full-size encoder, with whatever weights torch's generator and default device give."""
    return _build(dict(preset.config["architecture"]))


def _build(settings: dict[str, Any]) -> "torch.nn.Module":
    import transformers
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = transformers.WhisperConfig(**settings)
    config._attn_implementation = "sdpa"
    return WhisperEncoder(config)


def _check_bands(preset: EncoderPreset, weights: Any, bands: int) -> None:
    from .checkpoints.transformers_folder import read_json

    path = weights.file("preprocessor_config.json")
    said = read_json(preset, path).get("feature_size", bands)
    if said != bands:
        raise WeightsError(f"{path} makes {said!r} mel bands, the config.json beside it expects {bands}.")


def _preset(
    name: str,
    width: int,
    layers: int,
    heads: int,
    *,
    parameters: int,
    megabytes: int,
    bands: int = 80,
    **more: Any,
) -> EncoderEntry:
    """One size; `parameters` of the encoder half, `megabytes` of the file with both, `more` fields of the preset."""
    fields = {
        "trained_on": "680,000 h of speech from the web with transcripts, 98 languages (two thirds English); which "
        "recordings is not known",
        "source": f"openai/{name}",
        **more,
    }
    return EncoderEntry(
        EncoderPreset(
            name=name,
            family="attention",
            sample_rate=16000,
            vector_size=width,
            layers=layers,
            parameters=parameters,
            megabytes=megabytes,
            licence="Apache-2.0 (the hub's files; OpenAI's code and weights are MIT)",
            files=("config.json", "preprocessor_config.json", TRANSFORMERS_WEIGHTS),
            hop=_HOP,
            min_samples=400,
            citation="Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, ICML 2023, "
            "arXiv:2212.04356",
            config={
                "model_type": "whisper",
                "architecture": {
                    "d_model": width,
                    "encoder_layers": layers,
                    "encoder_attention_heads": heads,
                    "encoder_ffn_dim": 4 * width,
                    "num_mel_bins": bands,
                },
            },
            **fields,
        ),
        load,
    )


_V3 = (
    "1 million h of speech from the web with transcripts and 4 million h transcribed by large-v2, 99 languages; which "
    "recordings is not known"
)
ENTRIES = {
    entry.name: entry
    for entry in (
        _preset("whisper-tiny", 384, 4, 6, parameters=8_208_384, megabytes=151),
        _preset("whisper-base", 512, 6, 8, parameters=20_590_592, megabytes=290),
        _preset("whisper-small", 768, 12, 12, parameters=88_154_112, megabytes=967),
        _preset("whisper-medium", 1024, 24, 16, parameters=307_216_384, megabytes=3060),
        _preset(
            "whisper-large-v1", 1280, 32, 20, parameters=636_784_640, megabytes=6170, source="openai/whisper-large"
        ),
        _preset("whisper-large-v2", 1280, 32, 20, parameters=636_784_640, megabytes=6170),
        _preset("whisper-large-v3", 1280, 32, 20, parameters=636_968_960, megabytes=3090, bands=128, trained_on=_V3),
    )
}
