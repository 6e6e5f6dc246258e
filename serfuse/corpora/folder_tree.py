"""A corpus kept as folders, one per emotion."""

import os
from collections import Counter
from pathlib import Path

from ..errors import CorpusError
from .base import Clip
from .emotions import EMOTIONS, canonical
from .files import audio_files, folder, relative, without_twins
from .remarks import merged_labels

LEVELS = ("emotion", "speaker", "text", "fold", "-")
"""What a level of folders can hold; `-` is a level without meaning."""


def clips_of(
    root: str | os.PathLike[str],
    *,
    layout: str | None = None,
    aliases: dict[str, str] | None = None,
    skip: tuple[str, ...] = (),
) -> tuple[list[Clip], list[str]]:
    """The clips of a folder tree, and warnings.

    Args:
        root: the folder above the class folders.
        layout: what each level of folders holds, such as "emotion", "emotion/speaker" or "speaker/emotion" (names
            of `LEVELS`); deeper levels are not interpreted. `None`: on each file's way there is exactly one folder
            named like an emotion, and the other folders say nothing.
        aliases: see `serfuse.corpora.emotions.canonical`.
        skip: emotion folders to leave out, as they are written.

    Raises:
        CorpusError: no audio, a folder that should be an emotion is none that is known, or a bad layout.
    """
    levels = None if layout is None else layout.strip("/").split("/")
    if levels is not None and (
        set(levels) - set(LEVELS) or "emotion" not in levels or any(levels.count(x) > 1 for x in levels if x != "-")
    ):
        raise CorpusError(
            f"Unknown layout {layout!r}. Expected levels out of {', '.join(LEVELS)} with / between them and "
            "emotion among them, such as speaker/emotion."
        )
    place = folder(root)
    clips: list[Clip] = []
    stray: list[str] = []
    skipped = 0
    labels: Counter[tuple[str, str]] = Counter()
    files, twins = without_twins(audio_files(place))
    for path in files:
        name = relative(path, place)
        above = name.split("/")[:-1]
        if len(above) < (1 if levels is None else len(levels)):
            stray.append(name)
            continue
        fields = (
            {"emotion": _emotion_folder(above, path, aliases, skip)}
            if levels is None
            else dict(zip(levels, above, strict=False))
        )
        if fields["emotion"] in skip:
            skipped += 1
            continue
        try:
            emotion = canonical(fields["emotion"], aliases)
        except CorpusError as error:
            raise CorpusError(f"{path}: {error}") from None
        labels[emotion, fields["emotion"]] += 1
        clips.append(Clip(name, path, emotion, fields.get("speaker"), fields.get("text"), fold=fields.get("fold")))
    if not clips:
        tables = sorted(
            entry.name for entry in place.iterdir() if entry.suffix.lower() in (".csv", ".tsv", ".parquet", ".jsonl")
        )
        hint = f" There is a table here: give its path ({tables[0]})." if tables else ""
        raise CorpusError(
            f"{place}: expected a folder per emotion with audio files in it (such as anger/001.wav), found "
            f"{len(files)} audio files, none in such a folder.{hint}"
        )
    warnings = []
    if twins:
        warnings.append(
            f"{len(twins)} files (video?) lie beside audio of the same name and were left out: "
            f"{', '.join(relative(path, place) for path in twins[:3])}{' ...' if len(twins) > 3 else ''}."
        )
    if stray:
        warnings.append(
            f"{len(stray)} audio files lie above the class folders and were left out: {', '.join(stray[:3])}"
            f"{' ...' if len(stray) > 3 else ''}."
        )
    if skipped:
        warnings.append(f"{skipped} clips were left out as asked ({', '.join(skip)}).")
    return clips, warnings + merged_labels(labels)


def _emotion_folder(above: list[str], path: Path, aliases: dict[str, str] | None, skip: tuple[str, ...]) -> str:
    names = []
    for name in above:
        try:
            canonical(name, aliases)
        except CorpusError:
            if name not in skip:
                continue
        names.append(name)
    if len(names) != 1:
        found = f"{len(names)} of them ({', '.join(names)})" if names else f"none (only {'/'.join(above)})"
        raise CorpusError(
            f"{path}: expected one folder on its way that is named like an emotion, found {found}. Name the folders "
            f"after emotions ({', '.join(EMOTIONS)}), or give a layout such as speaker/emotion, or aliases."
        )
    return names[0]
