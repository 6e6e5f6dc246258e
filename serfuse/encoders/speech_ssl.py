"""WavLM, wav2vec 2.0, HuBERT, UniSpeech-SAT and MMS through transformers."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from ..errors import WeightsError
from .base import Encoder, EncoderPreset, LoadRequest
from .checks import (
    DTYPES,
    check_batch,
    resized,
    resolve_device,
    resolve_dtype,
    resolve_layer,
    resolve_options,
)
from .state import some
from .torchtools import inference, seeded
from .weights import Weights, resolve

# model_type of config.json -> configuration class, model class, attention implementation. WavLM's gated
# relative positions have no fused form.
_CLASSES = {
    "wavlm": ("WavLMConfig", "WavLMModel", "eager"),
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2Model", "sdpa"),
    "hubert": ("HubertConfig", "HubertModel", "sdpa"),
    "unispeech-sat": ("UniSpeechSatConfig", "UniSpeechSatModel", "sdpa"),
}

# Only used for masking in training, and left out of some checkpoints.
_MAY_MISS = {"masked_spec_embed"}

# Settings that tell the base from the large kind of model; sizes are free, so that a distilled or a small
# checkpoint loads.
_KIND = {"feat_extract_norm": "group", "do_stable_layer_norm": False}


class SpeechSSL(Encoder):
    """A self-supervised speech transformer.

    Clips of equal length are run together; clips of different length never are, since the base models
    normalise over time and a padded clip would come out different, attention mask or not.
    """

    def __init__(
        self,
        preset: EncoderPreset,
        model: torch.nn.Module,
        *,
        weights_id: str,
        do_normalize: bool,
        layer: str = "last",
        dtype: str = "float32",
        device: str = "cpu",
        options: dict[str, Any] | None = None,
    ) -> None:
        config = model.config
        self.preset = resized(preset, vector_size=config.hidden_size, layers=config.num_hidden_layers)
        self.weights_id = weights_id
        self.do_normalize = do_normalize
        self.dtype = dtype
        self.options = dict(options or {})
        self._device = device
        self._dtype = getattr(torch, dtype)
        self._captured: list[torch.Tensor] = []
        number = resolve_layer(self.preset, layer)
        self.layer = "last" if number is None else str(number)
        if number is not None:
            self._stop_at(model, number)
        self._model = model.to(device=device, dtype=self._dtype).eval().requires_grad_(False)

    def _stop_at(self, model: torch.nn.Module, number: int) -> None:
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
        batch = check_batch(self.preset, waveforms)
        if self.do_normalize:
            # As transformers' Wav2Vec2FeatureExtractor, each clip by itself.
            mean = batch.mean(axis=1, keepdims=True)
            batch = (batch - mean) / np.sqrt(batch.var(axis=1, keepdims=True) + 1e-7)
        with inference():
            self._captured.clear()
            output = self._model(torch.from_numpy(batch).to(self._device, self._dtype))
            hidden = self._captured.pop() if self._captured else output.last_hidden_state
            frames = hidden.float().cpu().numpy()
        return list(frames)


def load(preset: EncoderPreset, request: LoadRequest) -> SpeechSSL:
    """Build the encoder.

    Raises:
        WeightsError: weights absent, incomplete, unreadable or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    dtype = resolve_dtype(preset, request, DTYPES)
    options = resolve_options(preset, request)
    device = resolve_device(request.device)
    weights = resolve(preset, request)
    if weights.random:
        resolve_layer(preset, request.layer)  # before minutes go into a large model
        model, do_normalize = _random(preset, weights), bool(preset.config["do_normalize"])
    else:
        model, do_normalize = _from_files(preset, weights, getattr(torch, dtype))
    return SpeechSSL(
        preset,
        model,
        weights_id=weights.id,
        do_normalize=do_normalize,
        layer=request.layer,
        dtype=dtype,
        device=device,
        options=options,
    )


def build(preset: EncoderPreset) -> torch.nn.Module:
    """The full-size architecture, with whatever weights torch's generator and default device give."""
    config_class, model_class, attention = _classes(preset)
    config = config_class(**preset.config.get("architecture", {}))
    config._attn_implementation = attention
    return model_class(config)


def _classes(preset: EncoderPreset) -> tuple[type, type, str]:
    config, model, attention = _CLASSES[preset.config["model_type"]]
    return getattr(transformers, config), getattr(transformers, model), attention


def _random(preset: EncoderPreset, weights: Weights) -> torch.nn.Module:
    with seeded(weights.seed), quiet():
        return build(preset)


def _from_files(preset: EncoderPreset, weights: Weights, dtype: torch.dtype) -> tuple[torch.nn.Module, bool]:
    folder = weights.folder
    settings = _read_json(preset, weights.file("config.json"))
    _check_model(preset, settings, folder)
    do_normalize = _do_normalize(preset, _read_json(preset, weights.file("preprocessor_config.json")), folder)

    _, model_class, attention = _classes(preset)
    try:
        with quiet(), seeded(0):
            model, info = model_class.from_pretrained(
                folder,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                attn_implementation=attention,
                dtype=dtype,
            )
    # What a damaged file raises depends on where it is damaged: OSError, RuntimeError, UnpicklingError,
    # SafetensorError, ValueError, KeyError ...
    except Exception as error:
        # The first sentence: torch goes on with how to load an unsafe file all the same.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].partition(". ")[0].rstrip(".")
        raise WeightsError(
            f"{folder} could not be read as a checkpoint of {preset.name}: {reason}. "
            f"Get it again from https://huggingface.co/{preset.source}."
        ) from error
    missing = {name for name in info["missing_keys"] if name.rpartition(".")[2] not in _MAY_MISS}
    misshapen = {entry[0] for entry in info["mismatched_keys"]}
    if missing or misshapen:
        raise WeightsError(
            f"{folder} is not a complete checkpoint of {preset.name}: "
            f"{_count(missing, 'missing')}, {_count(misshapen, 'of another shape')}. "
            f"transformers would fill them with random numbers. Get it again from "
            f"https://huggingface.co/{preset.source}."
        )
    damaged = {name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()}
    if damaged:
        raise WeightsError(
            f"{folder} is damaged: NaN or infinite numbers in {len(damaged)} weights ({some(damaged)}). "
            f"Get it again from https://huggingface.co/{preset.source}."
        )
    return model, do_normalize


def _check_model(preset: EncoderPreset, settings: dict[str, Any], folder: Path) -> None:
    expected = {"model_type": preset.config["model_type"]}
    architecture = preset.config.get("architecture", {})
    expected |= {name: architecture.get(name, value) for name, value in _KIND.items()}
    # A key that a config.json leaves out has the library's default, which is the base kind.
    got = {name: settings.get(name, _KIND.get(name)) for name in expected}
    if got != expected:
        listed = {name: value for name, value in got.items() if value != expected[name]}
        raise WeightsError(
            f"{folder} holds another model than {preset.name}: "
            + ", ".join(f"{name} is {value!r}, expected {expected[name]!r}" for name, value in listed.items())
            + f". Point --weights at a checkpoint of {preset.source}."
        )


def _do_normalize(preset: EncoderPreset, settings: dict[str, Any], folder: Path) -> bool:
    rate = settings.get("sampling_rate")
    if rate != preset.sample_rate:
        raise WeightsError(
            f"{folder / 'preprocessor_config.json'} says sampling_rate {rate}, "
            f"{preset.name} expects {preset.sample_rate}. Is it of another model?"
        )
    if not isinstance(settings.get("do_normalize"), bool):
        raise WeightsError(
            f"{folder / 'preprocessor_config.json'} does not say do_normalize (true or false), and it "
            f"changes every embedding. Take the file from https://huggingface.co/{preset.source}."
        )
    return settings["do_normalize"]


def _read_json(preset: EncoderPreset, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, expected a JSON object of {preset.name}.")
    return content


def _count(names: set[str], what: str) -> str:
    return f"{len(names)} weights are {what}" + (f" ({some(names)})" if names else "")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' load report and progress bar off the terminal; here they become errors."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
