"""The most confident mistakes of a run, with their sound where the files are there."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .. import audio
from ..errors import AudioError, SerfuseError
from ..store import EmbeddingStore
from .runs import ReportedRun

SHOWN = 10
SOUND_BYTES = 32 << 20  # of all players of a page together
_RATE = 16000
_MAX_SECONDS = 15.0  # 640 kB each


@dataclass(frozen=True)
class Mistake:
    """One clip that was confidently taken for something else.

    Attributes:
        clip, speaker, label, predicted: as in `predictions.csv`.
        confidence: probability of the predicted class.
        sound: a `data:` address of 16-bit wav, `None` where there is none.
        silent: why there is none, for people.
    """

    clip: str
    speaker: str
    label: str
    predicted: str
    confidence: float
    sound: str | None
    silent: str = ""


def worst(
    run: ReportedRun, store: EmbeddingStore | None, count: int = SHOWN, sound_bytes: int = SOUND_BYTES
) -> list[Mistake]:
    """The wrong predictions with the highest probability; no clip twice.

    Args:
        run: a finished run.
        store: where the clips' files are looked up; `None` for no sound.
        count: at most so many.
        sound_bytes: what their sounds may take together in the page; the most confident come first.
    """
    table = run.predictions
    columns = [f"p_{name}" for name in run.classes]
    if any(column not in table for column in columns):
        return []
    wrong = table[table["label"] != table["predicted"]].copy()
    # The probability of what was predicted: an SVM's labels and its Platt probabilities need not agree.
    place = {name: number for number, name in enumerate(run.classes)}
    given = [place[name] for name in wrong["predicted"]]
    wrong["confidence"] = wrong[columns].to_numpy()[range(len(wrong)), given]
    wrong = wrong.sort_values(["confidence", "clip"], ascending=[False, True]).drop_duplicates("clip").head(count)
    places = _places(run, store)
    found = []
    for row in wrong.itertuples():
        sound, silent = _sound(places.get(row.clip)), "" if store else "left out"
        if sound is None:
            silent = silent or "no usable file"
        elif len(sound) > sound_bytes:
            sound, silent = None, "left out: the page would be too large"
        else:
            sound_bytes -= len(sound)
        speaker = "" if row.speaker != row.speaker else str(row.speaker)
        found.append(Mistake(row.clip, speaker, row.label, row.predicted, float(row.confidence), sound, silent))
    return found


def stored(run: ReportedRun, store: EmbeddingStore | None) -> pd.DataFrame | None:
    """What the store knows of the clips of the run's corpus; `None` where it does not have it."""
    if store is None:
        return None
    try:
        return store.clips(run.corpus)
    except SerfuseError:
        return None


def _places(run: ReportedRun, store: EmbeddingStore | None) -> dict[str, tuple[Path, float | None, float | None]]:
    """Where each clip's audio was when it was extracted; without clips whose recording is no longer that of the run."""
    clips = stored(run, store)
    if clips is None:
        return {}
    heard = {} if run.clips.empty else dict(zip(run.clips["clip"], run.clips["audio"], strict=True))

    def seconds(value: object) -> float | None:
        return None if value is None or value != value else float(value)  # type: ignore[arg-type]

    return {
        row.id: (Path(row.path), seconds(row.start), seconds(row.end))
        for row in clips.itertuples()
        if heard.get(row.id, row.audio) == row.audio
    }


def _sound(place: tuple[Path, float | None, float | None] | None) -> str | None:
    if place is None:
        return None
    path, start, end = place
    last = (start or 0.0) + _MAX_SECONDS
    try:
        if end is None:
            end = min(last, audio.info(path).seconds)
        wave = audio.read(path, _RATE, start=start, end=min(end, last))
    except AudioError:
        return None
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, wave.clip(-1, 1), _RATE, format="WAV", subtype="PCM_16")
    return "data:audio/wav;base64," + base64.b64encode(out.getvalue()).decode("ascii")
