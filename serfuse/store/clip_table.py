"""The table of a corpus' clips: one row each, with labels and what its audio is."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..atomic_io import write_atomic
from ..corpora.base import Clip
from ..corpora.remarks import escaped
from ..errors import StoreError
from . import parquet
from .json_file import first_line
from .records import AudioFacts, FileStamp

_COLUMNS = ("id", "path", "emotion", "speaker", "text", "fold", "seconds", "audio", "start", "end")
STAMP_COLUMNS = ("_size", "_mtime_ns", "_ctime_ns", "_file_seconds")
"""Columns that only serve to know a file again without reading it."""


def make(rows: Sequence[tuple[Clip, AudioFacts]]) -> pa.Table:
    """The table of these clips, sorted by id."""
    rows = sorted(rows, key=lambda row: row[0].id)
    text, number, count = pa.string(), pa.float64(), pa.int64()
    columns: dict[str, pa.Array] = {
        "id": pa.array([clip.id for clip, _ in rows], text),
        "path": pa.array([escaped(str(Path(clip.path).absolute())) for clip, _ in rows], text),
        "emotion": pa.array([clip.emotion for clip, _ in rows], text),
        "speaker": pa.array([clip.speaker for clip, _ in rows], text),
        "text": pa.array([clip.text for clip, _ in rows], text),
        "fold": pa.array([clip.fold for clip, _ in rows], text),
        "seconds": pa.array([_none_for_nan(facts.seconds) for _, facts in rows], number),
        "audio": pa.array([facts.audio for _, facts in rows], text),
        "start": pa.array([clip.start for clip, _ in rows], number),
        "end": pa.array([clip.end for clip, _ in rows], number),
    }
    for name in sorted({name for clip, _ in rows for name in clip.extra}):
        column = f"extra_{name}" if name in columns or name in STAMP_COLUMNS else name
        values = [clip.extra.get(name) for clip, _ in rows]
        columns[column] = pa.array([None if value is None else str(value) for value in values], text)
    for name in ("size", "mtime_ns", "ctime_ns"):
        values = [getattr(facts.stamp, name) if facts.stamp and facts.settled else None for _, facts in rows]
        columns[f"_{name}"] = pa.array(values, count)
    columns["_file_seconds"] = pa.array([_none_for_nan(facts.file_seconds) for _, facts in rows], number)
    return pa.table(columns)


def _none_for_nan(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def write(path: Path, table: pa.Table) -> None:
    """Whole or not at all."""
    write_atomic(path, partial(pq.write_table, table, compression="zstd", write_page_checksum=True))


def read(path: Path) -> pa.Table:
    """The table in a file.

    Raises:
        StoreError: it is damaged.
    """
    try:
        with parquet.opened(path) as reader:
            table = reader.read(use_threads=False)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise StoreError(
            f"The table {path} cannot be read ({first_line(error)}). Delete the file and run `serfuse extract` again; "
            "the embeddings stay."
        ) from error
    lacking = [name for name in (*_COLUMNS, *STAMP_COLUMNS) if name not in table.column_names]
    if lacking:
        raise StoreError(f"The table {path} has no column {', '.join(lacking)}. Delete it and extract again.")
    return table


def files(table: pa.Table) -> dict[str, tuple[FileStamp, str, float]]:
    """Files whose stamp can be trusted: `{path: (stamp, content hash, seconds)}`."""
    found = {}
    columns = table.select(["path", "audio", *STAMP_COLUMNS]).to_pydict()
    for path, audio, *stamp, seconds in zip(*columns.values(), strict=True):
        if audio is not None and None not in stamp and seconds is not None:
            found[path] = (FileStamp(*stamp), audio.partition("@")[0], seconds)
    return found
