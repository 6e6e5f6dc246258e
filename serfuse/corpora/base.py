"""What every corpus reader gives: clips with an emotion, and who said what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled piece of speech.

    Attributes:
        id: unique within its corpus and stable between machines (a relative path or the published file stem,
            never an absolute path or a row number).
        path: the audio file.
        emotion: a name of the canonical vocabulary (`serfuse.corpora.emotions`).
        speaker: who speaks; for MESD the voice type, since its names hold no more. `None` when unknown.
        text: which sentence or word is said (an id or the words). `None` when unknown.
        start: offset in seconds into the file, `None` for the beginning.
        end: end in seconds, `None` for the end of the file.
        fold: a fold given by the corpus, `None` when it gives none.
        extra: further published attributes (sex, intensity, take ...), for display only.
    """

    id: str
    path: Path
    emotion: str
    speaker: str | None = None
    text: str | None = None
    start: float | None = None
    end: float | None = None
    fold: str | None = None
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """A corpus that has been read.

    Attributes:
        name: registry name ("emodb"), or the name the user gave a table.
        clips: sorted by id.
        speaker_kind: what `Clip.speaker` holds: "speaker", or "voice type" on MESD.
        synthetic: the audio was generated; every output says so.
        warnings: what is not as published (a different count of clips ...), in plain words.
        source: how it was read (`corpus`: the reader, `data`, `name`), for the command that reads it again; empty where
            that is not known.
    """

    name: str
    clips: tuple[Clip, ...]
    speaker_kind: str = "speaker"
    synthetic: bool = False
    warnings: tuple[str, ...] = ()
    source: Mapping[str, str] = field(default_factory=dict)
