"""The most confident mistakes of a run, with their sound where the files are there."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from .. import audio
from ..errors import AudioError, SerfuseError
from ..store import EmbeddingStore
from .runs import Run

SHOWN = 10
_RATE = 16000
_MAX_SECONDS = 15.0  # 480 kB of wav each


@dataclass(frozen=True)
class Mistake:
    """One clip that was confidently taken for something else.

    Attributes:
        clip, speaker, label, predicted: as in `predictions.csv`.
        confidence: probability of the predicted class.
        sound: a `data:` address of 16-bit wav, `None` when the file is not there or cannot be used.
    """

    clip: str
    speaker: str
    label: str
    predicted: str
    confidence: float
    sound: str | None


def worst(run: Run, store: EmbeddingStore | None, count: int = SHOWN) -> list[Mistake]:
    """The wrong predictions with the highest probability; no clip twice."""
    table = run.predictions
    columns = [f"p_{name}" for name in run.classes]
    if any(column not in table for column in columns):
        return []
    wrong = table[table["label"] != table["predicted"]].copy()
    wrong["confidence"] = wrong[columns].max(axis=1)
    wrong = wrong.sort_values(["confidence", "clip"], ascending=[False, True]).drop_duplicates("clip").head(count)
    places = _places(run, store)
    return [
        Mistake(
            row.clip,
            "" if row.speaker != row.speaker else str(row.speaker),
            row.label,
            row.predicted,
            float(row.confidence),
            _sound(places.get(row.clip)),
        )
        for row in wrong.itertuples()
    ]


def _places(run: Run, store: EmbeddingStore | None) -> dict[str, tuple[Path, float | None, float | None]]:
    """Where each clip's audio was when it was extracted."""
    if store is None:
        return {}
    try:
        clips = store.clips(run.corpus)
    except SerfuseError:
        return {}

    def seconds(value: object) -> float | None:
        return None if value is None or value != value else float(value)  # type: ignore[arg-type]

    return {row.id: (Path(row.path), seconds(row.start), seconds(row.end)) for row in clips.itertuples()}


def _sound(place: tuple[Path, float | None, float | None] | None) -> str | None:
    if place is None:
        return None
    path, start, end = place
    try:
        wave = audio.read(path, _RATE, start=start, end=end)[: int(_MAX_SECONDS * _RATE)]
    except AudioError:
        return None
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, wave.clip(-1, 1), _RATE, format="WAV", subtype="PCM_16")
    return "data:audio/wav;base64," + base64.b64encode(out.getvalue()).decode("ascii")
