"""MESD, the Mexican Emotional Speech Database (Duville et al., Data 2021, doi:10.17632/cy34mh68j9).

864 clips, 6 emotions. Files are named like `Anger_C_A_abajo.wav`: emotion, voice type (F, M or C for child), word
list (A or B), word. The names hold the voice type only, not which of the 11 actors speaks: a split by speaker is a
split by voice type.
"""

import os
import re
from pathlib import Path

from .assemble import Published, emotion_of, read_named
from .base import Clip, Corpus

PUBLISHED = Published(clips=864, speakers=3, emotions=6)

EMOTIONS = {
    "Anger": "anger",
    "Disgust": "disgust",
    "Fear": "fear",
    "Happiness": "happiness",
    "Neutral": "neutral",
    "Sadness": "sadness",
}

_VOICES = {"F": "female", "M": "male", "C": "child"}
_NAME = re.compile(r"([^\W\d_]+)_([FMC])_([AB])_(.+)")


def read(root: str | os.PathLike[str]) -> Corpus:
    """MESD from its folder or from the `Mexican Emotional Speech Database (MESD)` folder inside.

    `speaker` is the voice type (`Corpus.speaker_kind` says so), `text` the word list and the word ("A_abajo"),
    `extra` holds `list` and `word`. A different count than published is a warning.

    Raises:
        CorpusError: no file is named as published, an emotion is unknown, or two files have one name.
    """
    return read_named(
        "mesd",
        root,
        _parse,
        folders=("Mexican Emotional Speech Database (MESD)",),
        expected="like Anger_C_A_abajo.wav (emotion, voice type, word list, word)",
        published=PUBLISHED,
        speaker_kind="voice type",
    )


def _parse(stem: str, path: Path) -> Clip | None:
    found = _NAME.fullmatch(stem)
    if found is None:
        return None
    emotion, voice, words, word = found.groups()
    return Clip(
        stem,
        path,
        emotion_of(emotion, EMOTIONS, path),
        _VOICES[voice],
        f"{words}_{word}",
        extra={"list": words, "word": word.replace("_", " ")},
    )
