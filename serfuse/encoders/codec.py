"""What the encoders of neural codecs share: one waveform in, the codec's frames before or after quantisation out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigError
from .base import Encoder, EncoderPreset
from .checks import check_batch, check_clips
from .turns import on_host

if TYPE_CHECKING:
    import torch

    from .clip_ends import ClipEnds, ClipZeros

_MOST = 1024  # codebooks; EnCodec, with the most, has 32


class TorchCodec(Encoder):
    """The encoder half of a codec. Clips of equal length are run together; others where `apart` keeps them apart.

    `model` maps `(B, 1, samples)` to `(B, D, T)`. `quantiser` maps that to the sum of the codebooks' nearest vectors,
    of the same shape; without one the frames are the continuous output. `multiple`: zeros fill each clip on the right
    up to a multiple of so many samples, as the codec's own front end does. `hop`: samples of a frame, where the frames
    that hear nothing but that filling are left out. `apart`: has `over(lengths, device)`, within which a pass over
    clips that are padded to one length gives the frames of each as if it were alone; for clips of `apart_from` samples
    or more. `side_by_side`: passes leave cores idle and share nothing that changes, so that `extract` runs two at once.
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
        hop: int = 0,
        quantiser: "torch.nn.Module | None" = None,
        apart: "ClipEnds | ClipZeros | None" = None,
        apart_from: int = 1,
        side_by_side: bool = False,
    ) -> None:
        self.preset = preset
        self.weights_id = weights_id
        before = preset.options_before
        self.options = {name: value for name, value in (options or {}).items() if before.get(name) != value}
        self.multiple, self.hop = multiple, hop
        self.device = device
        self._model = model.to(device).eval().requires_grad_(False)
        self._quantiser = None if quantiser is None else quantiser.to(device).eval().requires_grad_(False)
        self._apart, self._apart_from, self._side_by_side = apart, apart_from, side_by_side
        self.pads = apart is not None and self.batches

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        return self.frames_batch([waveform])[0]

    def frames_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        from .torch_inference import inference, on_device

        if self._quantiser is not None and len(waveforms) > 1:
            # A rounding that differs between a batch and its clips alone can choose another vector.
            check_batch(self.preset, waveforms)
            return [self.frames(waveform) for waveform in waveforms]
        if self.pads and len({len(waveform) for waveform in waveforms}) > 1:
            return self._padded(check_clips(self.preset, waveforms, alike=False))
        batch = check_batch(self.preset, waveforms)
        kept = -(-batch.shape[1] // self.hop) if self.hop else None
        batch = np.pad(batch, ((0, 0), (0, -batch.shape[1] % self.multiple)))
        with inference():
            output = self._model(on_device(batch[:, None], self.device))
            if self._quantiser is not None:
                output = self._quantiser(output)
            frames = on_host(output.transpose(1, 2)[:, :kept].contiguous())
        return list(frames)

    def _padded(self, clips: list[np.ndarray]) -> list[np.ndarray]:
        """Frames of clips of different length from one pass."""
        from .torch_inference import inference, on_device

        lengths = [-(-len(clip) // self.multiple) * self.multiple for clip in clips]
        if min(lengths) < self._apart_from:
            return [self.frames(clip) for clip in clips]
        batch = np.zeros((len(clips), 1, max(lengths)), np.float32)
        for row, clip in zip(batch, clips, strict=True):
            row[0, : len(clip)] = clip
        with inference(), self._apart.over(lengths, self.device):
            frames = on_host(self._model(on_device(batch, self.device)).transpose(1, 2).contiguous())
        return [own[: -(-length // self.preset.hop)].copy() for own, length in zip(frames, lengths, strict=True)]

    @property
    def batches(self) -> bool:
        return self._quantiser is None

    @property
    def passes_at_once(self) -> int:
        from .torch_inference import passes_at_once

        return passes_at_once(self.device) if self._side_by_side else 1


def asked_codebooks(preset: EncoderPreset, value: Any) -> int | None:
    """The option `codebooks`: 0 for the continuous output, a number of codebooks, or `None` for "all".

    Raises:
        ConfigError: it is none of these.
    """
    if str(value) == "all":
        return None
    if isinstance(value, bool) or not str(value).isascii() or not str(value).isdecimal() or int(value) > _MOST:
        raise ConfigError(
            f"The option codebooks of {preset.name} is 0 (the continuous output, before quantisation), a number of "
            f"codebooks whose vectors are summed, or all; got {value!r}."
        )
    return int(value)


def count_codebooks(preset: EncoderPreset, asked: int | None, have: int) -> int:
    """How many codebooks are summed.

    Raises:
        ConfigError: more than there are.
    """
    if asked is not None and asked > have:
        raise ConfigError(f"{preset.name} has {have} codebooks, got codebooks={asked}. Use --option codebooks=all.")
    return have if asked is None else asked
