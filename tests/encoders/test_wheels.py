"""`ge2e` and `speech-embedding` with their published weights, beside what the packages themselves give.

The packages' numbers were recorded by benchmarks/golden_wheels.py, with resemblyzer 0.1.4 (torch 2.11, librosa 0.11)
and openwakeword 0.5.1 (ai-edge-litert 2.3), on twenty clips of Emo-DB, two of each speaker. Needs the weights
(`serfuse weights get ge2e speech-embedding`) and Emo-DB, or skips.
"""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from serfuse import encoders
from serfuse.encoders import LoadRequest

GOLDEN = Path(__file__).parent / "golden"


def published(name: str, **options) -> encoders.Encoder:
    """The encoder with its weights from this machine, or from beside the repository, or skip."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "weights" / name
    if encoders.weights_status(name)[0]:
        folder = None
    elif beside.is_dir():
        folder = beside
    else:
        pytest.skip(f"needs the published weights: serfuse weights get {name}")
    return encoders.load(name, LoadRequest(weights=folder, device="cpu", options=options, download=False))


def recorded(name: str, emodb_dir: Path) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """What the package gave, and the clips it was given."""
    with np.load(GOLDEN / f"{name}.npz") as archive:
        golden = dict(archive)
    assert len(set(golden["clips"])) == 20 and len({clip[:2] for clip in golden["clips"]}) == 10
    return golden, [soundfile.read(emodb_dir / f"{clip}.wav", dtype="float32")[0] for clip in golden["clips"]]


def summary(frames: np.ndarray) -> dict[str, np.ndarray]:
    exact = frames.astype(np.float64)
    return {"mean": exact.mean(axis=0), "std": exact.std(axis=0), "first": frames[0], "last": frames[-1]}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file"), [("ge2e", "ge2e"), ("speech-embedding", "speech_embedding")])
def test_frames_are_the_packages_own(name, file, emodb_dir) -> None:
    encoder = published(name)
    golden, clips = recorded(file, emodb_dir)
    for number, clip in enumerate(clips):
        frames = encoder.frames(clip)
        assert len(frames) == golden["frames"][number]
        for part, values in summary(frames).items():
            np.testing.assert_allclose(values, golden[part][number], rtol=0, atol=1e-4, err_msg=part)


@pytest.mark.slow
def test_ge2es_utterances_are_the_packages_own(emodb_dir) -> None:
    encoder = published("ge2e", output="utterance")
    golden, clips = recorded("ge2e", emodb_dir)
    for number, clip in enumerate(clips):
        np.testing.assert_allclose(encoder.frames(clip), golden["utterance"][[number]], rtol=0, atol=1e-4)
