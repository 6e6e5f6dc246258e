"""Sentences about what looks odd in the labels and names of a corpus."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from .base import Clip

_SHOWN = 3


def merged_labels(labels: Mapping[tuple[str, str], int]) -> list[str]:
    """A remark where labels that differ by more than their case are one emotion here.

    Args:
        labels: how many clips have each pair of an emotion and the label that was taken for it.
    """
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for (emotion, label), count in labels.items():
        found[emotion][re.sub(r"[\s_-]+", "-", unicodedata.normalize("NFC", label).strip().casefold())] += count
    merged = [
        f"{emotion} is {_listed([f'{label} ({count})' for label, count in counts.most_common()])}"
        for emotion, counts in sorted(found.items())
        if len(counts) > 1
    ]
    return [f"different labels are one emotion here: {'; '.join(merged)}."] if merged else []


def speaker_spellings(speakers: Iterable[str | None], kind: str = "speaker") -> list[str]:
    """A remark where names of speakers differ only in case, spaces, accents' composition or zeros.

    They stay different speakers: whether they are one, only who knows the recordings can say.

    Args:
        speakers: of each clip.
        kind: what they are called.
    """
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for speaker in speakers:
        if speaker is not None:
            found[_alike(speaker)][speaker] += 1
    twice = [
        _listed([f"{name!r} ({count} clips)" for name, count in counts.most_common()])
        for _, counts in sorted(found.items())
        if len(counts) > 1
    ]
    if not twice:
        return []
    more = f", and {len(twice) - _SHOWN} more" if len(twice) > _SHOWN else ""
    return [
        f"names of {kind}s that differ only in how they are written count as different {kind}s: "
        f"{'; '.join(twice[:_SHOWN])}{more}. Write them alike if they are one, or they stand on both sides of a split."
    ]


def _alike(name: str) -> str:
    text = re.sub(r"[\s_-]+", "-", unicodedata.normalize("NFKC", name).strip().casefold())
    text = re.sub(r"(?<=\d)\.0+$", "", text)
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def writable(clip: Clip) -> Clip:
    """The clip with names that can be written as text: bytes of a file's name that are not UTF-8 become `\\xf3`."""
    fields = {name: getattr(clip, name) for name in ("id", "speaker", "text", "fold")}
    changed = {name: escaped(value) for name, value in fields.items() if value is not None and escaped(value) != value}
    extra = {name: escaped(value) for name, value in clip.extra.items()}
    return replace(clip, **changed, extra=extra) if changed or extra != clip.extra else clip


def escaped(text: str) -> str:
    """Text as it can be written: what stands for a byte that is not UTF-8 becomes `\\xf3`, other text stays."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character that stands for no byte, as JSON can hold
        return text.encode("utf-8", "backslashreplace").decode()


def unwritable_names(clips: Iterable[Clip]) -> list[str]:
    """A remark about clips whose names are not UTF-8, before `writable`."""
    names = [clip.id for clip in clips if escaped(clip.id) != clip.id]
    if not names:
        return []
    return [
        f"the names of {len(names)} files are not UTF-8 (the first is {escaped(names[0])}): the clips are named with "
        "escapes. Rename the files to names in UTF-8, for example with convmv."
    ]


def missing_values(counts: Mapping[str, int], columns: Mapping[str, str | None], rows: int) -> list[str]:
    """A remark for each field that some rows have and others lack.

    Args:
        counts: rows with a value, by field.
        columns: the column of each field.
        rows: in all.
    """
    return [
        f"{rows - counts.get(field, 0)} of {rows} rows have no {field} (column {column})."
        for field, column in columns.items()
        if column is not None and 0 < counts.get(field, 0) < rows
    ]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
