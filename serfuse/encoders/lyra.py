"""SoundStream as published with Lyra v2: the encoder of its TensorFlow Lite files."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import ConfigError, WeightsError
from .base import Encoder, EncoderEntry, EncoderPreset, LoadRequest, PublishedFile
from .checkpoints.locate import resolve
from .checks import check_waveform, resolve_dtype, resolve_layer, resolve_options

_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every TensorFlow Lite file
_LARGEST = 64 << 20  # bytes; the published file has 1.8 million


class Lyra(Encoder):
    """20 ms of sound in, 64 numbers out, 50 times a second; a rest shorter than 20 ms is left out.

    The interpreter keeps the past in state that its own reset does not clear, so each clip gets a new one.
    """

    def __init__(self, preset: EncoderPreset, model: bytes, weights_id: str) -> None:
        self.preset = preset
        self.weights_id = weights_id
        self.options = {}
        self._model = model
        with _native_stderr_closed():
            self._interpreter()  # fails here rather than at the first clip

    def _interpreter(self):  # noqa: ANN202 - the class is only importable where ai-edge-litert is installed
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=self._model, num_threads=1)
        interpreter.allocate_tensors()
        return interpreter

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        waveform = check_waveform(self.preset, waveform)
        interpreter = self._interpreter()
        source = interpreter.get_input_details()[0]["index"]
        target = interpreter.get_output_details()[0]["index"]
        hop = self.preset.hop
        frames = np.empty((waveform.size // hop, self.preset.vector_size), dtype=np.float32)
        for number in range(len(frames)):
            interpreter.set_tensor(source, waveform[None, number * hop : (number + 1) * hop])
            interpreter.invoke()
            frames[number] = interpreter.get_tensor(target).reshape(-1)
        return frames


@contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """The first interpreter of a process writes a line past Python to file 2, in the middle of a progress bar."""
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def load(preset: EncoderPreset, request: LoadRequest) -> Lyra:
    """Build the encoder. It always runs on the CPU, whatever `request.device`.

    Raises:
        WeightsError: the file is absent, no TensorFlow Lite model, or another model.
        ConfigError: ai-edge-litert is not installed; a layer, dtype or option was asked for.
    """
    resolve_layer(preset, request.layer)
    resolve_dtype(preset, request)
    resolve_options(preset, request)
    if request.weights == "random":
        raise WeightsError(f"{preset.name} is a compiled model and cannot be built with random weights. {preset.where}")
    weights = resolve(preset, request)
    path = weights.file("soundstream_encoder.tflite")
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"{preset.name} needs ai-edge-litert, which is not installed: pip install 'serfuse[lyra]'."
        ) from error
    model = _read(preset, path)
    _check_published(preset, model, path)
    try:
        return Lyra(preset, model, weights.id)
    except (ValueError, RuntimeError) as error:
        raise WeightsError(f"{path} cannot be run: {str(error).strip().rstrip('.')}. {preset.where}") from error


def _read(preset: EncoderPreset, path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(8)
        if head[4:] != _IDENTIFIER or size > _LARGEST:
            raise WeightsError(
                f"{path} ({size} bytes) is not the TensorFlow Lite file that {preset.name} expects "
                f"(1.8 MB, soundstream_encoder.tflite). {preset.where}"
            )
        return head + stream.read()


def _check_published(preset: EncoderPreset, model: bytes, path: Path) -> None:
    """A changed byte among the weights gives other numbers and no error, so that only the hash can tell.

    Before anything is built: the interpreter is native code that believes what a file says of itself.
    """
    found, expected = hashlib.sha256(model).hexdigest(), preset.config["sha256"]
    if found != expected:
        raise WeightsError(
            f"{path} is damaged or of another release than {preset.name}: sha256:{found}, expected sha256:{expected}. "
            f"{preset.where}"
        )


LYRA = EncoderEntry(
    EncoderPreset(
        name="soundstream-lyra",
        family="codec",
        sample_rate=16000,
        vector_size=64,
        licence="Apache-2.0",
        source="https://github.com/google/lyra/tree/main/lyra/model_coeffs",
        files=("soundstream_encoder.tflite",),
        published=(
            PublishedFile(
                "soundstream_encoder.tflite",
                sha256="237da0b16226fb0a68d49551c81bebf614e42142af72764448359f68581e88f1",
                limit=2_000_000,
                address="https://raw.githubusercontent.com/google/lyra/main/lyra/model_coeffs/soundstream_encoder.tflite",
            ),
        ),
        hop=320,
        min_samples=320,
        where="Take soundstream_encoder.tflite (1.8 MB) from lyra/model_coeffs of github.com/google/lyra.",
        citation="Zeghidour et al., SoundStream, IEEE/ACM TASLP 2022, arXiv:2107.03312; Lyra v2's weights",
        trained_on="speech; which recordings Google does not say",
        config={"sha256": "237da0b16226fb0a68d49551c81bebf614e42142af72764448359f68581e88f1"},
    ),
    load,
)
