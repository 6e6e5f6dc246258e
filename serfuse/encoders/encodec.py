"""EnCodec at 24 kHz through the encodec package: what goes into its quantiser, or comes out of it.

Its weights are taken in the package's own form, or in transformers', which has other names for the same tensors.
"""

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import WeightsError
from .base import TRANSFORMERS_WEIGHTS, EncoderEntry, EncoderPreset, LoadRequest
from .checkpoints.locate import Weights, sha256
from .checks import resized
from .codec import TorchCodec, asked_codebooks
from .resolve import open_request

if TYPE_CHECKING:
    import torch

    from .residual_vq import ResidualVQ

_FILE = "encodec_24khz-d7cc33bc.th"
_FIRST = "encoder.model.0.conv.conv.weight_v"
_LAST = "encoder.model.15.conv.conv.weight_v"
_BACKWARDS = "encoder.model.13.lstm.weight_ih_l0_reverse"
_BOOK = "quantizer.vq.layers.{}._codebook.embed"


_TOGETHER = 8
"""Frames that a clip must have to share a pass with longer ones: in a shorter one some reflection reaches its end."""


def _stride(module: "torch.nn.Module") -> int:
    """Of a convolution as the package wraps it."""
    return module.conv.conv.stride[0]


def load(preset: EncoderPreset, request: LoadRequest) -> TorchCodec:
    """Build the encoder, 75 frames of 128 per second, causal.

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
            model = _encoder()
            quantiser, options["codebooks"] = random_quantiser(preset, preset.vector_size, asked)
    else:
        model, quantiser, options["codebooks"] = _from_files(preset, weights, asked)
        preset = resized(preset, vector_size=model.dimension)
        weights.check_unchanged()
    _fuse(model)
    from .clip_ends import ClipEnds

    strided = [module for module in model.model if getattr(module, "conv", None) and _stride(module) > 1]
    return TorchCodec(
        preset,
        model,
        weights_id=weights.id,
        device=opening.device,
        options=options,
        quantiser=quantiser,
        apart=ClipEnds(strided, [_stride(module) for module in strided]),
        apart_from=_TOGETHER * preset.hop,
        side_by_side=True,
    )


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


def _from_files(
    preset: EncoderPreset, weights: Weights, asked: int | None
) -> "tuple[torch.nn.Module, ResidualVQ | None, int]":
    import torch

    from .checkpoints.state_dict import load_part, tensor_size
    from .checkpoints.transformers_folder import read_all
    from .residual_vq import quantiser_of

    path = weights.checkpoints[0]
    expected = preset.config["sha256_prefix"]
    # The publisher puts the beginning of the hash into the name, for checks like this.
    if path.name == _FILE and not sha256(path).startswith(expected):
        raise WeightsError(
            f"{path} is damaged or another file: its sha256 begins with {sha256(path)[:8]}, the published one with "
            f"{expected}. {preset.where}"
        )
    if weights.has("config.json"):
        _check_config(preset, weights.file("config.json"))
    state = {_package_name(name): tensor for name, tensor in read_all(preset, weights).items()}
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
    return model, *quantiser_of(preset, state, _BOOK, asked, path, dimension=widths["dimension"])


def _check_config(preset: EncoderPreset, path: Path) -> None:
    """Refuse the `config.json` of another EnCodec (48 kHz, 32 kHz, not causal ...) than the published one of 24 kHz."""
    from .checkpoints.transformers_config import FIELDS, admitted
    from .checkpoints.transformers_folder import check_model, read_json

    expected = {"model_type": "encodec", "sampling_rate": preset.sample_rate, "upsampling_ratios": [8, 5, 4, 2]}
    check_model(preset, path, expected, defaults={name: expected[name] for name in expected if name != "model_type"})
    admitted(preset, path, read_json(preset, path), FIELDS["encodec"])


def _package_name(name: str) -> str:
    """The name that the encodec package gives to a tensor of transformers'; its own names stay."""
    if not re.match(r"(encoder|quantizer)\.layers\.", name):
        return name
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        name = name.replace(f"parametrizations.weight.{new}", old)
    name = name.replace("encoder.layers.", "encoder.model.").replace(".conv.", ".conv.conv.")
    return name.replace("quantizer.layers.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")


def _fuse(model: "torch.nn.Module") -> None:
    """Compute the normalised weights once instead of at every call."""
    import torch

    from .torch_inference import without_cudnn

    with _quiet():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv1d):
                torch.nn.utils.remove_weight_norm(module)
                # For these widths and lengths cuDNN takes 8 GiB for three seconds of audio, and a second of time.
                without_cudnn(module)


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
        source="facebook/encodec_24khz",
        revision="c1dbe2ae3f1de713481a3b3e7c47f357092ee040",
        revision_confirmed=False,
        files=(_FILE,),
        other_files=(("config.json", TRANSFORMERS_WEIGHTS), (TRANSFORMERS_WEIGHTS,)),
        hop=320,
        paper_pooling="channels",
        where=(
            "Get them from https://huggingface.co/facebook/encodec_24khz, or "
            f"https://dl.fbaipublicfiles.com/encodec/v0/{_FILE} (93 MB)."
        ),
        citation="Defossez et al., High Fidelity Neural Audio Compression, TMLR 2023, arXiv:2210.13438",
        trained_on="speech and sounds of DNS Challenge 4, Common Voice, AudioSet, FSD50K and Jamendo, without labels",
        options={"codebooks": 0},
        options_before={"codebooks": 0},
        config={
            "model_type": "encodec",
            "sha256_prefix": "d7cc33bc",
            "codebooks": (32, 1024),
            "codec_parameters": 14_851_810,
        },
    ),
    load,
)
