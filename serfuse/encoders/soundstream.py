"""haydenshively's SoundStream (NaturalSpeech 2's variant): what goes into its quantiser, or comes out of it."""

from pathlib import Path
from typing import TYPE_CHECKING

from .base import EncoderEntry, EncoderPreset, LoadRequest
from .checks import resized
from .codec import TorchCodec, asked_codebooks
from .resolve import open_request

if TYPE_CHECKING:
    from .residual_vq import ResidualVQ
    from .soundstream_model import SoundStreamEncoder

_FIRST = "encoder.layers.0.conv.weight"
_LAST = "encoder.layers.5.conv.weight"
_BOOK = "quantizer.layers.{}._codebook.embed"


def load(preset: EncoderPreset, request: LoadRequest) -> TorchCodec:
    """Build the encoder, 80 frames of 256 per second, causal.

    Raises:
        WeightsError: weights absent, incomplete, unreadable or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    from .residual_vq import random_quantiser
    from .torch_inference import seeded

    opening = open_request(preset, request)
    weights, options = opening.weights, opening.options
    asked = asked_codebooks(preset, options["codebooks"])
    if weights.random:
        with seeded(weights.seed):
            model = build(preset)
            quantiser, options["codebooks"] = random_quantiser(preset, preset.vector_size, asked)
    else:
        path = weights.file("soundstream_variant_naturalspeech2.pt")
        model, quantiser, options["codebooks"] = _from_file(preset, path, asked)
        preset = resized(preset, vector_size=model.layers[-1].conv.out_channels)
        weights.check_unchanged()
    return TorchCodec(preset, model, weights_id=weights.id, device=opening.device, options=options, quantiser=quantiser)


def build(preset: EncoderPreset) -> "SoundStreamEncoder":
    """The full-size encoder, with whatever weights torch's generator and default device give."""
    from .soundstream_model import SoundStreamEncoder

    return SoundStreamEncoder(**preset.config["architecture"])


def _from_file(
    preset: EncoderPreset, path: Path, asked: int | None
) -> "tuple[SoundStreamEncoder, ResidualVQ | None, int]":
    import torch

    from .checkpoints.state_dict import load_part, read_state, tensor_size
    from .residual_vq import quantiser_of
    from .soundstream_model import SoundStreamEncoder

    state = read_state(preset, path)
    # Widths are free, so that a small checkpoint loads; strides are not: their tensors would not fit.
    widths = {
        "channels": tensor_size(preset, state, _FIRST, path),
        "dimension": tensor_size(preset, state, _LAST, path),
    }
    with torch.device("meta"):
        model = SoundStreamEncoder(**{**preset.config["architecture"], **widths})
    load_part(preset, model, state, "encoder.", path)
    return model, *quantiser_of(preset, state, _BOOK, asked, path, dimension=widths["dimension"])


SOUNDSTREAM = EncoderEntry(
    EncoderPreset(
        name="soundstream",
        family="codec",
        sample_rate=16000,
        vector_size=256,
        paper_vector_size=256,
        parameters=13_207_552,
        licence="MIT",
        source="haydenshively/SoundStream",
        files=("soundstream_variant_naturalspeech2.pt",),
        hop=200,
        min_samples=2200,
        where="Get soundstream_variant_naturalspeech2.pt from https://huggingface.co/haydenshively/SoundStream.",
        citation="Zeghidour et al., SoundStream, IEEE/ACM TASLP 30, 2022, arXiv:2107.03312; Shively's weights",
        trained_on="speech; which recordings its publisher does not say",
        options={"codebooks": 0},
        options_before={"codebooks": 0},
        config={
            "codebooks": (16, 1024),
            "architecture": {"channels": 58, "dimension": 256, "strides": [2, 4, 5, 5]},
            "codec_parameters": 27_365_121,
        },
    ),
    load,
)
