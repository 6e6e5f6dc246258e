"""The Descript Audio Codec at 16 kHz through transformers: what goes into its quantiser."""

from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .base import TRANSFORMERS_WEIGHTS, EncoderEntry, EncoderPreset, LoadRequest
from .checkpoints.locate import Weights
from .checks import resized
from .codec import TorchCodec
from .resolve import open_request

if TYPE_CHECKING:
    import torch

_SHORTEST = 319  # samples that give one frame without filling up
_MOST = 16000  # of pad_to, a second


def load(preset: EncoderPreset, request: LoadRequest) -> TorchCodec:
    """Build the encoder, 50 frames of 1024 per second.

    The option `pad_to` is the number of samples to whose multiples a clip is filled up with zeros first: 512 is
    the default of transformers' DacFeatureExtractor, which gives the 251 frames of 5.000 s that the papers print;
    320, the codec's own stride, gives 250.

    Raises:
        WeightsError: weights absent, incomplete, unreadable or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    opening = open_request(preset, request)
    weights, options = opening.weights, opening.options
    options["pad_to"] = _positive(options["pad_to"])
    model = _random(preset, weights) if weights.random else _from_files(preset, weights)
    shortest = 1 if options["pad_to"] >= _SHORTEST else _SHORTEST
    preset = resized(preset, vector_size=model.config.hidden_size, min_samples=shortest)
    # The decoder and the quantiser are two thirds of the parameters and are not run.
    return TorchCodec(
        preset, model.encoder, weights_id=weights.id, device=opening.device, options=options, multiple=options["pad_to"]
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


def _from_files(preset: EncoderPreset, weights: Weights) -> "torch.nn.Module":
    import transformers

    from .checkpoints.transformers_folder import check_model, load_pretrained

    ratios = list(preset.config["architecture"]["downsampling_ratios"])
    expected = {"model_type": "dac", "sampling_rate": preset.sample_rate, "downsampling_ratios": ratios}
    check_model(preset, weights.file("config.json"), expected, defaults={"sampling_rate": 16000})
    return load_pretrained(preset, weights, transformers.DacModel)


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
        files=("config.json", TRANSFORMERS_WEIGHTS),
        hop=320,
        paper_pooling="channels",
        citation="Kumar et al., High-Fidelity Audio Compression with Improved RVQGAN, NeurIPS 2023, arXiv:2306.06546",
        options={"pad_to": 512},
        config={
            "architecture": {"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 12},
            "codec_parameters": 74_141_697,
        },
    ),
    load,
)
