"""SNAC, the multi-scale codec: what goes into its quantiser, or comes out of it."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError
from .base import EncoderEntry, EncoderPreset, LoadRequest
from .checkpoints.locate import Weights
from .checks import resized, shown
from .codec import TorchCodec, asked_codebooks, count_codebooks
from .resolve import open_request

if TYPE_CHECKING:
    import torch

    from .residual_vq import FactorisedVQ
    from .snac_model import SnacEncoder

_WEIGHTS = "model.safetensors|pytorch_model.bin"
_FIRST = "encoder.block.0.bias"
_PARTS = ("in_proj.weight", "in_proj.bias", "out_proj.weight", "out_proj.bias", "codebook.weight")
_LOW = 8  # dimensions that a codebook looks in


def load(preset: EncoderPreset, request: LoadRequest) -> TorchCodec:
    """Build the encoder; the decoder of a checkpoint is left out.

    A clip is filled with zeros on the right to a whole window of attention and of the coarsest codebook, as the
    package does, and only the frames of the clip itself are given.

    Raises:
        WeightsError: weights absent, incomplete, unreadable or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    opening = open_request(preset, request)
    weights, options = opening.weights, opening.options
    architecture = preset.config["architecture"]
    asked = asked_codebooks(preset, options["codebooks"])
    count = options["codebooks"] = count_codebooks(preset, asked, len(architecture["vq_strides"]))
    model, quantiser = _random(preset, weights, count) if weights.random else _from_files(preset, weights, count)
    hop = math.prod(architecture["encoder_rates"])
    return TorchCodec(
        resized(preset, vector_size=model.block[-1].out_channels),
        model,
        weights_id=weights.id,
        device=opening.device,
        options=options,
        multiple=hop * math.lcm(architecture["vq_strides"][0], architecture["attn_window_size"] or 1),
        hop=hop,
        quantiser=quantiser,
    )


def build(preset: EncoderPreset) -> "SnacEncoder":
    """The full-size encoder, with whatever weights torch's generator and default device give."""
    return _encoder(preset.config["architecture"], preset.config["architecture"]["encoder_dim"])


def _encoder(architecture: dict[str, Any], channels: int) -> "SnacEncoder":
    from .snac_model import SnacEncoder

    return SnacEncoder(
        channels=channels,
        strides=architecture["encoder_rates"],
        window=architecture["attn_window_size"],
        depthwise=architecture["depthwise"],
    )


def _random(preset: EncoderPreset, weights: Weights, count: int) -> "tuple[SnacEncoder, FactorisedVQ | None]":
    import torch

    from .residual_vq import FactorisedVQ
    from .torch_inference import seeded

    size, strides = preset.config["codebook_size"], preset.config["architecture"]["vq_strides"]
    wide = preset.vector_size
    shapes = ((_LOW, wide), (_LOW,), (wide, _LOW), (wide,), (size, _LOW))
    with seeded(weights.seed):
        model = build(preset)
        parts = [[torch.randn(shape) / math.sqrt(shape[-1]) for shape in shapes] for _ in range(count)]
    return model, FactorisedVQ(parts, strides[:count]) if count else None


def _from_files(preset: EncoderPreset, weights: Weights, count: int) -> "tuple[SnacEncoder, FactorisedVQ | None]":
    import torch

    from .checkpoints.state_dict import load_part, read_state, tensor_size
    from .checkpoints.transformers_folder import without_weight_norm

    path = weights.file("pytorch_model.bin")
    _check_settings(preset, weights.file("config.json"))
    state = without_weight_norm(read_state(preset, path))
    # The width is free, so that a small checkpoint loads; strides, windows and groups are not.
    with torch.device("meta"):
        model = _encoder(preset.config["architecture"], tensor_size(preset, state, _FIRST, path))
    load_part(preset, model, state, "encoder.", path)
    quantiser = _quantiser(preset, state, count, path, model.block[-1].out_channels) if count else None
    weights.check_unchanged()
    return model, quantiser


def _check_settings(preset: EncoderPreset, path: Path) -> None:
    """Compare what decides the numbers and is in no tensor's shape with the published settings."""
    from .checkpoints.transformers_folder import read_json

    said = read_json(preset, path)
    expected = {"sampling_rate": preset.sample_rate, **preset.config["architecture"]}
    del expected["encoder_dim"]
    told = [
        f"{name} is {shown(repr(said.get(name)))}, expected {value!r}"
        for name, value in expected.items()
        if said.get(name) != value
    ]
    if told:
        raise WeightsError(f"{path} is of another model than {preset.name}: {', '.join(told)}. {preset.where}")


def _quantiser(
    preset: EncoderPreset, state: "dict[str, torch.Tensor]", count: int, path: Path, wide: int
) -> "FactorisedVQ":
    from .residual_vq import FactorisedVQ, check_finite

    books = []
    for place in range(count):
        names = [f"quantizer.quantizers.{place}.{part}" for part in _PARTS]
        parts = [state[name].float() for name in names if name in state]
        low = parts[-1].shape[-1] if len(parts) == len(names) and parts[-1].ndim else 0
        shapes = [(low, wide, 1), (low,), (wide, low, 1), (wide,), (*parts[-1].shape[:1], low)] if low else []
        if [tuple(part.shape) for part in parts] != shapes:
            raise WeightsError(f"{path} lacks codebook {place}, or it does not fit the encoder. {preset.where}")
        check_finite(preset, dict(zip(names, parts, strict=True)), path)
        books.append([part.reshape(part.shape[:2]) for part in parts])
    return FactorisedVQ(books, preset.config["architecture"]["vq_strides"][:count])


def _preset(
    kilohertz: int,
    sample_rate: int,
    encoder_dim: int,
    encoder_rates: list[int],
    vq_strides: list[int],
    attn_window_size: int | None,
    **fields: Any,
) -> EncoderEntry:
    """One of the published codecs."""
    source = f"hubertsiuzdak/snac_{kilohertz}khz"
    return EncoderEntry(
        EncoderPreset(
            name=f"snac-{kilohertz}khz",
            family="codec",
            sample_rate=sample_rate,
            vector_size=encoder_dim << len(encoder_rates),
            licence="MIT",
            source=source,
            files=("config.json", _WEIGHTS),
            hop=math.prod(encoder_rates),
            where=f"Get config.json and pytorch_model.bin from https://huggingface.co/{source}.",
            citation="Siuzdak et al., SNAC: Multi-Scale Neural Audio Codec, 2024, arXiv:2410.14411",
            options={"codebooks": 0},
            config={
                "codebook_size": 4096,
                "architecture": {
                    "encoder_dim": encoder_dim,
                    "encoder_rates": encoder_rates,
                    "attn_window_size": attn_window_size,
                    "vq_strides": vq_strides,
                    "depthwise": True,
                },
            },
            **fields,
        ),
        load,
    )


_MUSIC = "mostly music, and sounds; which recordings its publisher does not say"
ENTRIES = {
    entry.name: entry
    for entry in (
        _preset(
            24,
            24000,
            48,
            [2, 4, 8, 8],
            [4, 2, 1],
            None,
            megabytes=80,
            parameters=6_684_096,
            revision="c29a77c025506947a7ff15a678787b66b4c2ff47",
            revision_confirmed=False,
            trained_on="mostly speech; which recordings its publisher does not say",
        ),
        _preset(32, 32000, 64, [2, 3, 8, 8], [8, 4, 2, 1], 32, megabytes=218, parameters=15_999_232, trained_on=_MUSIC),
        _preset(44, 44100, 64, [2, 3, 8, 8], [8, 4, 2, 1], 32, megabytes=218, parameters=15_999_232, trained_on=_MUSIC),
    )
}
