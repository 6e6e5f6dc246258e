"""A corpus: files called like `anger_anna_door.wav`, emotion, speaker and text."""

import os
from pathlib import Path

from serfuse.corpora import Clip, Corpus
from serfuse.errors import CorpusError


def read(root: str | os.PathLike[str]) -> Corpus:
    """Every WAV file of a folder.

    Raises:
        CorpusError: the folder holds none, or one is called otherwise.
    """
    clips = []
    for path in sorted(Path(root).glob("*.wav")):
        parts = path.stem.split("_")
        if len(parts) != 3:
            raise CorpusError(f"{path} is not called like anger_anna_door.wav (emotion, speaker, text).")
        emotion, speaker, text = parts
        clips.append(Clip(path.stem, path, emotion, speaker, text))
    if not clips:
        raise CorpusError(f"{root} holds no WAV files.")
    return Corpus("prefixed", tuple(clips))
