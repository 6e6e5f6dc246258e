"""Emo-DB, the Berlin Database of Emotional Speech (Burkhardt et al., Interspeech 2005).

535 clips, 10 speakers, 7 emotions, 10 sentences. Files are named like `03a01Fa.wav`: speaker 03, sentence a01,
emotion F (the first letter of the German word), version a.
"""

import os
import re
from pathlib import Path

from .assemble import Published, emotion_of, read_named
from .base import Clip, Corpus

PUBLISHED = Published(clips=535, speakers=10, emotions=7)

EMOTIONS = {
    "W": "anger",  # Wut, Ärger
    "L": "boredom",  # Langeweile
    "E": "disgust",  # Ekel
    "A": "fear",  # Angst
    "F": "happiness",  # Freude
    "T": "sadness",  # Trauer
    "N": "neutral",
}

# From the corpus' own description; the names hold the number only.
_SEX = dict.fromkeys(("03", "10", "11", "12", "15"), "male") | dict.fromkeys(("08", "09", "13", "14", "16"), "female")
_NAME = re.compile(r"(\d{2})([ab]\d{2})([A-Z])([a-z])")


def read(root: str | os.PathLike[str]) -> Corpus:
    """Emo-DB from its folder or from the `wav` folder inside.

    `speaker` is the two digits, `text` the sentence's code ("a01"), `extra` holds `sex` and `take`. A different
    count than published is a warning.

    Raises:
        CorpusError: no file is named as published, an emotion's letter is unknown, or two files have one name.
    """
    return read_named(
        "emodb",
        root,
        _parse,
        folders=("wav",),
        expected="like 03a01Fa.wav (speaker, text, emotion, version)",
        published=PUBLISHED,
    )


def _parse(stem: str, path: Path) -> Clip | None:
    found = _NAME.fullmatch(stem)
    if found is None:
        return None
    speaker, text, code, take = found.groups()
    extra = {"take": take} | ({"sex": _SEX[speaker]} if speaker in _SEX else {})
    return Clip(stem, path, emotion_of(code, EMOTIONS, path), speaker, text, extra=extra)
