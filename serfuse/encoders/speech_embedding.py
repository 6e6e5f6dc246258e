"""Google's speech embedding, with the weights that the package openwakeword carries as TensorFlow Lite files.

The files are read as tables of numbers and computed with in torch, so that no interpreter is needed, a GPU can be used
and clips run in batches.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import WeightsError
from .base import Encoder, EncoderEntry, EncoderPreset, LoadRequest, PublishedFile
from .checkpoints.locate import Weights
from .checks import check_batch
from .resolve import open_request
from .turns import on_host

if TYPE_CHECKING:
    from .speech_embedding_model import Network

COLUMNS, COLUMN_STEP = 76, 8
"""Columns of the spectrogram under one frame, and from one frame to the next."""

_SPECTROGRAM, _EMBEDDING = "melspectrogram.tflite", "embedding_model.tflite"


class SpeechEmbedding(Encoder):
    """96 numbers every 80 ms, each of 0.78 s of sound; frames that would reach beyond the clip are left out.

    Samples are brought to 16-bit integers first, which is all that the package takes.
    """

    def __init__(
        self,
        preset: EncoderPreset,
        model: "Network",
        *,
        weights_id: str,
        device: str = "cpu",
    ) -> None:
        self.preset = preset
        self.weights_id = weights_id
        self.options = {}
        self.device = device
        # The spectrogram on the CPU whatever the device, so that the input of the network is the same.
        self._spectrogram = model.spectrogram.eval()
        self._convolutions = model.convolutions.to(device).eval().requires_grad_(False)

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        return self.frames_batch([waveform])[0]

    def frames_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        import torch

        from .torch_inference import inference

        batch = check_batch(self.preset, waveforms)
        samples = np.clip(np.round(batch * np.float32(32768)), -32768, 32767)
        with inference():
            spectrogram = self._spectrogram(torch.from_numpy(samples))
            frames = (spectrogram.shape[1] - COLUMNS) // COLUMN_STEP + 1
            spectrogram = spectrogram[:, : COLUMNS + COLUMN_STEP * (frames - 1)]
            # On a CPU a batch is no faster than its clips, which then are what they are alone to the last digit.
            together = spectrogram.split(1) if self.device == "cpu" else [spectrogram.to(self.device)]
            return [clip for part in together for clip in on_host(self._convolutions(part).contiguous())]


def load(preset: EncoderPreset, request: LoadRequest) -> SpeechEmbedding:
    """Build the encoder.

    Raises:
        WeightsError: weights absent or incomplete, or a file is not the published one, byte by byte.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    from .torch_inference import seeded

    opening = open_request(preset, request)
    weights = opening.weights
    with seeded(weights.seed or 0):
        model = build(preset)
    if not weights.random:
        _fill(preset, model, weights)
    return SpeechEmbedding(preset, model, weights_id=weights.id, device=opening.device)


def build(preset: EncoderPreset) -> "Network":
    """The architecture, with whatever weights torch's generator and default device give."""
    from .speech_embedding_model import Network

    return Network(**preset.config)


def _fill(preset: EncoderPreset, model: "Network", weights: Weights) -> None:
    import torch

    for module, name, sort in (
        (model.spectrogram, _SPECTROGRAM, _spectrogram),
        (model.convolutions, _EMBEDDING, _convolutions),
    ):
        tensors = _read(preset, name, weights)
        try:
            state = {key: torch.from_numpy(value.copy()) for key, value in sort(preset, tensors).items()}
            module.load_state_dict(state)
        # KeyError and StopIteration: a tensor is not there; RuntimeError, ValueError: it has another shape.
        except (KeyError, StopIteration, RuntimeError, ValueError) as error:
            raise WeightsError(
                f"{weights.file(name)} holds another model than {preset.name}: {error!r:.200}. {preset.where}"
            ) from error


def _read(preset: EncoderPreset, name: str, weights: Weights) -> dict[str, np.ndarray]:
    """The tensors of a file, once it is known to be the published one."""
    from .checkpoints.tflite_file import read_tensors

    published = next(file for file in preset.published if file.name == name)
    path = weights.file(name)
    with path.open("rb") as stream:
        content = stream.read(published.limit + 1)
    if (found := hashlib.sha256(content).hexdigest()) != published.sha256:
        raise WeightsError(
            f"{path} is damaged or another file than the published {name}: its sha256 is {found}, expected "
            f"{published.sha256}. Get it anew with: serfuse weights get {preset.name}."
        )
    try:
        return read_tensors(content)
    except ValueError as error:
        raise WeightsError(f"{path} could not be read: {error}. {preset.where}") from error


def _spectrogram(preset: EncoderPreset, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kernels are stored as (bins, 1, samples, 1)."""
    cosine, sine = (tensors[name].transpose(0, 3, 1, 2)[:, 0] for name in ("convolution1", "convolution_1"))
    return {"cosine": cosine, "sine": sine, "bands": tensors["Const_3"]}


def _convolutions(preset: EncoderPreset, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kernels are stored as (out, time, bands, in), their normalisations multiplied into them and the biases."""
    state = {}
    last = len(preset.config["layers"]) - 1
    for number in range(last + 1):
        suffix = f"_{number}" if number else ""
        own = f"model/conv2d{suffix}/Conv2D"
        if number == last:  # no normalisation follows: the converter gave the bias the convolution's name
            kernel, bias = tensors[f"{own}1"], tensors[own]
        else:
            kernel = tensors[own]
            begin = f"model/batch_normalization{suffix}/"
            bias = next(value for name, value in tensors.items() if name.startswith(begin))
        state[f"convolutions.{number}.weight"] = kernel.transpose(0, 3, 1, 2)
        state[f"convolutions.{number}.bias"] = bias
    return state


def _published(name: str, sha256: str, limit: int) -> PublishedFile:
    member = f"openwakeword/resources/models/{name}"
    return PublishedFile(name, sha256, limit, wheel="openwakeword==0.5.1", member=member)


SPEECH_EMBEDDING = EncoderEntry(
    EncoderPreset(
        name="speech-embedding",
        family="keyword",
        sample_rate=16000,
        vector_size=96,
        parameters=328_224,
        licence="Apache-2.0 (Google's model; openwakeword's own, CC-BY-NC-SA-4.0, are not taken)",
        source="https://pypi.org/project/openwakeword/0.5.1/",
        files=(_SPECTROGRAM, _EMBEDDING),
        published=(
            _published(_SPECTROGRAM, "96fa0adccb6e8cf95cb14465409a1a2898ee4a96a85bb9ed3c7eb0e68bf163e8", 1_200_000),
            _published(_EMBEDDING, "c0aea21eb84a4ce90a08c870da41b7a7173b45269e6a3207c71d67c40f3a59d8", 1_400_000),
        ),
        hop=1280,
        min_samples=512 + 160 * (COLUMNS - 1),
        where=f"Take {_SPECTROGRAM} and {_EMBEDDING} (2.4 MB) out of openwakeword/resources/models of the wheel "
        "https://pypi.org/project/openwakeword/0.5.1/.",
        citation="Lin et al., Training Keyword Spotters with Limited and Synthesized Speech Data, ICASSP 2020, "
        "arXiv:2002.01322; openWakeWord's files",
        trained_on="200 million clips of 2 s from the web, towards 5,000 keywords, English; which "
        "recordings is not known",
        config={
            "bins": 257,
            "bands": 32,
            # width, kernel over time and bands, pooling over time and bands
            "layers": [
                [24, 3, 3, 1, 1],
                [24, 1, 3, 1, 1],
                [24, 3, 1, 2, 2],
                [48, 1, 3, 1, 1],
                [48, 3, 1, 1, 1],
                [48, 1, 3, 1, 1],
                [48, 3, 1, 1, 2],
                [72, 1, 3, 1, 1],
                [72, 3, 1, 1, 1],
                [72, 1, 3, 1, 1],
                [72, 3, 1, 2, 2],
                [96, 1, 3, 1, 1],
                [96, 3, 1, 1, 1],
                [96, 1, 3, 1, 1],
                [96, 3, 1, 1, 2],
                [96, 1, 3, 1, 1],
                [96, 3, 1, 1, 1],
                [96, 1, 3, 1, 1],
                [96, 3, 1, 2, 2],
                [96, 3, 1, 1, 1],
            ],
        },
    ),
    load,
)
