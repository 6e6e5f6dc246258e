"""What the encoders of neural codecs share: one waveform in, the codec's frames before quantisation out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import Encoder, EncoderPreset
from .checks import check_batch

if TYPE_CHECKING:
    import torch


class TorchCodec(Encoder):
    """The encoder half of a codec. Clips of equal length are run together, others never are.

    `model` maps `(B, 1, samples)` to `(B, D, T)`. `multiple`: zeros fill each clip on the right up to a multiple
    of so many samples, as the codec's own front end does.
    """

    def __init__(
        self,
        preset: EncoderPreset,
        model: "torch.nn.Module",
        *,
        weights_id: str,
        device: str = "cpu",
        options: dict[str, Any] | None = None,
        multiple: int = 1,
    ) -> None:
        self.preset = preset
        self.weights_id = weights_id
        self.options = dict(options or {})
        self.multiple = multiple
        self.device = device
        self._model = model.to(device).eval().requires_grad_(False)

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        return self.frames_batch([waveform])[0]

    def frames_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        import torch

        from .torch_inference import inference

        batch = check_batch(self.preset, waveforms)
        batch = np.pad(batch, ((0, 0), (0, -batch.shape[1] % self.multiple)))
        with inference():
            output = self._model(torch.from_numpy(batch)[:, None].to(self.device))
            frames = output.transpose(1, 2).contiguous().cpu().numpy()
        return list(frames)
