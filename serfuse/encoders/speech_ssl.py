"""Self-supervised speech transformers on the waveform itself, through transformers: WavLM, wav2vec 2.0 and its heirs.

Their presets are data, in `speech_ssl_presets.py`.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import WeightsError
from .base import EncoderEntry, EncoderPreset, LoadRequest
from .checkpoints.locate import Weights
from .checks import DTYPES, resized, shown
from .layered import LayeredEncoder
from .resolve import open_request
from .speech_ssl_presets import PRESETS

if TYPE_CHECKING:
    import torch

# model_type of config.json -> configuration class, model class, attention implementation. WavLM's gated
# relative positions and the conformer's have no fused form.
_CLASSES = {
    "wavlm": ("WavLMConfig", "WavLMModel", "eager"),
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2Model", "sdpa"),
    "hubert": ("HubertConfig", "HubertModel", "sdpa"),
    "unispeech": ("UniSpeechConfig", "UniSpeechModel", "sdpa"),
    "unispeech-sat": ("UniSpeechSatConfig", "UniSpeechSatModel", "sdpa"),
    "data2vec-audio": ("Data2VecAudioConfig", "Data2VecAudioModel", "sdpa"),
    "wav2vec2-conformer": ("Wav2Vec2ConformerConfig", "Wav2Vec2ConformerModel", "eager"),
}

_MATRICES = 5
"""Float32 matrices of frames by frames, for each head, that eager attention holds: 4.4 measured with 60 s of WavLM."""

# Only used for masking in training, and left out of some checkpoints.
_MAY_MISS = {"masked_spec_embed"}

# Settings that tell the base from the large kind of model, with transformers' defaults, which are the base kind;
# sizes are free, so that a distilled or a small checkpoint loads.
_KIND = {"feat_extract_norm": "group", "do_stable_layer_norm": False}


@dataclass(frozen=True)
class _Input:
    """Of one pass.

    Attributes:
        values: `(B, samples)`.
        samples: of each clip, the rest is padding; `None` where there is none.
    """

    values: "torch.Tensor"
    samples: list[int] | None


class SpeechSSL(LayeredEncoder):
    """A self-supervised speech transformer.

    `do_normalize`: each clip is brought to mean 0 and variance 1 first. Clips of different length share a pass, padded
    and masked so that each comes out as it does alone.
    """

    pads = True

    def __init__(self, preset: EncoderPreset, model: "torch.nn.Module", *, do_normalize: bool, **settings: Any) -> None:
        from .clip_mask import ClipMask

        config = model.config
        preset = resized(
            preset,
            vector_size=config.hidden_size,
            layers=config.num_hidden_layers,
            hop=prod(config.conv_stride),
            min_samples=_shortest(config.conv_kernel, config.conv_stride),
        )
        eager = config._attn_implementation == "eager"
        settings["attention"] = _MATRICES * config.num_attention_heads if eager else 0
        super().__init__(preset, model, model.encoder.layers, **settings)
        self.do_normalize = do_normalize
        self._mask = ClipMask(model)

    def _pieces(self, clips: list[np.ndarray]) -> "Iterator[tuple[_Input, list[tuple[int, int | None]]]]":
        from .torch_inference import on_device

        samples = [len(clip) for clip in clips]
        batch = np.zeros((len(clips), max(samples)), np.float32)
        for row, clip in zip(batch, clips, strict=True):
            # As transformers' Wav2Vec2FeatureExtractor, each clip by itself.
            row[: len(clip)] = (clip - clip.mean()) / np.sqrt(clip.var() + 1e-7) if self.do_normalize else clip
        values = on_device(batch, self.device, self._dtype)
        if min(samples) == max(samples):
            yield _Input(values, None), [(number, None) for number in range(len(clips))]
        else:
            yield _Input(values, samples), [(number, self._frames(count)) for number, count in enumerate(samples)]

    def _frames(self, samples: int) -> int:
        """That the convolutions make of so many samples."""
        config = self._model.config
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    def _run(self, inputs: "_Input") -> "torch.Tensor":
        import torch

        if inputs.samples is None:
            return self._model(inputs.values).last_hidden_state
        frames = torch.tensor([self._frames(count) for count in inputs.samples])
        heard = torch.arange(inputs.values.shape[1]) < torch.tensor(inputs.samples)[:, None]
        kept = (torch.arange(int(frames.max())) < frames[:, None]).to(self.device)
        with self._mask.over(inputs.samples, kept), warnings.catch_warnings():
            # WavLM's attention is given a mask of truth beside numbers, of which torch says that it is deprecated.
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask and attn_mask", UserWarning)
            return self._model(inputs.values, attention_mask=heard.to(self.device)).last_hidden_state


def load(preset: EncoderPreset, request: LoadRequest) -> SpeechSSL:
    """Build the encoder.

    Raises:
        WeightsError: weights absent, incomplete, unreadable or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    opening = open_request(preset, request, DTYPES)
    weights = opening.weights
    if weights.random:
        model, do_normalize = _random(preset, weights), bool(preset.config["do_normalize"])
    else:
        model, do_normalize = _from_files(preset, weights)
    return SpeechSSL(
        preset,
        model,
        do_normalize=do_normalize,
        **opening.settings,
    )


def build(preset: EncoderPreset) -> "torch.nn.Module":
    """The full-size architecture, with whatever weights torch's generator and default device give."""
    return _build(preset, preset.config.get("architecture", {}))


def _build(preset: EncoderPreset, settings: dict[str, Any]) -> "torch.nn.Module":
    import torch

    config_class, model_class, attention = _classes(preset)
    config = config_class(**settings)
    config._attn_implementation = attention
    model = model_class(config)
    if getattr(model.encoder, "embed_positions", None) is not None:
        # A conformer's table of positions is computed, in no checkpoint, and needs numbers also beside a meta device.
        with torch.device("cpu"):
            model.encoder.embed_positions = type(model.encoder.embed_positions)(config)
    return model


def _classes(preset: EncoderPreset) -> tuple[type, type, str]:
    import transformers

    config, model, attention = _CLASSES[preset.config["model_type"]]
    return getattr(transformers, config), getattr(transformers, model), attention


def _random(preset: EncoderPreset, weights: Weights) -> "torch.nn.Module":
    from .checkpoints.transformers_folder import quiet
    from .torch_inference import seeded

    with seeded(weights.seed), quiet():
        return build(preset)


def _from_files(preset: EncoderPreset, weights: Weights) -> "tuple[torch.nn.Module, bool]":
    from .checkpoints.transformers_folder import check_model, load_model, read_json

    expected = {"model_type": preset.config["model_type"]}
    if not preset.config.get("any_size") and preset.config["model_type"] != "data2vec-audio":
        architecture = preset.config.get("architecture", {})
        expected |= {name: architecture.get(name, value) for name, value in _KIND.items()}
    check_model(preset, weights.file("config.json"), expected, defaults=_KIND)
    settings = read_json(preset, weights.file("preprocessor_config.json"))
    do_normalize = _do_normalize(preset, settings, weights.folder)
    config_class, _, _ = _classes(preset)
    model = load_model(preset, weights, lambda settings: _build(preset, settings), config_class, _MAY_MISS)
    weights.check_unchanged()
    return model, do_normalize


def _do_normalize(preset: EncoderPreset, settings: dict[str, Any], folder: Path) -> bool:
    rate = settings.get("sampling_rate")
    if rate != preset.sample_rate:
        raise WeightsError(
            f"{folder / 'preprocessor_config.json'} says sampling_rate {shown(repr(rate))}, {preset.name} expects "
            f"{preset.sample_rate}. Is it of another model?"
        )
    if not isinstance(settings.get("do_normalize"), bool):
        raise WeightsError(
            f"{folder / 'preprocessor_config.json'} does not say do_normalize (true or false), and it "
            f"changes every embedding. Take the file from {preset.home}."
        )
    return settings["do_normalize"]


def _shortest(kernels: list[int], strides: list[int]) -> int:
    """Samples from which the convolutions make one frame."""
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


ENTRIES = {preset.name: EncoderEntry(preset, load) for preset in PRESETS}
