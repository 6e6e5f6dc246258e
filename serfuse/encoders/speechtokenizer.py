"""SpeechTokenizer's encoder: what goes into its quantiser."""

from pathlib import Path

import torch

from ..errors import WeightsError
from .base import EncoderPreset, LoadRequest
from .checkpoints.state_dict import load_part, read_state, tensor_size
from .checks import resized
from .codec import TorchCodec
from .resolve import open_request
from .seanet import SEANetEncoder
from .torch_inference import seeded

_FIRST = "encoder.model.0.conv.conv.weight_v"
_LAST = "encoder.model.15.conv.conv.weight_v"
_BACKWARDS = "encoder.model.13.lstm.weight_ih_l0_reverse"


def load(preset: EncoderPreset, request: LoadRequest) -> TorchCodec:
    """Build the encoder, 50 frames of 1024 per second; a bidirectional LSTM, so every frame sees the whole clip.

    Raises:
        WeightsError: weights absent, incomplete, unreadable or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    opening = open_request(preset, request)
    weights = opening.weights
    if weights.random:
        with seeded(weights.seed):
            model = build(preset)
    else:
        model = _from_file(preset, weights.file("SpeechTokenizer.pt"))
        preset = resized(preset, vector_size=model.model[-1].conv["conv"].out_channels)
    return TorchCodec(preset, model.fuse(), weights_id=weights.id, device=opening.device, options=opening.options)


def build(preset: EncoderPreset) -> SEANetEncoder:
    """The full-size encoder, with whatever weights torch's generator and default device give."""
    return SEANetEncoder(**preset.config["architecture"])


def _from_file(preset: EncoderPreset, path: Path) -> SEANetEncoder:
    state = read_state(preset, path)
    # Widths are free, so that a small checkpoint loads; strides and layers are not: their tensors would not fit.
    widths = {
        "filters": tensor_size(preset, state, _FIRST, path),
        "dimension": tensor_size(preset, state, _LAST, path),
    }
    if _BACKWARDS not in state:
        raise WeightsError(
            f"{path} holds another model than {preset.name}: its LSTM has one direction, as EnCodec's, expected two. "
            f"{preset.where}"
        )
    with torch.device("meta"):
        model = SEANetEncoder(**{**preset.config["architecture"], **widths})
    load_part(preset, model, state, "encoder.", path)
    return model
