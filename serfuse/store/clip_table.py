"""The table of a corpus' clips: one row each, with labels and what its audio is."""

import io
import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..corpora.base import Clip
from ..corpora.remarks import escaped
from ..errors import StoreError
from . import parquet, seal
from .damage import DamageError, first_line, repair_command, unknown_format
from .files import StorePath, distrust, local, write_atomic
from .records import AudioFacts, FileStamp

_COLUMNS = ("id", "path", "emotion", "speaker", "text", "fold", "seconds", "audio", "start", "end")
FORMAT = 2
_FORMAT, _INFO = "serfuse.format", "serfuse.corpus"
# What a table may take once it is decoded, where columns of few different texts are small in the file.
_FLOOR_BYTES, _MOST_RATIO = 1 << 28, 64
_STEP_ROWS = 1 << 14
_GROUP_ROWS = 1 << 16  # Arrow holds a whole group while it is written
STAMP_COLUMNS = ("_size", "_mtime_ns", "_ctime_ns", "_file_seconds")
"""Columns that only serve to know a file again without reading it."""


def absolute(path: Path | str) -> str:
    """A clip's path as the table and the survey write it: from the root on, and otherwise as it is."""
    text = str(path if isinstance(path, Path) else Path(path))
    return text if os.path.isabs(text) else str(Path(text).absolute())


def make(rows: Sequence[tuple[Clip, AudioFacts]]) -> pa.Table:
    """The table of these clips, sorted by id."""
    rows = sorted(rows, key=lambda row: row[0].id)
    text, number, count = pa.string(), pa.float64(), pa.int64()
    paths: dict[str, str] = {}  # by text: a Path that is hashed takes twice the memory
    for clip, _ in rows:
        if (path := str(clip.path)) not in paths:
            paths[path] = escaped(absolute(clip.path))
    columns: dict[str, pa.Array] = {
        "id": pa.array([clip.id for clip, _ in rows], text),
        "path": pa.array([paths[str(clip.path)] for clip, _ in rows], text),
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


def write(path: StorePath, table: pa.Table, info: str) -> None:
    """Whole or not at all, and sealed.

    Args:
        path: the file.
        table: from `make`.
        info: the text of `corpus.json`, which `serfuse store repair` makes anew from here.

    Raises:
        WriteError: the file cannot be written.
    """
    buffer = io.BytesIO()
    # Columns of which nearly every value is another one take four times as long to read where they are coded.
    # That is seen in some of the rows: counting the texts of all of a million takes more memory than the table.
    some = table.take(pa.array(range(0, table.num_rows, 1 + table.num_rows // _GROUP_ROWS), pa.int64()))
    coded = [name for name in some.column_names if 2 * pc.count_distinct(some[name]).as_py() <= some.num_rows]
    options = {"compression": "zstd", "write_page_checksum": True, "use_dictionary": coded}
    with pq.ParquetWriter(buffer, table.schema, **options) as writer:
        writer.write_table(table, row_group_size=_GROUP_ROWS)
        writer.add_key_value_metadata({_FORMAT: str(FORMAT), _INFO: info, seal.NAME: seal.BLANK})
    write_atomic(path, lambda file: file.write(seal.sealed(buffer.getvalue())))


def read(path: StorePath, columns: Sequence[str] | None = None, *, stamps: bool = True) -> pa.Table:
    """The table in a file, or some of its columns.

    Args:
        path: the file.
        columns: their names; `None` for all.
        stamps: with `STAMP_COLUMNS`, where all are read.

    Raises:
        DamageError: it is not as it was written, or claims more than it can hold.
        StoreError: its format is unknown.
    """
    return _read(path, columns, stamps)[0]


def info(path: StorePath) -> str:
    """The text of `corpus.json` when the table was written; "" in the first format.

    Raises:
        DamageError: as `read`.
    """
    return _read(path)[1]


def _read(path: StorePath, columns: Sequence[str] | None = None, stamps: bool = True) -> tuple[pa.Table, str]:
    command = repair_command(path.parent.parent)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        held = local(path, status)
        data = held.read_bytes()
        broken = seal.broken(data)
        if broken:
            raise ValueError("it is not as it was written")
        with parquet.opened(held) as reader:
            notes, names = reader.metadata.metadata or {}, reader.schema_arrow.names
        form = notes.get(_FORMAT.encode(), b"1").decode()
        if broken is None and (form == str(FORMAT) or _INFO.encode() in notes):
            raise ValueError("it is not as it was written")
        if form not in ("1", str(FORMAT)):
            raise unknown_format(path, form)
        wanted = columns or [name for name in names if stamps or name not in STAMP_COLUMNS]
        table = parquet.table(held, wanted, _FLOOR_BYTES + _MOST_RATIO * len(data), sealed=broken is False)
    except StoreError:
        raise
    except Exception as error:  # Arrow raises what it likes about bytes that it does not expect
        distrust(path)
        raise DamageError(
            path,
            f"The table {path} cannot be read ({first_line(error)}). Delete it, or set it aside with `{command}`, "
            "and run `serfuse extract` again; the embeddings stay.",
            first_line(error),
        ) from error
    every = (*_COLUMNS, *STAMP_COLUMNS) if stamps else _COLUMNS
    lacking = [name for name in columns or every if name not in table.column_names]
    if lacking:
        raise DamageError(
            path,
            f"The table {path} has no column {', '.join(lacking)}. Set it aside with `{command}` and extract again.",
        )
    return table.replace_schema_metadata(None), notes.get(_INFO.encode(), b"").decode()


def holds(path: StorePath, table: pa.Table) -> bool:
    """Whether a file holds just this table; False too where it is damaged or not there.

    It is read a group of rows at a time, so that two tables of a million clips need not be in memory together.
    """
    try:
        held = local(path)
        data = held.read_bytes()
        if seal.broken(data) is not False:
            return False
        with parquet.opened(held) as reader:
            metadata, names = reader.metadata, reader.schema_arrow.names
        most, at = _FLOOR_BYTES + _MOST_RATIO * len(data), 0
        if metadata.num_rows != table.num_rows or names != table.column_names:
            return False
        for group in range(metadata.num_row_groups):
            some = parquet.table(held, None, most, sealed=True, group=group).replace_schema_metadata(None)
            if not some.equals(table.slice(at, some.num_rows)):
                return False
            at += some.num_rows
        return at == table.num_rows
    except Exception:  # whoever reads it says what is wrong
        return False
    finally:
        pa.default_memory_pool().release_unused()  # Arrow keeps what the groups took: a fifth of a survey's peak


def files(table: pa.Table) -> dict[str, tuple[FileStamp, str, float]]:
    """Files whose stamp can be trusted: `{path: (stamp, content hash, seconds)}`."""
    found: dict[str, tuple[FileStamp, str, float]] = {}
    for batch in table.select(["path", "audio", *STAMP_COLUMNS]).to_batches(max_chunksize=_STEP_ROWS):
        for path, audio, *stamp, seconds in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if path not in found and audio is not None and None not in stamp and seconds is not None:
                found[path] = (FileStamp(*stamp), audio.partition("@")[0], seconds)
    return found
