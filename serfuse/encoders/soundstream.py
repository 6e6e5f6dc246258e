"""haydenshively's SoundStream (NaturalSpeech 2's variant): what goes into its quantiser."""

from pathlib import Path

import torch

from .base import EncoderPreset, LoadRequest
from .checkpoints.state_dict import load_part, read_state, tensor_size
from .checks import resized
from .codec import TorchCodec
from .resolve import open_request
from .soundstream_model import SoundStreamEncoder
from .torch_inference import seeded

_FIRST = "encoder.layers.0.conv.weight"
_LAST = "encoder.layers.5.conv.weight"


def load(preset: EncoderPreset, request: LoadRequest) -> TorchCodec:
    """Build the encoder, 80 frames of 256 per second, causal.

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
        model = _from_file(preset, weights.file("soundstream_variant_naturalspeech2.pt"))
        preset = resized(preset, vector_size=model.layers[-1].conv.out_channels)
    return TorchCodec(preset, model, weights_id=weights.id, device=opening.device, options=opening.options)


def build(preset: EncoderPreset) -> SoundStreamEncoder:
    """The full-size encoder, with whatever weights torch's generator and default device give."""
    return SoundStreamEncoder(**preset.config["architecture"])


def _from_file(preset: EncoderPreset, path: Path) -> SoundStreamEncoder:
    state = read_state(preset, path)
    # Widths are free, so that a small checkpoint loads; strides are not: their tensors would not fit.
    widths = {
        "channels": tensor_size(preset, state, _FIRST, path),
        "dimension": tensor_size(preset, state, _LAST, path),
    }
    with torch.device("meta"):
        model = SoundStreamEncoder(**{**preset.config["architecture"], **widths})
    load_part(preset, model, state, "encoder.", path)
    return model
