"""WavLM, wav2vec 2.0, HuBERT, UniSpeech-SAT and MMS through transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import AudioError, WeightsError
from .base import TRANSFORMERS_WEIGHTS, Encoder, EncoderEntry, EncoderPreset, LoadRequest
from .checkpoints.locate import Weights
from .checks import DTYPES, check_batch, resized, resolve_layer, shown
from .resolve import open_request

if TYPE_CHECKING:
    import torch

# model_type of config.json -> configuration class, model class, attention implementation. WavLM's gated
# relative positions have no fused form.
_CLASSES = {
    "wavlm": ("WavLMConfig", "WavLMModel", "eager"),
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2Model", "sdpa"),
    "hubert": ("HubertConfig", "HubertModel", "sdpa"),
    "unispeech-sat": ("UniSpeechSatConfig", "UniSpeechSatModel", "sdpa"),
}

_MATRICES = 5
"""Float32 matrices of frames by frames, for each head, that eager attention holds: 4.4 measured with 60 s of WavLM."""

# Only used for masking in training, and left out of some checkpoints.
_MAY_MISS = {"masked_spec_embed"}

# Settings that tell the base from the large kind of model, with transformers' defaults, which are the base kind;
# sizes are free, so that a distilled or a small checkpoint loads.
_KIND = {"feat_extract_norm": "group", "do_stable_layer_norm": False}


class SpeechSSL(Encoder):
    """A self-supervised speech transformer.

    Clips of equal length are run together; clips of different length never are, since the base models
    normalise over time and a padded clip would come out different, attention mask or not.
    """

    def __init__(
        self,
        preset: EncoderPreset,
        model: "torch.nn.Module",
        *,
        weights_id: str,
        do_normalize: bool,
        layer: str = "last",
        dtype: str = "float32",
        device: str = "cpu",
        options: dict[str, Any] | None = None,
    ) -> None:
        import torch

        config = model.config
        self.preset = resized(preset, vector_size=config.hidden_size, layers=config.num_hidden_layers)
        self.weights_id = weights_id
        self.do_normalize = do_normalize
        self.dtype = dtype
        self.options = dict(options or {})
        self.device = device
        self._dtype = getattr(torch, dtype)
        self._captured: list[torch.Tensor] = []
        number = resolve_layer(self.preset, layer)
        self.layer = "last" if number is None else str(number)
        if number is not None:
            self._stop_at(model, number)
        self._model = model.to(device=device, dtype=self._dtype).eval().requires_grad_(False)

    def _stop_at(self, model: "torch.nn.Module", number: int) -> None:
        """Take the output of layer `number` (0: the input of the first one) and drop the layers behind it."""
        layers = model.encoder.layers
        del layers[max(number, 1) :]
        if number == 0:
            layers[0].register_forward_pre_hook(
                lambda _module, args, kwargs: self._captured.append(args[0] if args else kwargs["hidden_states"]),
                with_kwargs=True,
            )
        else:
            layers[number - 1].register_forward_hook(
                lambda _module, _args, output: self._captured.append(output[0] if isinstance(output, tuple) else output)
            )

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        return self.frames_batch([waveform])[0]

    def frames_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        from .torch_inference import inference, on_device

        batch = check_batch(self.preset, waveforms)
        self._check_memory(*batch.shape)
        if self.do_normalize:
            # As transformers' Wav2Vec2FeatureExtractor, each clip by itself.
            mean = batch.mean(axis=1, keepdims=True)
            batch = (batch - mean) / np.sqrt(batch.var(axis=1, keepdims=True) + 1e-7)
        with inference():
            self._captured.clear()
            output = self._model(on_device(batch, self.device, self._dtype))
            hidden = self._captured.pop() if self._captured else output.last_hidden_state
            frames = hidden.float().cpu().numpy()
        return list(frames)

    def _check_memory(self, clips: int, samples: int) -> None:
        """Refuse a clip whose attention would take the memory of the whole machine, and the process with it.

        Raises:
            AudioError: too long for the memory that is free.
        """
        import psutil

        config = self._model.config
        if config._attn_implementation != "eager" or self.device != "cpu":
            return  # the fused form holds no such matrices, and a GPU that is full says so
        needed = _MATRICES * 4 * clips * config.num_attention_heads * (samples / self.preset.hop) ** 2
        free = psutil.virtual_memory().available
        if needed > free:
            raise AudioError(
                f"Too long for {self.name} here: its attention needs about {needed / 2**30:.1f} GiB for "
                f"{samples / self.sample_rate:.1f} s, and {free / 2**30:.1f} GiB are free. Cut the clip (start and end "
                "in a table of clips) or leave it out."
            )


def load(preset: EncoderPreset, request: LoadRequest) -> SpeechSSL:
    """Build the encoder.

    Raises:
        WeightsError: weights absent, incomplete, unreadable or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    opening = open_request(preset, request, DTYPES)
    weights, dtype = opening.weights, opening.dtype
    if weights.random:
        model, do_normalize = _random(preset, weights), bool(preset.config["do_normalize"])
    else:
        model, do_normalize = _from_files(preset, weights)
    return SpeechSSL(
        preset,
        model,
        weights_id=weights.id,
        do_normalize=do_normalize,
        layer=request.layer,
        dtype=dtype,
        device=opening.device,
        options=opening.options,
    )


def build(preset: EncoderPreset) -> "torch.nn.Module":
    """The full-size architecture, with whatever weights torch's generator and default device give."""
    return _build(preset, preset.config.get("architecture", {}))


def _build(preset: EncoderPreset, settings: dict[str, Any]) -> "torch.nn.Module":
    config_class, model_class, attention = _classes(preset)
    config = config_class(**settings)
    config._attn_implementation = attention
    return model_class(config)


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

    architecture = preset.config.get("architecture", {})
    expected = {"model_type": preset.config["model_type"]}
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
            f"changes every embedding. Take the file from https://huggingface.co/{preset.source}."
        )
    return settings["do_normalize"]


# Parts that the five have in common.
_FILES = ("config.json", "preprocessor_config.json", TRANSFORMERS_WEIGHTS)  # the hub holds pytorch_model.bin
_HOP = 320  # seven strided convolutions: kernels 10 3 3 3 3 2 2, strides 5 2 2 2 2 2 2
_MIN_SAMPLES = 400

WAVLM = EncoderEntry(
    EncoderPreset(
        name="wavlm",
        family="attention",
        sample_rate=16000,
        vector_size=768,
        paper_vector_size=768,
        parameters=94_381_936,
        paper_parameters="94.70 M",
        licence="MIT (code; the model card names the UniLM repository's licence)",
        source="microsoft/wavlm-base",
        revision="efa81aae7ff777e464159e0f877d54eac5b84f81",
        files=_FILES,
        hop=_HOP,
        layers=12,
        min_samples=_MIN_SAMPLES,
        citation="Chen et al., WavLM, IEEE JSTSP 16(6), 2022, arXiv:2110.13900",
        config={"model_type": "wavlm", "do_normalize": False},
    ),
    load,
)
WAV2VEC2 = EncoderEntry(
    EncoderPreset(
        name="wav2vec2",
        family="attention",
        sample_rate=16000,
        vector_size=768,
        paper_vector_size=768,
        parameters=94_371_712,
        paper_parameters="95.04 M",
        licence="Apache-2.0",
        source="facebook/wav2vec2-base",
        revision="0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
        files=_FILES,
        hop=_HOP,
        layers=12,
        min_samples=_MIN_SAMPLES,
        citation="Baevski et al., wav2vec 2.0, NeurIPS 2020, arXiv:2006.11477",
        config={"model_type": "wav2vec2", "do_normalize": True},
    ),
    load,
)
HUBERT = EncoderEntry(
    EncoderPreset(
        name="hubert",
        family="attention",
        sample_rate=16000,
        vector_size=768,
        paper_vector_size=768,
        parameters=94_371_712,
        paper_parameters="94.68 M",
        licence="Apache-2.0",
        source="facebook/hubert-base-ls960",
        revision="dba3bb02fda4248b6e082697eee756de8fe8aa8a",
        files=_FILES,
        hop=_HOP,
        layers=12,
        min_samples=_MIN_SAMPLES,
        citation="Hsu et al., HuBERT, IEEE/ACM TASLP 29, 2021, arXiv:2106.07447",
        config={"model_type": "hubert", "do_normalize": True},
    ),
    load,
)
UNISPEECH_SAT = EncoderEntry(
    EncoderPreset(
        name="unispeech-sat",
        family="attention",
        sample_rate=16000,
        vector_size=768,
        paper_vector_size=768,
        parameters=94_371_712,
        paper_parameters="94.68 M",
        licence="MIT (code; the model card names no licence)",
        source="microsoft/unispeech-sat-base",
        revision="ca010627e5d232d9179ebdcd615eaa02cea382ed",
        files=_FILES,
        hop=_HOP,
        layers=12,
        min_samples=_MIN_SAMPLES,
        citation="Chen et al., UniSpeech-SAT, ICASSP 2022, arXiv:2110.05752",
        config={"model_type": "unispeech-sat", "do_normalize": True},
    ),
    load,
)
MMS_1B = EncoderEntry(
    EncoderPreset(
        name="mms-1b",
        family="attention",
        sample_rate=16000,
        vector_size=1280,
        paper_vector_size=1280,
        parameters=962_497_408,
        paper_parameters="1 B",
        licence="CC-BY-NC-4.0",
        source="facebook/mms-1b",
        revision="0d2f7adb9903d98894d70ae11f7fbdfc8cb71a69",
        files=_FILES,
        hop=_HOP,
        layers=48,
        min_samples=_MIN_SAMPLES,
        citation="Pratap et al., Scaling Speech Technology to 1,000+ Languages, JMLR 2024, arXiv:2305.13516",
        config={
            "model_type": "wav2vec2",
            "do_normalize": True,
            "architecture": {
                "hidden_size": 1280,
                "num_hidden_layers": 48,
                "num_attention_heads": 16,
                "intermediate_size": 5120,
                "feat_extract_norm": "layer",
                "do_stable_layer_norm": True,
                "conv_bias": True,
            },
        },
    ),
    load,
)
