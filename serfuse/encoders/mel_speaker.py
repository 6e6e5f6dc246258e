"""What the speaker encoders of speechbrain share: mel bands in decibels, less their mean over the clip, into a network.

The network and `Fbank` are built directly: speechbrain's own loader asks the hub even for a local folder and executes
what a yaml file names.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import Encoder, EncoderPreset
from .checkpoints.locate import Weights
from .checks import check_batch

if TYPE_CHECKING:
    import torch


class MelSpeaker(Encoder):
    """Clips of equal length are run together. Others never are: speechbrain's own masking moves a vector.

    Args:
        preset: of the encoder.
        model: maps bands `(B, T, bands)` to frames `(B, T or 1, D)`.
        bands: of the spectrogram.
        weights_id: as in `Encoder`.
        device: of torch.
        options: resolved.
    """

    def __init__(
        self,
        preset: EncoderPreset,
        model: "torch.nn.Module",
        bands: int,
        *,
        weights_id: str,
        device: str = "cpu",
        options: dict[str, Any] | None = None,
    ) -> None:
        from speechbrain.lobes.features import Fbank

        self.preset = preset
        self.weights_id = weights_id
        self.options = dict(options or {})
        self.device = device
        self._model = model.to(device).eval().requires_grad_(False)
        # It works where its input is.
        self._fbank = Fbank(sample_rate=preset.sample_rate, n_mels=bands).eval()

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        return self.frames_batch([waveform])[0]

    def frames_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        from .torch_inference import inference, on_device

        batch = check_batch(self.preset, waveforms)
        with inference():
            bands = self._fbank(on_device(batch, self.device))
            bands = bands - bands.mean(dim=1, keepdim=True)
            return list(self._model(bands).float().cpu().numpy())


def load_network(
    preset: EncoderPreset, weights: Weights, build: Callable[[EncoderPreset], "torch.nn.Module"]
) -> "torch.nn.Module":
    """The network that `build` makes, with random weights or those of the preset's `embedding_model.ckpt`.

    Raises:
        WeightsError: weights absent, incomplete, unsafe or of another model.
    """
    from .checkpoints.state_dict import load_part, read_state
    from .torch_inference import seeded

    with seeded(weights.seed or 0):
        model = build(preset)
    if not weights.random:
        path = weights.file("embedding_model.ckpt")
        load_part(preset, model, read_state(preset, path), "", path)
        weights.check_unchanged()
    return model
