"""The x-vector of speechbrain/spkrec-xvect-voxceleb: one vector per clip."""

from typing import TYPE_CHECKING, Any

from .base import EncoderEntry, EncoderPreset, LoadRequest
from .mel_speaker import MelSpeaker, load_network
from .resolve import open_request

if TYPE_CHECKING:
    from speechbrain.lobes.models.Xvector import Xvector


class XVector(MelSpeaker):
    """24 mel bands in decibels, less their mean over the clip, through a time-delay network: frames `(1, 512)`.

    Clips of different length are told apart here: speechbrain's own masking moves the vector by 0.03 to 0.05.
    """

    def __init__(self, preset: EncoderPreset, model: "Xvector", **settings: Any) -> None:
        super().__init__(preset, model, preset.config["in_channels"], **settings)


def load(preset: EncoderPreset, request: LoadRequest) -> XVector:
    """Build the encoder.

    Raises:
        WeightsError: weights absent, incomplete, unsafe or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    opening = open_request(preset, request)
    weights = opening.weights
    model = load_network(preset, weights, build)
    return XVector(preset, model, weights_id=weights.id, device=opening.device, options=opening.options)


def build(preset: EncoderPreset) -> "Xvector":
    """The architecture, with whatever weights torch's generator and default device give."""
    from .xvector_model import network

    return network(**preset.config)


XVECTOR = EncoderEntry(
    EncoderPreset(
        name="xvector",
        family="speaker",
        sample_rate=16000,
        vector_size=512,
        paper_vector_size=512,
        parameters=4_211_604,
        paper_parameters="4.2 M",
        licence="Apache-2.0",
        source="speechbrain/spkrec-xvect-voxceleb",
        revision="56895a2df401be4150a159f3a1c653f00051d477",
        revision_confirmed=False,
        files=("embedding_model.ckpt",),
        min_samples=480,
        where="Get embedding_model.ckpt from https://huggingface.co/speechbrain/spkrec-xvect-voxceleb.",
        citation="Snyder et al., X-vectors, ICASSP 2018; Ravanelli et al., SpeechBrain, arXiv:2106.04624",
        megabytes=17,
        trained_on="speakers of VoxCeleb 1 and 2, interviews, mostly English",
        config={
            "in_channels": 24,
            "tdnn_blocks": 5,
            "tdnn_channels": [512, 512, 512, 512, 1500],
            "tdnn_kernel_sizes": [5, 3, 3, 1, 1],
            "tdnn_dilations": [1, 2, 3, 1, 1],
            "lin_neurons": 512,
        },
    ),
    load,
)
