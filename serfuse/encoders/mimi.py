"""Mimi, the codec of Moshi: what goes into its quantiser, or comes out of it, through transformers."""

import math
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, WeightsError
from .base import TRANSFORMERS_WEIGHTS, EncoderEntry, EncoderPreset, LoadRequest
from .checkpoints.locate import Weights
from .checks import resized
from .codec import TorchCodec, asked_codebooks, count_codebooks
from .resolve import open_request
from .transformers_encoder import open_model

if TYPE_CHECKING:
    import torch

_PREPARED = {"sampling_rate": 24000, "feature_size": 1, "chunk_length_s": None}


def load(preset: EncoderPreset, request: LoadRequest) -> TorchCodec:
    """Build the encoder, 12.5 frames of 512 per second; the decoder of a checkpoint is left out.

    The option `codebooks` counts the semantic one first, as Mimi does.

    Raises:
        WeightsError: weights absent, incomplete, unreadable or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    opening = open_request(preset, request)
    asked = asked_codebooks(preset, opening.options["codebooks"])
    model = _opened(preset, opening.weights)
    count = opening.options["codebooks"] = count_codebooks(preset, asked, model["quantizer"].max_num_quantizers)
    if 0 < count < model["quantizer"].num_semantic_quantizers:
        raise ConfigError(f"{preset.name} has {model['quantizer'].num_semantic_quantizers} codebooks that go together.")
    if not opening.weights.random:
        _check_rate(preset, opening.weights, model["encoder"].config)
    frontend, quantiser = _modules(model, count)
    return TorchCodec(
        resized(preset, vector_size=model["encoder"].config.latent_dim, hop=model["encoder"].config.frame_size),
        frontend,
        weights_id=opening.weights.id,
        device=opening.device,
        options=opening.options,
        quantiser=quantiser if count else None,
    )


def build(preset: EncoderPreset) -> "torch.nn.Module":
    """The full-size encoder with the quantiser, with whatever weights torch's generator gives."""
    return _build(dict(preset.config["architecture"]))


def _opened(preset: EncoderPreset, weights: Weights) -> "torch.nn.ModuleDict":
    return open_model(preset, weights, _on_cpu, "MimiConfig", prefixes=("",), prepared=_PREPARED, rename=_present_names)


def _on_cpu(settings: dict[str, Any]) -> "torch.nn.ModuleDict":
    """Strides and rotations are numbers of the model that are in no checkpoint: a meta device would lose them."""
    import torch

    with torch.device("cpu"):
        return _build(settings)


def _build(settings: dict[str, Any]) -> "torch.nn.ModuleDict":
    import torch
    import transformers
    from transformers.models.mimi.modeling_mimi import MimiEncoderModel, MimiSplitResidualVectorQuantizer

    config = transformers.MimiConfig(**settings)
    config._attn_implementation = "sdpa"
    encoder = MimiEncoderModel(config.encoder_config)
    return torch.nn.ModuleDict({"encoder": encoder, "quantizer": MimiSplitResidualVectorQuantizer(config)})


def _present_names(state: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Names in the hub's file and those of later transformers -> those of `_build`; the decoder's are left out."""
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("encoder.layers."):
            renamed[f"encoder.encoder_seanet.{name.removeprefix('encoder.')}"] = tensor
        elif name.startswith(("encoder_transformer.", "downsample.")):
            renamed[f"encoder.{name}"] = tensor
        elif name.startswith(("encoder.", "quantizer.")):
            renamed[name] = tensor
    return renamed


def _check_rate(preset: EncoderPreset, weights: Weights, config: Any) -> None:
    """Frame rates are derived from the strides; a config.json that says another one is of another codec."""
    from .checkpoints.transformers_folder import read_json

    path = weights.file("config.json")
    said = read_json(preset, path).get("frame_rate", 12.5)
    made = config.sampling_rate / config.frame_size
    if not isinstance(said, int | float) or not math.isclose(said, made):
        raise WeightsError(f"{path} says frame_rate {said!r}, and its strides give {made:g} frames a second.")


def _modules(model: "torch.nn.ModuleDict", count: int) -> "tuple[torch.nn.Module, torch.nn.Module]":
    """Waveforms `(B, 1, samples)` to latents `(B, D, T)`, and latents to the vectors that are chosen for them."""
    import torch

    class Latents(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = model["encoder"]

        def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
            return self.encoder(waveforms).latents

    class Chosen(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quantizer = model["quantizer"]

        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            return self.quantizer.decode(self.quantizer.encode(latents, count).transpose(0, 1))

    return Latents(), Chosen()


MIMI = EncoderEntry(
    EncoderPreset(
        name="mimi",
        family="codec",
        sample_rate=24000,
        vector_size=512,
        parameters=38_867_232,
        megabytes=385,
        licence="CC-BY-4.0",
        source="kyutai/mimi",
        files=("config.json", "preprocessor_config.json", TRANSFORMERS_WEIGHTS),
        hop=1920,
        citation="Defossez et al., Moshi, 2024, arXiv:2410.00037",
        trained_on="7 million h of audio from the web, mostly English speech; which recordings is not known",
        options={"codebooks": 0},
        config={"model_type": "mimi", "architecture": {"hidden_size": 512}},
    ),
    load,
)
