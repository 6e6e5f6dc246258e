"""Audio-Mamba (SSAM) in three sizes, on any device, without the CUDA extension of the official code."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigError
from .base import Encoder, EncoderEntry, EncoderPreset, LoadRequest
from .checks import check_clips
from .resolve import open_request
from .turns import on_host

if TYPE_CHECKING:
    import torch

    from .audiomamba_model import AudioMamba

LAYOUTS = ("official", "freq")

_WINDOW, _HOP = 400, 160

_CHUNKS_AT_ONCE = {"cpu": 4, "cuda": 128}
"""Chunks in one pass; more only cost memory."""


class AudioMambaEncoder(Encoder):
    """A clip's log-mel spectrogram, standardised, in chunks of 2 s; every chunk is encoded by itself."""

    pads = True  # so chunks of clips of any lengths share a pass

    def __init__(
        self,
        preset: EncoderPreset,
        model: "AudioMamba",
        *,
        weights_id: str,
        options: dict[str, Any],
        device: str = "cpu",
    ) -> None:
        import torchaudio

        from .audiomamba_model import MELS

        self.preset = preset
        self.weights_id = weights_id
        self.options = options
        self.device = device
        self._model = model.to(device).eval().requires_grad_(False)
        self._mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=preset.sample_rate,
            n_fft=_WINDOW,
            win_length=_WINDOW,
            hop_length=_HOP,
            f_min=50.0,
            f_max=8000.0,
            n_mels=MELS,
            power=2.0,
        ).to(device)

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        return self.frames_batch([waveform])[0]

    def frames_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        import torch

        from .audiomamba_model import CHUNK_FRAMES, MELS, PATCH_FRAMES
        from .torch_inference import inference

        clips = check_clips(self.preset, waveforms, alike=False)
        with inference():
            mels = self._mels(clips)
            chunks = [-(-len(mel) // CHUNK_FRAMES) for mel in mels]
            padded = torch.zeros(sum(chunks), CHUNK_FRAMES, MELS, device=self.device)
            for mel, own in zip(mels, padded.split(chunks), strict=True):
                own.view(-1, MELS)[: len(mel)] = mel
            parts = padded.split(_CHUNKS_AT_ONCE[torch.device(self.device).type])
            encoded = torch.from_numpy(on_host(torch.cat([self._model(part) for part in parts]).float()))
            # The official code drops the whole frames that lie in the padding.
            return [
                own.flatten(0, 1)[: -(-len(mel) // PATCH_FRAMES)].numpy()
                for mel, own in zip(mels, encoded.split(chunks), strict=True)
            ]

    def _mels(self, clips: "list[np.ndarray]") -> "list[torch.Tensor]":
        """Of each clip, `(frames, 80)`."""
        from .torch_inference import on_device

        if len({len(clip) for clip in clips}) == 1:
            return list(self.log_mel(on_device(np.stack(clips), self.device)))
        return [self.log_mel(on_device(clip[None], self.device))[0] for clip in clips]

    def log_mel(self, waveforms: "torch.Tensor") -> "torch.Tensor":
        """`(B, samples)` to `(B, frames, 80)`, with mean 0 and deviation 1 over each clip."""
        import torch

        mels = torch.log(self._mel(waveforms) + torch.finfo(torch.float32).eps).transpose(1, 2).double()
        # In float64: in float32 the mean of digital silence is off by a rounding, which over 1e-8 is large.
        mean = mels.mean(dim=(1, 2), keepdim=True)
        deviation = mels.std(dim=(1, 2), keepdim=True)
        return ((mels - mean) / (deviation + 1e-8)).float()


def load(preset: EncoderPreset, request: LoadRequest) -> AudioMambaEncoder:
    """Build the encoder. Option: `layout`, "official" (default) or "freq"; see `AudioMamba`.

    Raises:
        WeightsError: weights absent, incomplete, unsafe or of another model.
        ConfigError: a layer, dtype, device, layout or option that it does not have.
    """
    from .checkpoints.state_dict import is_safetensors, load_part, read_state
    from .checkpoints.torch_file import read_checkpoint
    from .torch_inference import seeded

    opening = open_request(preset, request)
    options, weights = opening.options, opening.weights
    if options["layout"] not in LAYOUTS:
        raise ConfigError(f"Option layout of {preset.name} is {' or '.join(LAYOUTS)}, got {options['layout']!r}.")
    with seeded(weights.seed or 0):
        model = build(preset, layout=options["layout"])
    if not weights.random:
        path = weights.file("checkpoint.pth")
        state = read_state(preset, path) if is_safetensors(path) else read_checkpoint(path)
        load_part(preset, model, state, "", path)
        weights.check_unchanged()
    return AudioMambaEncoder(preset, model, weights_id=weights.id, options=options, device=opening.device)


def build(preset: EncoderPreset, layout: str = "official") -> "AudioMamba":
    """The architecture, with whatever weights torch's generator and default device give."""
    from .audiomamba_model import AudioMamba

    return AudioMamba(**preset.config, layout=layout)


# Parameters without the position table, which is fixed.
def _entry(size: str, *, dim: int, parameters: int, paper_parameters: str) -> EncoderEntry:
    folder = f"ssam_{size}_200_16x4_4x256_fp16_r1"
    preset = EncoderPreset(
        name=f"audiomamba-{size}",
        family="mamba",
        sample_rate=16000,
        vector_size=5 * dim,
        paper_vector_size=5 * dim,
        parameters=parameters,
        paper_parameters=paper_parameters,
        licence="MIT (code; the weights' folder names no licence)",
        source="https://github.com/SarthakYadav/audio-mamba-official",
        # The published folder holds one folder for each size, and checkpoints of several epochs in each.
        files=(
            "model.safetensors|checkpoint.pth|checkpoint-*.pth|checkpoints/checkpoint-*.pth|"
            f"{folder}/checkpoints/checkpoint-*.pth",
        ),
        hop=640,
        min_samples=201,
        where=(
            "Open the Google Drive folder that the README of github.com/SarthakYadav/audio-mamba-official links, "
            f"take {folder}, or the checkpoint-N.pth with the largest N from {folder}/checkpoints."
        ),
        citation="Yadav and Tan, Audio Mamba, Interspeech 2024, arXiv:2406.02178",
        trained_on="sounds of AudioSet, 5,000 h from the web, without labels",
        options={"layout": "official"},
        config={"dim": dim, "depth": 12, "state": 24, "conv": 4, "expand": 3},
    )
    return EncoderEntry(preset, load)


TINY = _entry("tiny", dim=192, parameters=4_760_512, paper_parameters="4.8 M")
SMALL = _entry("small", dim=384, parameters=17_889_088, paper_parameters="17.9 M")
BASE = _entry("base", dim=768, parameters=69_250_624, paper_parameters="69.3 M")
