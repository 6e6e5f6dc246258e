"""CREMA-D, the Crowd-sourced Emotional Multimodal Actors Dataset (Cao et al., IEEE TAC 2014).

7,442 clips, 91 actors, 6 emotions, 12 sentences. Files are named like `1001_DFA_ANG_XX.wav`: actor, sentence,
emotion, intensity. The names do not hold the actors' sex.
"""

import os
import re
from dataclasses import replace
from pathlib import Path

from .assemble import Published, emotion_of, read_named
from .base import Clip, Corpus

PUBLISHED = Published(clips=7442, speakers=91, emotions=6)

EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}

BAD = {
    "1064_IEO_DIS_MD": "a minute long, with the sentence in every emotion",
    "1064_TIE_SAD_XX": "without length",
    "1076_MTI_NEU_XX": "all but empty",
    "1076_MTI_SAD_XX": "without sound",
}
"""Published clips that are not what their names say, and why."""

# One published file, 1040_ITH_SAD_X.wav, has a single X.
_INTENSITY = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}
_NAME = re.compile(rf"(\d{{4}})_([A-Z]{{3}})_([A-Z]{{3}})_({'|'.join(_INTENSITY)})")


def read(root: str | os.PathLike[str]) -> Corpus:
    """CREMA-D from its folder or from the `AudioWAV` (or `AudioMP3`) folder inside.

    `speaker` is the actor's number, `text` the sentence's code ("DFA"), `extra` holds `intensity`. A different
    count than published is a warning, and so are clips of `BAD`, which are listed all the same.

    Raises:
        CorpusError: no file is named as published, an emotion's code is unknown, or two files have one name.
    """
    corpus = read_named(
        "cremad",
        root,
        _parse,
        folders=("AudioWAV", "AudioMP3"),
        expected="like 1001_DFA_ANG_XX.wav (actor, sentence, emotion, intensity)",
        published=PUBLISHED,
    )
    bad = [f"{clip.id} ({BAD[clip.id]})" for clip in corpus.clips if clip.id in BAD]
    if not bad:
        return corpus
    note = f"cremad: {len(bad)} of its published clips are known to be bad, leave them out: {', '.join(bad)}."
    return replace(corpus, warnings=(*corpus.warnings, note))


def _parse(stem: str, path: Path) -> Clip | None:
    found = _NAME.fullmatch(stem)
    if found is None:
        return None
    speaker, text, code, intensity = found.groups()
    emotion = emotion_of(code, EMOTIONS, path)
    return Clip(stem, path, emotion, speaker, text, extra={"intensity": _INTENSITY[intensity]})
