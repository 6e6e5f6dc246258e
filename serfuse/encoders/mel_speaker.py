"""What the speaker encoders of speechbrain share: mel bands in decibels, less their mean over the clip, into a network.

The network and `Fbank` are built directly: speechbrain's own loader asks the hub even for a local folder and executes
what a yaml file names.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import Encoder, EncoderPreset
from .checkpoints.locate import Weights
from .checks import check_batch, check_clips
from .turns import on_host

if TYPE_CHECKING:
    import torch


class MelSpeaker(Encoder):
    """Clips are run together, each as if it were alone; speechbrain's own masking of padded ones moves a vector.

    Args:
        preset: of the encoder.
        model: maps bands `(B, T, bands)`, and the part of T that each clip takes where they differ, to frames
            `(B, T or 1, D)`.
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

        from .clip_reflections import ClipReflections

        self.preset = preset
        self.weights_id = weights_id
        self.options = dict(options or {})
        self.device = device
        self._model = model.to(device).eval().requires_grad_(False)
        # It works where its input is.
        self._fbank = Fbank(sample_rate=preset.sample_rate, n_mels=bands).eval()
        self._reflections = ClipReflections(self._model)

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        return self.frames_batch([waveform])[0]

    pads = True

    @property
    def passes_at_once(self) -> int:
        from .torch_inference import passes_at_once

        return passes_at_once(self.device)

    def frames_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        from .torch_inference import inference, on_device

        if len({len(waveform) for waveform in waveforms}) > 1:
            return self._padded(check_clips(self.preset, waveforms, alike=False))
        batch = check_batch(self.preset, waveforms)
        with inference():
            bands = self._fbank(on_device(batch, self.device))
            bands = bands - bands.mean(dim=1, keepdim=True)
            return list(on_host(self._model(bands).float()))

    def _padded(self, clips: list[np.ndarray]) -> list[np.ndarray]:
        """Frames of clips of different length from one pass."""
        import torch

        from .torch_inference import inference, on_device

        hop = self._fbank.compute_STFT.hop_length
        counts = [len(clip) // hop + 1 for clip in clips]
        batch = np.zeros((len(clips), max(map(len, clips)) + self._reflections.reach * hop), np.float32)
        for row, clip in zip(batch, clips, strict=True):
            row[: len(clip)] = clip
        with inference(), self._reflections.over(counts, self.device):
            count = torch.tensor(counts, device=self.device)[:, None]
            bands, own = self._bands_of_each(on_device(batch, self.device), count)
            bands = bands - torch.where(own, bands, 0.0).sum(dim=1, keepdim=True) / count[:, None]
            # Half a frame less, so that no rounding makes speechbrain's masks a frame longer than the clip.
            parts = (count[:, 0] - 0.5) / bands.shape[1]
            frames = on_host(self._model(bands, parts).float())
        return [own[:count].copy() for own, count in zip(frames, counts, strict=True)]

    def _bands_of_each(self, batch: "torch.Tensor", count: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        """Decibels `(B, T, bands)` of clips with zeros behind them, and which of T are a clip's own, `(B, T, 1)`."""
        import torch
        from speechbrain.processing.features import spectral_magnitude

        power = spectral_magnitude(self._fbank.compute_STFT(batch))
        own = (torch.arange(power.shape[1], device=power.device) < count)[:, :, None]
        # Decibels are clipped below the loudest, which might be heard once more by a window behind the clip.
        return self._fbank.compute_fbanks(torch.where(own, power, 0.0)), own


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
