"""From clips to a `Corpus`: sorted, without duplicates, compared with what was published."""

import itertools
import os
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import CorpusError
from .base import Clip, Corpus
from .files import AUDIO, audio_files, folder, relative
from .remarks import speaker_spellings, unwritable_names, writable


@dataclass(frozen=True)
class Published:
    """How many clips, speakers (or voice types) and emotions a corpus was published with."""

    clips: int
    speakers: int
    emotions: int


def assemble(
    name: str,
    clips: Iterable[Clip],
    *,
    published: Published | None = None,
    speaker_kind: str = "speaker",
    synthetic: bool = False,
    warnings: Iterable[str] = (),
) -> Corpus:
    """A corpus of these clips, sorted by id, with a warning for each count that is not as published.

    Raises:
        CorpusError: two clips have the same id.
    """
    clips = list(clips)
    notes = [*warnings, *(f"{name}: {remark}" for remark in unwritable_names(clips))]
    ordered = tuple(sorted(map(writable, clips), key=lambda clip: clip.id))
    for one, other in itertools.pairwise(ordered):
        if one.id == other.id:
            raise CorpusError(
                f"{name}: two clips have the id {one.id!r}: {one.path} and {other.path}. Every clip needs an id "
                "of its own: leave one out, or give the folder that holds one copy."
            )
    notes += [f"{name}: {remark}" for remark in speaker_spellings((clip.speaker for clip in ordered), speaker_kind)]
    if published is not None:
        got = Published(len(ordered), len({clip.speaker for clip in ordered}), len({clip.emotion for clip in ordered}))
        for what, have, want in (
            ("clips", got.clips, published.clips),
            (f"{speaker_kind}s", got.speakers, published.speakers),
            ("emotions", got.emotions, published.emotions),
        ):
            if have != want:
                notes.append(f"{name}: {have} {what} found, {want} were published.")
    return Corpus(name, ordered, speaker_kind, synthetic, tuple(notes))


def read_named(
    name: str,
    root: str | os.PathLike[str],
    parse: Callable[[str, Path], Clip | None],
    *,
    folders: tuple[str, ...],
    expected: str,
    published: Published,
    speaker_kind: str = "speaker",
) -> Corpus:
    """A corpus whose file names hold its labels.

    Args:
        name: of the corpus.
        root: the corpus' folder, or the one of `folders` below it that holds the audio.
        parse: a file's stem and path to its clip; `None` where the name is not of the corpus' scheme.
        folders: names that the audio folder may have; without one of these, all folders below `root` are looked at.
        expected: the published naming scheme with an example, for messages.
        published: the published counts.
        speaker_kind: what `Clip.speaker` holds.

    Raises:
        CorpusError: no file is named as published, a code is unknown, or two files have one name.
    """
    place = folder(root, *folders)
    # Other kinds last: a film of a clip, in whatever folder, is left out where its sound is there.
    files = sorted(audio_files(place), key=lambda path: path.suffix.lower() not in AUDIO)
    clips: list[Clip] = []
    foreign: list[str] = []
    sounds: set[str] = set()
    for path in files:
        stem = unicodedata.normalize("NFC", path.stem)
        clip = parse(stem, path)
        if path.suffix.lower() in AUDIO:
            sounds.add(stem)
        elif stem in sounds:
            continue
        if clip is None:
            foreign.append(relative(path, place))
        else:
            clips.append(clip)
    if not clips:
        there = f"{len(files)} audio files, none named so (the first is {foreign[0]})" if files else "no audio file"
        raise CorpusError(f"{place}: expected {name}'s files, named {expected}; found {there}.")
    warnings = []
    if foreign:
        warnings.append(
            f"{name}: {len(foreign)} audio files are not named as published ({expected}) and were left out: "
            f"{', '.join(foreign[:3])}{' ...' if len(foreign) > 3 else ''}."
        )
    return assemble(name, clips, published=published, speaker_kind=speaker_kind, warnings=warnings)


def emotion_of(code: str, codes: dict[str, str], path: Path) -> str:
    """The canonical emotion behind a corpus' code.

    Raises:
        CorpusError: the code is not among `codes`; the message names the file and the choices.
    """
    if code not in codes:
        choices = ", ".join(f"{known} ({emotion})" for known, emotion in codes.items())
        raise CorpusError(f"{path}: unknown emotion code {code!r}. Expected one of: {choices}.")
    return codes[code]
