"""SpeechTokenizer's encoder: what goes into its quantiser, or comes out of it."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import WeightsError
from .base import EncoderEntry, EncoderPreset, LoadRequest
from .checks import resized
from .codec import TorchCodec, asked_codebooks
from .resolve import open_request

if TYPE_CHECKING:
    from .residual_vq import ResidualVQ
    from .seanet import SEANetEncoder

_FIRST = "encoder.model.0.conv.conv.weight_v"
_LAST = "encoder.model.15.conv.conv.weight_v"
_BOOK = "quantizer.vq.layers.{}._codebook.embed"
_BACKWARDS = "encoder.model.13.lstm.weight_ih_l0_reverse"


def load(preset: EncoderPreset, request: LoadRequest) -> TorchCodec:
    """Build the encoder, 50 frames of 1024 per second; a bidirectional LSTM, so every frame sees the whole clip.

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
        model, quantiser, options["codebooks"] = _from_file(preset, weights.file("SpeechTokenizer.pt"), asked)
        preset = resized(preset, vector_size=model.model[-1].conv["conv"].out_channels)
        weights.check_unchanged()
    return TorchCodec(
        preset, model.fuse(), weights_id=weights.id, device=opening.device, options=options, quantiser=quantiser
    )


def build(preset: EncoderPreset) -> "SEANetEncoder":
    """The full-size encoder, with whatever weights torch's generator and default device give."""
    from .seanet import SEANetEncoder

    return SEANetEncoder(**preset.config["architecture"])


def _from_file(preset: EncoderPreset, path: Path, asked: int | None) -> "tuple[SEANetEncoder, ResidualVQ | None, int]":
    import torch

    from .checkpoints.state_dict import load_part, read_state, tensor_size
    from .residual_vq import quantiser_of
    from .seanet import SEANetEncoder

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
    return model, *quantiser_of(preset, state, _BOOK, asked, path, dimension=widths["dimension"])


SPEECHTOKENIZER = EncoderEntry(
    EncoderPreset(
        name="speechtokenizer",
        family="codec",
        sample_rate=16000,
        vector_size=1024,
        paper_vector_size=250,
        parameters=67_705_856,
        licence="Apache-2.0",
        source="fnlp/SpeechTokenizer",
        revision="4d54939beef00572fa7bfe41ee35a335c3732f51",
        revision_confirmed=False,
        files=("SpeechTokenizer.pt|speechtokenizer_hubert_avg/SpeechTokenizer.pt",),
        hop=320,
        paper_pooling="channels",
        where="Get speechtokenizer_hubert_avg/SpeechTokenizer.pt from https://huggingface.co/fnlp/SpeechTokenizer.",
        citation="Zhang et al., SpeechTokenizer, ICLR 2024, arXiv:2308.16692",
        trained_on="speech of LibriSpeech, 960 h of read English, towards frames of HuBERT",
        options={"codebooks": 0},
        options_before={"codebooks": 0},
        config={
            "codebooks": (8, 1024),
            "architecture": {
                "filters": 64,
                "dimension": 1024,
                "strides": [2, 4, 5, 8],
                "lstm_layers": 2,
                "bidirectional": True,
            },
            "codec_parameters": 103_675_586,
        },
    ),
    load,
)
