"""The Descript Audio Codec at 16 kHz through transformers: what goes into its quantiser."""

import json
from typing import Any

import torch
import transformers

from ..errors import ConfigError, WeightsError
from .base import EncoderPreset, LoadRequest
from .checks import resized, resolve_device, resolve_dtype, resolve_layer, resolve_options
from .codec import TorchCodec
from .speech_ssl import quiet as quiet_transformers
from .state import some
from .torchtools import seeded
from .weights import Weights, resolve

_SHORTEST = 319  # samples that give one frame without filling up


def load(preset: EncoderPreset, request: LoadRequest) -> TorchCodec:
    """Build the encoder, 50 frames of 1024 per second.

    The option `pad_to` is the number of samples to whose multiples a clip is filled up with zeros first: 512 is
    the default of transformers' DacFeatureExtractor, which gives the 251 frames of 5.000 s that the papers print;
    320, the codec's own stride, gives 250.

    Raises:
        WeightsError: weights absent, incomplete, unreadable or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    resolve_layer(preset, request.layer)
    resolve_dtype(preset, request)
    options = resolve_options(preset, request)
    options["pad_to"] = _positive(options["pad_to"])
    device = resolve_device(request.device)
    weights = resolve(preset, request)
    model = _random(preset, weights) if weights.random else _from_files(preset, weights)
    shortest = 1 if options["pad_to"] >= _SHORTEST else _SHORTEST
    preset = resized(preset, vector_size=model.config.hidden_size, min_samples=shortest)
    # The decoder and the quantiser are two thirds of the parameters and are not run.
    return TorchCodec(
        preset, model.encoder, weights_id=weights.id, device=device, options=options, multiple=options["pad_to"]
    )


def build(preset: EncoderPreset) -> torch.nn.Module:
    """The whole codec at full size, with whatever weights torch's generator and default device give."""
    return transformers.DacModel(transformers.DacConfig(**preset.config["architecture"]))


def _positive(value: Any) -> int:
    if not str(value).isdigit() or int(value) < 1:
        raise ConfigError(f"The option pad_to of dac is a number of samples, at least 1, got {value!r}.")
    return int(value)


def _random(preset: EncoderPreset, weights: Weights) -> torch.nn.Module:
    with seeded(weights.seed), quiet_transformers():
        return build(preset)


def _from_files(preset: EncoderPreset, weights: Weights) -> torch.nn.Module:
    folder = weights.folder
    _check_model(preset, weights)
    try:
        with quiet_transformers(), seeded(0):
            model, info = transformers.DacModel.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
    # What a damaged file raises depends on where it is damaged.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{folder} could not be read as a checkpoint of {preset.name}: {reason} "
            f"Get it again from https://huggingface.co/{preset.source}."
        ) from error
    missing, mismatched = info["missing_keys"], info.get("mismatched_keys") or ()
    if missing or mismatched:
        raise WeightsError(
            f"{folder} is not a complete checkpoint of {preset.name}: {len(missing)} weights are missing "
            f"({some(missing)}), {len(mismatched)} have another shape. transformers would fill them with random "
            f"numbers. Get it again from https://huggingface.co/{preset.source}."
        )
    return model


def _check_model(preset: EncoderPreset, weights: Weights) -> None:
    path = weights.file("config.json")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        got = {
            "model_type": settings.get("model_type"),
            "sampling_rate": settings.get("sampling_rate", 16000),
            "downsampling_ratios": settings.get("downsampling_ratios"),
        }
    except (OSError, ValueError, AttributeError) as error:
        raise WeightsError(f"{path} is not the config.json of a checkpoint of {preset.name}: {error}.") from error
    expected = {
        "model_type": "dac",
        "sampling_rate": preset.sample_rate,
        "downsampling_ratios": list(preset.config["architecture"]["downsampling_ratios"]),
    }
    if got != expected:
        raise WeightsError(
            f"{path.parent} holds another model than {preset.name}: "
            + ", ".join(
                f"{name} is {got[name]!r}, expected {expected[name]!r}" for name in got if got[name] != expected[name]
            )
            + f". Point --weights at a checkpoint of {preset.source}."
        )
