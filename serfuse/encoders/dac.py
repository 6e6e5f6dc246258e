"""The Descript Audio Codec at 16 kHz: what goes into its quantiser, or comes out of it.

transformers' implementation of the encoder (on a CPU in another order of memory, see `dac_cpu`), with weights in
transformers' form or in Descript's own.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, WeightsError
from .base import TRANSFORMERS_WEIGHTS, EncoderEntry, EncoderPreset, LoadRequest
from .checkpoints.locate import Weights
from .checks import resized, shown
from .codec import TorchCodec, asked_codebooks, count_codebooks
from .resolve import open_request

if TYPE_CHECKING:
    import torch

    from .residual_vq import FactorisedVQ

_SHORTEST = 319  # samples that give one frame without filling up
_MOST = 16000  # of pad_to, a second
_ORIGINAL = "weights_16khz.pth"
_PARTS = ("in_proj.weight", "in_proj.bias", "out_proj.weight", "out_proj.bias", "codebook.weight")


def load(preset: EncoderPreset, request: LoadRequest) -> TorchCodec:
    """Build the encoder, 50 frames of 1024 per second.

    The option `pad_to` is the number of samples to whose multiples a clip is filled up with zeros first: 320, the
    codec's own stride, is what Descript's code fills to. 512 is the default of transformers' DacFeatureExtractor and
    gives 251 frames of 5.000 s, as many as the papers print; it is the default under the pooling "paper".

    Raises:
        WeightsError: weights absent, incomplete, unreadable or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    opening = open_request(preset, request)
    weights, options = opening.weights, opening.options
    options["pad_to"] = _positive(options["pad_to"])
    asked = asked_codebooks(preset, options["codebooks"])
    if weights.random:
        model = _random(preset, weights)
        encoder, state, place = model.encoder, model.state_dict(), Path()
    else:
        encoder, state, place = _from_files(preset, weights)
        weights.check_unchanged()
    quantiser, options["codebooks"] = _quantiser(preset, state, asked, place)
    shortest = 1 if options["pad_to"] >= _SHORTEST else _SHORTEST
    preset = resized(preset, vector_size=encoder.conv2.out_channels, min_samples=shortest)
    apart = None
    if opening.device == "cpu":
        from .dac_cpu import CpuDacEncoder

        encoder = CpuDacEncoder(encoder)
    elif options["pad_to"] % preset.hop == 0:
        from .clip_ends import ClipZeros

        apart = ClipZeros(encoder)
    # The decoder and the quantiser are two thirds of the parameters; the first is never run.
    return TorchCodec(
        preset,
        encoder,
        weights_id=weights.id,
        device=opening.device,
        options=options,
        multiple=options["pad_to"],
        quantiser=quantiser,
        apart=apart,
    )


def build(preset: EncoderPreset) -> "torch.nn.Module":
    """The whole codec at full size, with whatever weights torch's generator and default device give."""
    import transformers

    return transformers.DacModel(transformers.DacConfig(**preset.config["architecture"]))


def _positive(value: Any) -> int:
    if not str(value).isdecimal() or not 1 <= int(value) <= _MOST:
        raise ConfigError(f"The option pad_to of dac is a number of samples, 1 to {_MOST}, got {value!r}.")
    return int(value)


def _random(preset: EncoderPreset, weights: Weights) -> "torch.nn.Module":
    from .checkpoints.transformers_folder import quiet
    from .torch_inference import seeded

    with seeded(weights.seed), quiet():
        return build(preset)


def _from_files(preset: EncoderPreset, weights: Weights) -> "tuple[torch.nn.Module, dict[str, torch.Tensor], Path]":
    """The encoder, the tensors of the whole codec by transformers' names, and where they are from."""
    from .checkpoints.transformers_folder import check_model, load_model, without_weight_norm

    ratios = list(preset.config["architecture"]["downsampling_ratios"])
    if not weights.has("config.json"):
        return _from_original(preset, weights.file(_ORIGINAL), ratios)
    import transformers

    expected = {"model_type": "dac", "sampling_rate": preset.sample_rate, "downsampling_ratios": ratios}
    check_model(preset, weights.file("config.json"), expected, defaults={"sampling_rate": 16000})
    kept: dict[str, torch.Tensor] = {}

    def rename(state: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        kept.update(without_weight_norm(state))
        return kept

    model = load_model(preset, weights, _encoder, transformers.DacConfig, rename=rename)
    return model["encoder"], kept, weights.folder


def _encoder(settings: dict[str, Any]) -> "torch.nn.ModuleDict":
    """DAC's encoder alone, under the name that it has in the codec."""
    import torch
    import transformers

    config = transformers.DacConfig(**settings, decoder_hidden_size=16, n_codebooks=1)
    return torch.nn.ModuleDict({"encoder": transformers.DacModel(config).encoder})


def _from_original(
    preset: EncoderPreset, path: Path, ratios: list[int]
) -> "tuple[torch.nn.Module, dict[str, torch.Tensor], Path]":
    """A file of descript-audio-codec: `{"state_dict": tensors, "metadata": {"kwargs": settings}}`."""
    import torch

    from .checkpoints.state_dict import flat, is_safetensors, reading, tensor_size
    from .checkpoints.torch_file import open_torch_file
    from .checkpoints.transformers_folder import fill, quiet, without_weight_norm
    from .torch_inference import seeded

    with reading(preset, path):
        if is_safetensors(path):
            raise WeightsError(f"{path} in transformers' form needs the config.json beside it. {preset.where}")
        with open_torch_file(path) as file:
            content = file.content if isinstance(file.content, dict) else {}
            if not isinstance(content.get("state_dict"), dict):
                raise WeightsError(
                    f"{path} holds no state_dict, as descript-audio-codec writes it; in transformers' form it needs "
                    f"the config.json beside it. {preset.where}"
                )
            _check_settings(preset, path, content, ratios)
            state = file.tensors(flat(preset, path, content["state_dict"]))
    state = without_weight_norm({_transformers_name(name): tensor for name, tensor in state.items()})
    width = tensor_size(preset, state, "encoder.conv1.weight", path)
    # The widest layer has 64 width squared numbers; what claims more than the file has is not built.
    if 64 * width**2 > path.stat().st_size:
        raise WeightsError(f"{path} is damaged: {width} channels in a file of {path.stat().st_size} bytes.")
    with quiet(), seeded(0), torch.device("meta"):
        model = _encoder({"encoder_hidden_size": width, "downsampling_ratios": ratios})
    fill(preset, path, model, state)
    return model["encoder"], state, path


def _check_settings(preset: EncoderPreset, path: Path, content: dict[str, Any], ratios: list[int]) -> None:
    metadata = content.get("metadata")
    settings = metadata.get("kwargs") if isinstance(metadata, dict) else None
    expected = {"sample_rate": preset.sample_rate, "encoder_rates": ratios}
    got = {name: settings.get(name) for name in expected} if isinstance(settings, dict) else {}
    if got != expected:
        told = ", ".join(
            f"{name} is {shown(repr(got.get(name)))}, expected {value}" for name, value in expected.items()
        )
        raise WeightsError(f"{path} holds another model than {preset.name}: {told}. {preset.where}")


def _transformers_name(name: str) -> str:
    """The name that transformers gives to a tensor of Descript's."""
    places = re.fullmatch(r"encoder\.block\.([0-6])\.(?:block\.([0-4])\.)?(?:block\.([0-3])\.)?(\w+)", name)
    if places is None:
        return name
    block, layer, unit, leaf = places.groups()
    ends = {"0": "conv1", "5": "snake1", "6": "conv2"}
    if block in ends:
        return f"encoder.{ends[block]}.{leaf}"
    prefix = f"encoder.block.{int(block) - 1}"
    if unit is None:
        return f"{prefix}.{'snake1' if layer == '3' else 'conv1'}.{leaf}"
    return f"{prefix}.res_unit{int(layer or 0) + 1}.{('snake1', 'conv1', 'snake2', 'conv2')[int(unit)]}.{leaf}"


def _quantiser(
    preset: EncoderPreset, state: "dict[str, torch.Tensor]", asked: int | None, place: Path
) -> "tuple[FactorisedVQ | None, int]":
    """The quantiser of a codec, by transformers' names, and how many codebooks it sums."""
    from .residual_vq import FactorisedVQ, check_finite

    if asked == 0:
        return None, 0
    count = 0
    while f"quantizer.quantizers.{count}.codebook.weight" in state:
        count += 1
    number = count_codebooks(preset, asked, count)
    if not number:
        raise WeightsError(f"{place} holds no codebooks, which codebooks=all needs.")
    names = [[f"quantizer.quantizers.{book}.{part}" for part in _PARTS] for book in range(number)]
    parts = {name: state[name].float() for of_one in names for name in of_one if name in state}
    check_finite(preset, parts, place)
    dimension = len(state["encoder.conv2.bias"])
    for into, into_bias, back, back_bias, book in names:
        low = parts[book].shape[-1]
        shapes = {into: (low, dimension, 1), into_bias: (low,), back: (dimension, low, 1), back_bias: (dimension,)}
        for name, shape in shapes.items():
            if name not in parts or parts[name].shape != shape:
                raise WeightsError(f"{place} holds no {name} of shape {shape}, which codebooks={asked or 'all'} needs.")
    return FactorisedVQ([[parts[name].reshape(parts[name].shape[:2]) for name in of_one] for of_one in names]), number


DAC = EncoderEntry(
    EncoderPreset(
        name="dac",
        family="codec",
        sample_rate=16000,
        vector_size=1024,
        paper_vector_size=251,
        parameters=21_512_768,
        licence="MIT",
        source="descript/dac_16khz",
        revision="7c2fc5e759f1f501aefc6e7a0265cc57f5d17ba7",
        revision_confirmed=False,
        files=("config.json", TRANSFORMERS_WEIGHTS),
        other_files=((_ORIGINAL,),),
        hop=320,
        paper_pooling="channels",
        citation="Kumar et al., High-Fidelity Audio Compression with Improved RVQGAN, NeurIPS 2023, arXiv:2306.06546",
        trained_on="speech and sounds of DAPS, DNS Challenge 4, Common Voice, VCTK, MUSDB, Jamendo and AudioSet, "
        "without labels",
        where=(
            "Get them from https://huggingface.co/descript/dac_16khz, or weights_16khz.pth (release 0.0.5) from "
            "https://github.com/descriptinc/descript-audio-codec."
        ),
        options={"pad_to": 320, "codebooks": 0},
        options_before={"codebooks": 0},
        paper_options={"pad_to": 512},
        config={
            "model_type": "dac",
            "architecture": {"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 12},
            "codec_parameters": 74_141_697,
        },
    ),
    load,
)
