"""Record what the packages resemblyzer and openwakeword themselves give on twenty clips of Emo-DB.

    python benchmarks/golden_wheels.py EMODB/wav tests/encoders/golden

writes `ge2e.npz` and `speech_embedding.npz`, which tests/encoders/test_wheels.py compares serfuse's encoders with. It
needs an environment of its own, since serfuse does without these packages:

    pip install resemblyzer==0.1.4 openwakeword==0.5.1 ai-edge-litert soundfile

The two versions are from 2023: where their own dependencies no longer install, add --no-deps, and librosa, torch,
scipy, webrtcvad, onnxruntime, scikit-learn, tqdm and requests. openwakeword runs its files with tflite_runtime, of
which ai-edge-litert is the name today.

resemblyzer: `normalize_volume(wav, -30, increase_only=True)` as in its `preprocess_wav`, whose cutting out of silence
is left out, then `VoiceEncoder.embed_utterance`; and the outputs of `VoiceEncoder.lstm` on `wav_to_mel_spectrogram` of
the whole clip. openwakeword: `AudioFeatures._get_embeddings`, which takes a whole clip.
"""

import argparse
import importlib
import sys
import types
from pathlib import Path

import numpy as np
import soundfile


def clips(folder: Path) -> list[Path]:
    """Two of each speaker, which the first two characters of a name say."""
    speakers: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.wav")):
        speakers.setdefault(path.name[:2], []).append(path)
    return [found[place] for found in speakers.values() for place in (0, len(found) // 2)]


def summary(frames: np.ndarray) -> dict[str, np.ndarray]:
    """What is kept of the frames of a clip."""
    exact = frames.astype(np.float64)
    return {"mean": exact.mean(axis=0), "std": exact.std(axis=0), "first": frames[0], "last": frames[-1]}


def ge2e(paths: list[Path]) -> dict[str, list]:
    import torch
    from resemblyzer import VoiceEncoder, audio

    encoder = VoiceEncoder("cpu", verbose=False)
    rows: dict[str, list] = {}
    for path in paths:
        wav, rate = soundfile.read(path, dtype="float32")
        assert rate == 16000
        wav = audio.normalize_volume(wav, -30, increase_only=True).astype(np.float32)
        with torch.no_grad():
            frames = encoder.lstm(torch.from_numpy(audio.wav_to_mel_spectrogram(wav))[None])[0][0].numpy()
        for name, value in {**summary(frames), "utterance": encoder.embed_utterance(wav)}.items():
            rows.setdefault(name, []).append(value)
        rows.setdefault("frames", []).append(len(frames))
    return rows


def speech_embedding(paths: list[Path]) -> dict[str, list]:
    try:
        importlib.import_module("tflite_runtime.interpreter")
    except ImportError:
        package = types.ModuleType("tflite_runtime")
        package.interpreter = importlib.import_module("ai_edge_litert.interpreter")
        sys.modules["tflite_runtime"] = package
        sys.modules["tflite_runtime.interpreter"] = package.interpreter
    from openwakeword.utils import AudioFeatures

    features = AudioFeatures(inference_framework="tflite")
    rows: dict[str, list] = {}
    for path in paths:
        samples, rate = soundfile.read(path, dtype="int16")
        assert rate == 16000
        frames = features._get_embeddings(samples).reshape(-1, 96)
        for name, value in summary(frames).items():
            rows.setdefault(name, []).append(value)
        rows.setdefault("frames", []).append(len(frames))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("emodb", type=Path, help="Emo-DB's folder wav")
    parser.add_argument("to", type=Path, help="folder to write into")
    arguments = parser.parse_args()
    paths = clips(arguments.emodb)
    arguments.to.mkdir(parents=True, exist_ok=True)
    for name, record in {"ge2e": ge2e, "speech_embedding": speech_embedding}.items():
        arrays = {
            key: np.asarray(value, dtype=np.int64 if key == "frames" else np.float32)
            for key, value in record(paths).items()
        }
        np.savez(arguments.to / f"{name}.npz", clips=np.array([path.stem for path in paths]), **arrays)
        print(name, {key: array.shape for key, array in arrays.items()})


if __name__ == "__main__":
    main()
