"""The x-vector of speechbrain/spkrec-xvect-voxceleb: one vector per clip.

`Xvector` and `Fbank` are built directly: speechbrain's own loader asks the hub even for a local folder and
executes what a yaml file names.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.Xvector import Xvector
from speechbrain.nnet.pooling import StatisticsPooling

from .base import Encoder, EncoderPreset, LoadRequest
from .checkpoints.state_dict import load_part, read_state
from .checks import check_batch
from .resolve import open_request
from .torch_inference import inference, seeded

NOISE_SEED = 0
"""Seed of the noise that statistics pooling adds."""


class FixedNoisePooling(StatisticsPooling):
    """speechbrain's pooling, whose noise (1e-5 to 9e-5, also in evaluation) is one draw instead of ever new ones.

    It is drawn for one clip, so that a clip gives the same vector alone, in a batch, and on every device.
    """

    def _get_gauss_noise(self, shape_of_tensor: torch.Size, device: Any = "cpu") -> torch.Tensor:
        generator = torch.Generator().manual_seed(NOISE_SEED)
        noise = torch.randn((1, shape_of_tensor[-1]), generator=generator)
        noise -= noise.min()
        noise /= noise.max()
        return (self.eps * (9 - 8 * noise)).to(device)


class XVector(Encoder):
    """24 mel bands in decibels, less their mean over the clip, through a time-delay network: frames `(1, 512)`.

    Clips of different length are never padded to one: speechbrain's own masking moves the vector by 0.03 to 0.05.
    """

    def __init__(
        self,
        preset: EncoderPreset,
        model: Xvector,
        *,
        weights_id: str,
        device: str = "cpu",
        options: dict[str, Any] | None = None,
    ) -> None:
        self.preset = preset
        self.weights_id = weights_id
        self.options = dict(options or {})
        self.device = device
        self._model = model.to(device).eval().requires_grad_(False)
        # On the CPU whatever the device, so that the input of the network is the same.
        self._fbank = Fbank(sample_rate=preset.sample_rate, n_mels=preset.config["in_channels"]).eval()

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        return self.frames_batch([waveform])[0]

    def frames_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        batch = check_batch(self.preset, waveforms)
        with inference():
            bands = self._fbank(torch.from_numpy(batch))
            bands = bands - bands.mean(dim=1, keepdim=True)
            return list(self._model(bands.to(self.device)).float().cpu().numpy())


def load(preset: EncoderPreset, request: LoadRequest) -> XVector:
    """Build the encoder.

    Raises:
        WeightsError: weights absent, incomplete, unsafe or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    opening = open_request(preset, request)
    weights = opening.weights
    with seeded(weights.seed or 0):
        model = build(preset)
    if not weights.random:
        path = weights.file("embedding_model.ckpt")
        load_part(preset, model, read_state(preset, path), "", path)
    return XVector(preset, model, weights_id=weights.id, device=opening.device, options=opening.options)


def build(preset: EncoderPreset) -> Xvector:
    """The architecture, with whatever weights torch's generator and default device give."""
    model = Xvector(**preset.config)
    for position, layer in enumerate(model.blocks):
        if isinstance(layer, StatisticsPooling):
            model.blocks[position] = FixedNoisePooling()
    return model
