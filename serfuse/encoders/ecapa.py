"""ECAPA-TDNN of speechbrain/spkrec-ecapa-voxceleb: one vector per clip, or the frames that it is pooled from."""

from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .base import EncoderEntry, EncoderPreset, LoadRequest
from .checks import resized
from .mel_speaker import MelSpeaker, load_network
from .resolve import open_request

if TYPE_CHECKING:
    import torch

_HOP = 160
_OUTPUTS = ("utterance", "frames")


class Ecapa(MelSpeaker):
    """80 mel bands in decibels, less their mean over the clip, through squeezed and excited time-delay layers.

    Frames are `(1, 192)`, the speaker embedding as speechbrain's `encode_batch` gives it, or `(T, 3072)`, what its
    attentive pooling hears. `mean_var_norm_emb.ckpt`, which only some uses of that embedding subtract, is not read.
    """

    def __init__(self, preset: EncoderPreset, model: "torch.nn.Module", **settings: Any) -> None:
        super().__init__(preset, model, preset.config["input_size"], **settings)


def load(preset: EncoderPreset, request: LoadRequest) -> Ecapa:
    """Build the encoder. Option `output`: "utterance", one vector, or "frames", 100 a second.

    Raises:
        WeightsError: weights absent, incomplete, unsafe or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    opening = open_request(preset, request)
    weights, output = opening.weights, opening.options["output"]
    if output not in _OUTPUTS:
        raise ConfigError(f"Option output of {preset.name} is {' or '.join(_OUTPUTS)}, got {output!r}.")
    model = load_network(preset, weights, build)
    if output == "frames":
        from .ecapa_model import without_pooling

        preset = resized(preset, vector_size=preset.config["channels"][-1], hop=_HOP)
        model = without_pooling(model)
    return Ecapa(preset, model, weights_id=weights.id, device=opening.device, options=opening.options)


def build(preset: EncoderPreset) -> "torch.nn.Module":
    """The architecture, with whatever weights torch's generator and default device give."""
    from .ecapa_model import network

    return network(**preset.config)


ECAPA = EncoderEntry(
    EncoderPreset(
        name="ecapa",
        family="speaker",
        sample_rate=16000,
        vector_size=192,
        parameters=20_767_552,
        megabytes=83,
        licence="Apache-2.0",
        source="speechbrain/spkrec-ecapa-voxceleb",
        revision="eac27266f68caa806381260bd44ace38b136c76a",
        revision_confirmed=False,
        files=("embedding_model.ckpt",),
        min_samples=640,
        where="Get embedding_model.ckpt from https://huggingface.co/speechbrain/spkrec-ecapa-voxceleb.",
        citation="Desplanques et al., ECAPA-TDNN, Interspeech 2020, arXiv:2005.07143; Ravanelli et al., SpeechBrain, "
        "arXiv:2106.04624",
        trained_on="speakers of VoxCeleb 1 and 2, interviews, mostly English",
        options={"output": "utterance"},
        config={
            "input_size": 80,
            "channels": [1024, 1024, 1024, 1024, 3072],
            "kernel_sizes": [5, 3, 3, 3, 1],
            "dilations": [1, 2, 3, 4, 1],
            "attention_channels": 128,
            "lin_neurons": 192,
        },
    ),
    load,
)
