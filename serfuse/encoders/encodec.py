"""EnCodec at 24 kHz through the encodec package: what goes into its quantiser."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import WeightsError
from .base import EncoderEntry, EncoderPreset, LoadRequest, PublishedFile
from .checkpoints.locate import sha256
from .checks import resized
from .codec import TorchCodec
from .resolve import open_request

if TYPE_CHECKING:
    import torch

_FIRST = "encoder.model.0.conv.conv.weight_v"
_LAST = "encoder.model.15.conv.conv.weight_v"
_BACKWARDS = "encoder.model.13.lstm.weight_ih_l0_reverse"


def load(preset: EncoderPreset, request: LoadRequest) -> TorchCodec:
    """Build the encoder, 75 frames of 128 per second, causal.

    Raises:
        WeightsError: weights absent, incomplete, unreadable or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    from .torch_inference import seeded

    opening = open_request(preset, request)
    weights = opening.weights
    if weights.random:
        with seeded(weights.seed):
            model = _encoder()
    else:
        model = _from_file(preset, weights.file(preset.files[0]))
        preset = resized(preset, vector_size=model.dimension)
    _fuse(model)
    return TorchCodec(preset, model, weights_id=weights.id, device=opening.device, options=opening.options)


def build(preset: EncoderPreset) -> "torch.nn.Module":
    """The whole codec at full size, with whatever weights torch's generator and default device give."""
    import encodec

    with _quiet():
        return encodec.EncodecModel.encodec_model_24khz(pretrained=False)


def _encoder(**widths: int) -> "torch.nn.Module":
    """The encoder as EncodecModel.encodec_model_24khz builds it, with free widths."""
    import encodec

    with _quiet():
        return encodec.modules.SEANetEncoder(channels=1, norm="weight_norm", causal=True, **widths)


def _from_file(preset: EncoderPreset, path: Path) -> "torch.nn.Module":
    import torch

    from .checkpoints.state_dict import load_part, read_state, tensor_size

    expected = preset.config["sha256_prefix"]
    # The publisher puts the beginning of the hash into the name, for checks like this.
    if path.name == preset.files[0] and not sha256(path).startswith(expected):
        raise WeightsError(
            f"{path} is damaged or another file: its sha256 begins with {sha256(path)[:8]}, the published one with "
            f"{expected}. {preset.where}"
        )
    state = read_state(preset, path)
    # Widths are free, so that a small checkpoint loads; strides and layers are not: their tensors would not fit.
    widths = {
        "n_filters": tensor_size(preset, state, _FIRST, path),
        "dimension": tensor_size(preset, state, _LAST, path),
    }
    if _BACKWARDS in state:
        raise WeightsError(
            f"{path} holds another model than {preset.name}: its LSTM has two directions, as SpeechTokenizer's, "
            f"expected one. {preset.where}"
        )
    with torch.device("meta"):
        model = _encoder(**widths)
    load_part(preset, model, state, "encoder.", path)
    return model


def _fuse(model: "torch.nn.Module") -> None:
    """Compute the normalised weights once instead of at every call."""
    import torch

    with _quiet():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv1d):
                torch.nn.utils.remove_weight_norm(module)


def _quiet() -> warnings.catch_warnings:
    """encodec 0.1.1 uses the older weight_norm, which torch 2 announces the end of at every convolution."""
    return warnings.catch_warnings(action="ignore", category=FutureWarning)


ENCODEC = EncoderEntry(
    EncoderPreset(
        name="encodec",
        family="codec",
        sample_rate=24000,
        vector_size=128,
        paper_vector_size=375,
        parameters=7_425_792,
        licence="MIT (repository); the installed package's metadata says CC-BY-NC-4.0",
        source="https://dl.fbaipublicfiles.com/encodec/v0/encodec_24khz-d7cc33bc.th",
        files=("encodec_24khz-d7cc33bc.th",),
        published=(
            PublishedFile(
                "encodec_24khz-d7cc33bc.th",
                sha256="d7cc33bc",
                limit=100_000_000,
                address="https://dl.fbaipublicfiles.com/encodec/v0/encodec_24khz-d7cc33bc.th",
            ),
        ),
        hop=320,
        paper_pooling="channels",
        where="Get https://dl.fbaipublicfiles.com/encodec/v0/encodec_24khz-d7cc33bc.th (93 MB).",
        citation="Defossez et al., High Fidelity Neural Audio Compression, TMLR 2023, arXiv:2210.13438",
        config={"sha256_prefix": "d7cc33bc", "codec_parameters": 14_851_810},
    ),
    load,
)
