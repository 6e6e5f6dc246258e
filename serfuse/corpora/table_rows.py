"""The rows of a table on disk: CSV, JSON lines or Parquet, bounded."""

import csv
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CorpusError

MAX_ROWS = 1_000_000
"""Most rows that are read unless told otherwise."""

MAX_BYTES = 1 << 29
"""Most bytes of a text table that are read."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table whose header has been read.

    Attributes:
        path: where it is.
        header: names of its columns (of JSON lines: of the first object's).
        rows: from the columns that are wanted to pairs of a row's number in the file and its values. Raises
            `CorpusError` where a row is malformed or one too many.
    """

    path: Path
    header: tuple[str, ...]
    rows: Callable[[Collection[str]], Iterator[tuple[int, Row]]]


def open_table(path: Path, max_rows: int = MAX_ROWS) -> Table:
    """A table, by what its name ends in.

    Raises:
        CorpusError: another ending, an unreadable file, or a table larger than the bounds.
    """
    kind = path.suffix.lower()
    if kind not in _READERS:
        raise CorpusError(f"{path}: expected a table that ends in {', '.join(_READERS)}, or a folder.")
    if kind != ".parquet" and path.stat().st_size > MAX_BYTES:
        raise CorpusError(f"{path}: too large for a table of clips: more than {MAX_BYTES >> 20} MB.")
    return _READERS[kind](path, max_rows)


def _csv(path: Path, max_rows: int) -> Table:
    def lines() -> Iterator[list[str]]:
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                first = file.readline()
                file.seek(0)
                yield from csv.reader(file, delimiter=max("\t,;", key=first.count), strict=True)
        except UnicodeDecodeError:
            raise CorpusError(f"{path}: is not UTF-8 text. Save the table as UTF-8.") from None
        except (OSError, csv.Error) as error:
            raise CorpusError(f"{path}: cannot be read as a table: {error}.") from None

    header = tuple(next(lines(), []))
    if len(set(header)) != len(header):
        raise CorpusError(f"{path}: two columns have one name: {', '.join(header)}.")

    def rows(wanted: Collection[str]) -> Iterator[tuple[int, Row]]:
        for number, values in enumerate(lines(), start=1):
            if number == 1 or not any(values):
                continue
            if len(values) != len(header):
                raise CorpusError(f"{path}, row {number}: has {len(values)} values, expected {len(header)}.")
            _bounded(path, number - 1, max_rows)
            yield number, dict(zip(header, values, strict=True))

    return Table(path, header, rows)


def _jsonl(path: Path, max_rows: int) -> Table:
    def rows(wanted: Collection[str]) -> Iterator[tuple[int, Row]]:
        try:
            with path.open(encoding="utf-8-sig") as file:
                for number, line in enumerate(file, start=1):
                    _bounded(path, number, max_rows)
                    if not line.strip():
                        continue
                    found = json.loads(line)
                    if not isinstance(found, dict):
                        raise CorpusError(f"{path}, row {number}: expected an object such as {{...}}.")
                    yield number, found
        except UnicodeDecodeError:
            raise CorpusError(f"{path}: is not UTF-8 text. Save the table as UTF-8.") from None
        except (OSError, ValueError, RecursionError) as error:
            raise CorpusError(f"{path}: cannot be read as JSON lines: {error}.") from None

    return Table(path, next((tuple(row) for _, row in rows(())), ()), rows)


def _parquet(path: Path, max_rows: int) -> Table:
    import pyarrow
    import pyarrow.parquet

    def rows(wanted: Collection[str]) -> Iterator[tuple[int, Row]]:
        number = 0
        try:
            with pyarrow.parquet.ParquetFile(path) as table:
                for batch in table.iter_batches(columns=sorted(wanted)):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, row
        except (pyarrow.ArrowException, OSError) as error:
            raise CorpusError(f"{path}: cannot be read as Parquet: {error}.") from None

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            header = tuple(table.schema_arrow.names)
            count = table.metadata.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise CorpusError(f"{path}: cannot be read as Parquet: {error}.") from None
    _bounded(path, count, max_rows)
    return Table(path, header, rows)


def _bounded(path: Path, rows: int, max_rows: int) -> None:
    if rows > max_rows:
        raise CorpusError(f"{path}: more than {max_rows} rows. Split the table, or raise max_rows.")


_READERS = {".csv": _csv, ".tsv": _csv, ".parquet": _parquet, ".jsonl": _jsonl, ".ndjson": _jsonl}
