"""The GE2E speaker encoder of the package resemblyzer: its LSTM's outputs, or the original's vector of an utterance."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigError
from .base import Encoder, EncoderEntry, EncoderPreset, LoadRequest, PublishedFile
from .checks import check_batch, resized
from .numba_cache import import_librosa
from .resolve import open_request

if TYPE_CHECKING:
    from .ge2e_model import Network

WINDOW = 400
"""Samples of one column of the spectrogram (25 ms)."""

PIECE, PIECE_STEP = 160, 77
"""Columns of a piece of an utterance (1.6 s), and from one to the next (1.3 a second)."""

_COVERAGE = 0.75  # of the last piece that must be sound, or it is left out
_LEVEL = 10 ** (-30 / 20)  # effective value, full scale 1.0, that softer clips are raised to
_OUTPUTS = ("frames", "utterance")


class GE2E(Encoder):
    """40 mel bands of power, not logarithmic, of the clip raised to -30 dBFS, through three LSTM layers.

    The whole clip is heard: no silence is cut out, as the package's `preprocess_wav` would before it encodes.
    """

    def __init__(
        self,
        preset: EncoderPreset,
        model: "Network",
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
        self._filters = import_librosa().filters.mel(sr=preset.sample_rate, n_fft=WINDOW, n_mels=preset.config["bands"])

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        return self.frames_batch([waveform])[0]

    def frames_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        import torch

        from .torch_inference import inference

        batch = raised(check_batch(self.preset, waveforms))
        starts: list[int] = []
        if self.options["output"] == "utterance":
            starts = pieces(batch.shape[1])
            reach = (starts[-1] + PIECE) * 160
            batch = np.pad(batch, ((0, 0), (0, max(0, reach - batch.shape[1]))))
        mel = torch.from_numpy(self._mel(batch)).to(self.device)
        with inference():
            output = self._model.utterance(mel, starts, PIECE)[:, None] if starts else self._model.frames(mel)
            return list(output.cpu().numpy())

    def _mel(self, batch: np.ndarray) -> np.ndarray:
        """`(B, samples)` to `(B, T, bands)`; on the CPU whatever the device, so that the network's input is equal."""
        spectrum = import_librosa().stft(batch, n_fft=WINDOW, hop_length=160, pad_mode="constant")
        mel = self._filters @ (np.abs(spectrum) ** 2)
        return np.ascontiguousarray(mel.transpose(0, 2, 1), dtype=np.float32)


def raised(batch: np.ndarray) -> np.ndarray:
    """Clips `(B, samples)`, those softer than -30 dBFS brought to it; digital silence stays."""
    level = np.sqrt(np.mean(batch.astype(np.float64) ** 2, axis=1, keepdims=True))
    gain = np.maximum(1.0, _LEVEL / np.where(level > 0, level, _LEVEL))
    return (batch * gain).astype(np.float32)


def pieces(samples: int) -> list[int]:
    """The columns at which the pieces of an utterance begin, of a clip of so many samples at 16 kHz."""
    columns = math.ceil((samples + 1) / 160)
    starts = list(range(0, max(1, columns - PIECE + PIECE_STEP + 1), PIECE_STEP))
    if len(starts) > 1 and samples / 160 - starts[-1] < _COVERAGE * PIECE:
        starts.pop()
    return starts


def load(preset: EncoderPreset, request: LoadRequest) -> GE2E:
    """Build the encoder. Option `output`: "frames", 100 a second, or "utterance", one vector.

    Raises:
        WeightsError: weights absent, incomplete, unsafe or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    from .layered import load_network

    opening = open_request(preset, request)
    output = opening.options["output"]
    if output not in _OUTPUTS:
        raise ConfigError(f"Option output of {preset.name} is {' or '.join(_OUTPUTS)}, got {output!r}.")
    model = load_network(preset, opening.weights, build, _from_file)
    if output == "utterance":
        preset = resized(preset, vector_size=model.linear.out_features, hop=0)
    else:
        preset = resized(preset, vector_size=model.lstm.hidden_size)
    return GE2E(preset, model, weights_id=opening.weights.id, device=opening.device, options=opening.options)


def build(preset: EncoderPreset) -> "Network":
    """The architecture, with whatever weights torch's generator and default device give."""
    from .ge2e_model import Network

    return Network(**preset.config)


def _from_file(preset: EncoderPreset, path: Path) -> "Network":
    import torch

    from .checkpoints.state_dict import load_part, read_state, tensor_size
    from .ge2e_model import Network

    state = read_state(preset, path, part="model_state")
    # The loss's two numbers serve training only.
    state = {name: tensor for name, tensor in state.items() if name not in ("similarity_weight", "similarity_bias")}
    # Widths are free, so that a small checkpoint loads; bands and layers are not: their tensors would not fit.
    widths = {
        "hidden": tensor_size(preset, state, "lstm.weight_hh_l0", path, axis=1),
        "embedding": tensor_size(preset, state, "linear.weight", path),
    }
    with torch.device("meta"):
        model = Network(**{**preset.config, **widths})
    load_part(preset, model, state, "", path)
    return model


GE2E_ENTRY = EncoderEntry(
    EncoderPreset(
        name="ge2e",
        family="speaker",
        sample_rate=16000,
        vector_size=256,
        parameters=1_423_616,
        licence="Apache-2.0",
        source="https://pypi.org/project/Resemblyzer/0.1.4/",
        files=("pretrained.pt",),
        published=(
            PublishedFile(
                "pretrained.pt",
                sha256="39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
                limit=18_000_000,
                wheel="resemblyzer==0.1.4",
                member="resemblyzer/pretrained.pt",
            ),
        ),
        hop=160,
        min_samples=400,
        where="Take resemblyzer/pretrained.pt (17 MB) out of the wheel https://pypi.org/project/Resemblyzer/0.1.4/.",
        citation="Wan et al., Generalized End-to-End Loss for Speaker Verification, ICASSP 2018, arXiv:1710.10467; "
        "Resemblyzer's weights",
        trained_on="speakers of LibriSpeech (other) and VoxCeleb 1 and 2, mostly English",
        options={"output": "frames"},
        config={"bands": 40, "hidden": 256, "layers": 3, "embedding": 256},
    ),
    load,
)
