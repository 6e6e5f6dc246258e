"""Any corpus: a table with one row per clip, or a folder per emotion.

Tables are CSV (comma, semicolon or tab), Parquet, or JSON lines. That covers audformat's tables (`file`, `start`,
`end` and a label column) and EmoBox' metadata (`key`, `wav`, `emo`) as they are.
"""

import datetime
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import CorpusError
from .assemble import assemble
from .base import Clip, Corpus
from .emotions import canonical
from .folder_tree import clips_of
from .remarks import merged_labels, missing_values
from .table_paths import PathFinder
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

    Ids are those of the table, or the paths relative to `base` (with `#start-end` for a segment). An absolute path that
    does not lie below it is an id as a whole, without the leading slash: an id depends on its own row only.

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
    rows = _Rows(path, named, base=None if base is None else Path(base), aliases=aliases, skip=skip, extra=extra)
    for number, row in table.rows({*filter(None, named.values()), *extra}):
        rows.add(number, row)
    clips, warnings = rows.finish(name)
    if path.suffix.lower() == ".jsonl" and named["fold"] is None:
        clips = _emobox_folds(path, clips)
    return assemble(name, clips, warnings=[f"{name}: {warning}" for warning in warnings])


class _Rows:
    """The clips of a table, row by row."""

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, str | None],
        *,
        base: Path | None,
        aliases: dict[str, str] | None,
        skip: Sequence[str],
        extra: Sequence[str],
    ) -> None:
        self._path, self._columns, self._base = path, columns, base
        self._aliases, self._skip, self._extra = aliases, skip, extra
        self._clips: list[Clip] = []
        self._skipped = 0
        self._values: Counter[str] = Counter()
        self._labels: Counter[tuple[str, str]] = Counter()
        self._finder = PathFinder()
        self._kept: dict[str, str] = {}  # values that many rows share, each once in memory

    def add(self, number: int, row: Row) -> None:
        """Take one row.

        Raises:
            CorpusError: a value is missing or malformed.
        """
        columns, where = self._columns, f"{self._path}, row {number}"
        file = _text(row, columns["path"], where)
        label = _text(row, columns["emotion"], where)
        if not file or not label:
            field = "emotion" if file else "path"
            raise CorpusError(f"{where}: the {field} (column {columns[field]}) is empty. Fill it in or drop the row.")
        if label in self._skip:
            self._skipped += 1
            return
        try:
            emotion = canonical(label, self._aliases)
        except CorpusError as error:
            advice = "Or rename it in the table, or drop such rows (in Python: aliases, skip)."
            raise CorpusError(f"{where}: {error} {advice}") from None
        self._base = self._base or _base(self._path, file, self._finder)
        found = self._finder.find(self._base, file)
        speaker, text, fold = (_text(row, columns[field], where) or None for field in ("speaker", "text", "fold"))
        speaker, fold = (value and self._kept.setdefault(value, value) for value in (speaker, fold))
        clip = Clip(
            _text(row, columns["id"], where),
            found.path,
            emotion,
            speaker,
            text,
            start=_seconds(row, columns["start"], where, "start"),
            end=_seconds(row, columns["end"], where, "end"),
            fold=fold,
            extra={column: _text(row, column, where) for column in self._extra},
        )
        self._labels[emotion, label] += 1
        self._values.update(field for field in COLUMNS if getattr(clip, field) not in (None, ""))
        self._clips.append(clip if clip.id else replace(clip, id=_id(clip, _below(found.name, self._base))))

    def finish(self, name: str) -> tuple[list[Clip], list[str]]:
        """The clips, and warnings.

        Raises:
            CorpusError: there are none, or none of their files exists.
        """
        clips = self._clips
        if not clips:
            raise CorpusError(
                f"{self._path}: has no rows to use ({self._skipped} were skipped as asked). Expected one per clip."
            )
        there = {name: os.path.exists(name) for name in {os.fspath(clip.path) for clip in clips}}
        missing = [clip for clip in clips if not there[os.fspath(clip.path)]]
        if len(missing) == len(clips):
            raise CorpusError(
                f"{self._path}: none of its {len(clips)} files exists (the first is {missing[0].path}). Write paths "
                "that start from the table's folder, or absolute ones (in Python: base)."
            )
        warnings = []
        if missing:
            warnings.append(f"{len(missing)} of {len(clips)} files do not exist, the first is {missing[0].path}.")
        if self._skipped:
            warnings.append(f"{self._skipped} rows were left out as asked ({', '.join(self._skip)}).")
        for spelling, count in self._finder.spellings.items():
            warnings.append(f"{count} paths are written {spelling}; their files were found.")
        fields = {field: self._columns[field] for field in COLUMNS if field not in ("path", "emotion")}
        warnings += missing_values(self._values, fields, len(clips))
        return clips, warnings + merged_labels(self._labels)


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
    for field, column in found.items():
        alike = [other for other in table.header if column and other.strip().lower() == column.strip().lower()]
        if field not in given and len(alike) > 1:
            raise CorpusError(
                f"{table.path}: columns are called alike: {', '.join(map(repr, alike))}. Give them one name, or names "
                "that differ in more than case."
            )
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


def _below(name: str, base: Path) -> str:
    """A path as ids are made from it: from `base` on where it lies below, otherwise whole, without a leading slash.

    It depends on nothing else in the table, so a row that is added changes no other row's id.
    """
    if not os.path.isabs(name):
        return name
    for folder in (os.path.abspath(base), os.path.realpath(base)):
        if name.startswith(folder.rstrip("/") + "/"):
            return name[len(folder.rstrip("/")) + 1 :]
    return name.lstrip("/")


# -- EmoBox ------------------------------------------------------------------------------------------------


def _base(path: Path, first: str, finder: PathFinder) -> Path:
    """The folder relative paths start from: the table's, or for JSON lines the one above it that holds the first."""
    places = [path.parent]
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        places += list(path.resolve().parents[1:4])
    return next((place for place in places if finder.there(place, first)), path.parent)


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
