"""Any corpus: a table with one row per clip, or a folder per emotion.

Tables are CSV (comma, semicolon or tab), Parquet, or JSON lines. That covers audformat's tables (`file`, `start`,
`end` and a label column) and EmoBox' metadata (`key`, `wav`, `emo`) as they are.
"""

import datetime
import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import CorpusError
from .assemble import assemble
from .base import Clip, Corpus
from .emotions import canonical
from .folder_tree import clips_of
from .table_rows import MAX_ROWS, Row, Table, open_table

COLUMNS: dict[str, tuple[str, ...]] = {
    "path": ("path", "file", "wav", "audio", "filename", "filepath", "file_path", "audio_path"),
    "emotion": ("emotion", "emo", "label"),
    "id": ("id", "key", "clip"),
    "speaker": ("speaker", "speaker_id", "spk"),
    "text": ("text", "text_id", "sentence", "transcript", "transcription"),
    "fold": ("fold",),
    "start": ("start", "start_time"),
    "end": ("end", "end_time"),
}
"""The names (in any case) a field's column is looked for under, in this order, unless one is given."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TIMEDELTA = re.compile(r"(?:(\d+) days?)?,? *(?:(\d+):(\d{2}):(\d{2}(?:\.\d+)?))?(?<=[\dsy])")


def read(
    root: str | os.PathLike[str],
    name: str | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    base: str | os.PathLike[str] | None = None,
    aliases: dict[str, str] | None = None,
    skip: Sequence[str] = (),
    extra: Sequence[str] = (),
    layout: str | None = None,
    max_rows: int = MAX_ROWS,
) -> Corpus:
    """A corpus from a table (`.csv`, `.tsv`, `.parquet`, `.jsonl`) or from a folder with a folder per emotion.

    Args:
        root: the table, or the folder.
        name: the corpus' name; by default the file's or folder's.
        columns: names of columns where they differ from `COLUMNS`: `{"emotion": "majority_vote"}`.
        base: folder that relative paths start from; by default the table's (for JSON lines also one of the three
            folders above it, where EmoBox keeps its audio).
        aliases: names of emotions beyond the usual ones: `{"cheer": "happiness"}`.
        skip: emotions to leave out, as the table writes them: `("xxx", "other")`.
        extra: columns to keep in `Clip.extra`.
        layout: of a folder tree, see `serfuse.corpora.folder_tree.clips_of`.
        max_rows: most rows a table may have.

    Ids are those of the table, or the paths relative to `base` (with `#start-end` for a segment).

    Raises:
        CorpusError: the table cannot be read or is too large, a column or a value is missing or malformed, an
            emotion is not known, two rows have one id, or none of the files exists.
    """
    path = Path(root)
    name = _corpus_name(path, name)
    if path.is_dir():
        clips, warnings = clips_of(path, layout=layout, aliases=aliases, skip=tuple(skip))
        return assemble(name, clips, warnings=[f"{name}: {warning}" for warning in warnings])
    if not path.is_file():
        raise CorpusError(f"{path}: there is no such file or folder. Give a table, or a folder with one per emotion.")
    table = open_table(path, max_rows)
    named = _columns(table, columns or {}, extra)
    place = None if base is None else Path(base)
    clips = []
    skipped = 0
    for number, row in table.rows({*filter(None, named.values()), *extra}):
        where = f"{path}, row {number}"
        file = _text(row, named["path"], where)
        label = _text(row, named["emotion"], where)
        if not file or not label:
            field = "emotion" if file else "path"
            raise CorpusError(f"{where}: the {field} (column {named[field]}) is empty. Fill it in or drop the row.")
        if label in skip:
            skipped += 1
            continue
        try:
            emotion = canonical(label, aliases)
        except CorpusError as error:
            advice = "Or rename it in the table, or drop such rows (in Python: aliases, skip)."
            raise CorpusError(f"{where}: {error} {advice}") from None
        place = place or _base(path, file)
        speaker, text, fold = (_text(row, named[field], where) or None for field in ("speaker", "text", "fold"))
        clip = Clip(
            _text(row, named["id"], where),
            place / file,
            emotion,
            speaker,
            text,
            start=_seconds(row, named["start"], where, "start"),
            end=_seconds(row, named["end"], where, "end"),
            fold=fold,
            extra={column: _text(row, column, where) for column in extra},
        )
        clips.append(clip if clip.id else replace(clip, id=_id(clip, Path(file).as_posix())))
    if not clips:
        raise CorpusError(f"{path}: has no rows to use ({skipped} were skipped as asked). Expected one per clip.")
    missing = [clip for clip in clips if not os.path.exists(clip.path)]
    if len(missing) == len(clips):
        raise CorpusError(
            f"{path}: none of its {len(clips)} files exists (the first is {missing[0].path}). Write paths that "
            "start from the table's folder, or absolute ones (in Python: base)."
        )
    warnings = []
    if missing:
        warnings.append(f"{name}: {len(missing)} of {len(clips)} files do not exist, the first is {missing[0].path}.")
    if skipped:
        warnings.append(f"{name}: {skipped} rows were left out as asked ({', '.join(skip)}).")
    clips = _without_shared_folder(clips)
    if path.suffix.lower() == ".jsonl" and named["fold"] is None:
        clips = _emobox_folds(path, clips)
    return assemble(name, clips, warnings=warnings)


def _corpus_name(path: Path, name: str | None) -> str:
    """A name that is also safe as a folder's."""
    from . import CORPORA

    if name is not None:
        if not _NAME.fullmatch(name):
            raise CorpusError(f"Corpus name {name!r}: expected letters, digits, dots, dashes and underscores.")
        return name
    stem = path.resolve().name if path.is_dir() else path.stem
    derived = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "table"
    # A table of a corpus that has a reader is another set of clips with other ids: it must not take its place.
    return f"{derived}-table" if derived in CORPORA and derived != "table" else derived


def _columns(table: Table, given: Mapping[str, str], extra: Sequence[str]) -> dict[str, str | None]:
    """Each field's column, `None` where the table has none and need not."""
    there = ", ".join(table.header) or "no columns"
    unknown = set(given) - set(COLUMNS)
    if unknown:
        raise CorpusError(f"Unknown fields in columns: {', '.join(unknown)}. Choose out of: {', '.join(COLUMNS)}.")
    for column in (*given.values(), *extra):
        if column not in table.header:
            raise CorpusError(f"{table.path}: has no column {column!r}. It has: {there}.")
    lower = {column.strip().lower(): column for column in reversed(table.header)}
    found = {
        field: given.get(field) or next((lower[choice] for choice in choices if choice in lower), None)
        for field, choices in COLUMNS.items()
    }
    for field in ("path", "emotion"):
        if found[field] is None:
            raise CorpusError(
                f"{table.path}: has no column for the {field} (expected {' or '.join(COLUMNS[field])}). It has: "
                f"{there}. Rename the column in the table (in Python: columns)."
            )
    return found


# -- values ------------------------------------------------------------------------------------------------


def _text(row: Row, column: str | None, where: str) -> str:
    """A value as text, "" where there is none."""
    value = None if column is None else row.get(column)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str | int | float):
        raise CorpusError(f"{where}: column {column} holds {type(value).__name__}, expected text or a number.")
    return str(value).strip()


def _seconds(row: Row, column: str | None, where: str, field: str) -> float | None:
    """A time in seconds: a number, or a duration as pandas and audformat write it ("0 days 00:00:01.5")."""
    value = None if column is None else row.get(column)
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    text = _text({"": value}, "", where)
    if text in ("", "NaT"):
        return None
    try:
        seconds = float(text)
    except ValueError:
        found = _TIMEDELTA.fullmatch(text)
        if found is None:
            raise CorpusError(f"{where}: {field} is {text!r}, expected seconds such as 1.25.") from None
        days, hours, minutes, rest = (float(group or 0) for group in found.groups())
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    if not (math.isfinite(seconds) and seconds >= 0):
        raise CorpusError(f"{where}: {field} is {text!r}, expected seconds from 0 on.")
    return seconds


def _id(clip: Clip, path: str) -> str:
    """An id from a path: composed Unicode, and the segment where the clip is one."""
    segment = "" if not clip.start and clip.end is None else f"#{clip.start or 0:.3f}-"
    return unicodedata.normalize("NFC", path) + segment + ("" if clip.end is None else f"{clip.end:.3f}")


def _without_shared_folder(clips: list[Clip]) -> list[Clip]:
    """Ids made from absolute paths, without the folder these share: that differs between machines."""
    absolute = [clip.id == _id(clip, clip.path.as_posix()) and clip.path.is_absolute() for clip in clips]
    if not any(absolute):
        return clips
    shared = os.path.commonpath(
        [clip.path.parent for clip, is_absolute in zip(clips, absolute, strict=True) if is_absolute]
    )
    return [
        replace(clip, id=_id(clip, clip.path.relative_to(shared).as_posix())) if is_absolute else clip
        for clip, is_absolute in zip(clips, absolute, strict=True)
    ]


# -- EmoBox ------------------------------------------------------------------------------------------------


def _base(path: Path, first: str) -> Path:
    """The folder relative paths start from: the table's, or for JSON lines the one above it that holds the first."""
    places = [path.parent]
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        places += list(path.resolve().parents[1:4])
    return next((place for place in places if os.path.exists(place / first)), path.parent)


def _emobox_folds(path: Path, clips: list[Clip]) -> list[Clip]:
    """The clips with the folds of the files `fold_<k>/<name>_test_fold_<k>.jsonl` beside an EmoBox table.

    They are taken only if each clip is tested in exactly one fold, as in a cross-validation.
    """
    folds: dict[str, str] = {}
    tested = 0
    for test in sorted(path.parent.glob(f"fold_*/{path.stem}_test_fold_*.jsonl")):
        fold = test.stem.rpartition("_")[2]
        for _, row in open_table(test).rows({"key"}):
            folds[str(row.get("key"))] = fold
            tested += 1
    if tested != len(clips) or any(clip.id not in folds for clip in clips):
        return clips
    return [replace(clip, fold=folds[clip.id]) for clip in clips]
