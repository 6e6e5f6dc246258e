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
        header: names of its columns (of JSON lines: the keys of all objects, in the order in which they come).
        rows: from the columns that are wanted to pairs of a row's number in the file and its values. Raises
            `CorpusError` where a row is malformed or one too many, or one of these columns mixes text and numbers.
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
    def objects() -> Iterator[tuple[int, Row]]:
        try:
            with path.open(encoding="utf-8-sig") as file:
                for number, line in enumerate(file, start=1):
                    _bounded(path, number, max_rows)
                    if line.strip():
                        yield number, _object(path, number, line)
        except UnicodeDecodeError:
            raise CorpusError(f"{path}: is not UTF-8 text. Save the table as UTF-8.") from None
        except (OSError, ValueError, RecursionError) as error:
            raise CorpusError(f"{path}: cannot be read as JSON lines: {error}.") from None

    # A key may be missing from any row, also from the first: the columns are those of all rows.
    header = tuple(dict.fromkeys(key for _, row in objects() for key in row))

    def rows(wanted: Collection[str]) -> Iterator[tuple[int, Row]]:
        kinds = {column: _Kinds(path, column) for column in wanted}
        for number, row in objects():
            for column, seen in kinds.items():
                seen.add(number, row.get(column))
            yield number, row

    return Table(path, header, rows)


def _object(path: Path, number: int, line: str) -> Row:
    """The object in one line of JSON.

    Raises:
        CorpusError: it is something else, or names a key twice.
        ValueError: it is no JSON.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise CorpusError(f"{path}, row {number}: has the key {twice!r} twice. Keep one of the two.")
        return found

    found = json.loads(line, object_pairs_hook=unique)
    if not isinstance(found, dict):
        raise CorpusError(f"{path}, row {number}: expected an object such as {{...}}.")
    return found


class _Kinds:
    """Sees to it that a column holds text or numbers throughout: 3 and "3" would be two speakers, or one by chance."""

    def __init__(self, path: Path, column: str) -> None:
        self._path, self._column = path, column
        self._first: tuple[str, int] | None = None

    def add(self, number: int, value: Any) -> None:
        """Look at the value of one row; `None` is no value.

        Raises:
            CorpusError: a list or an object, or text where a row before has a number.
        """
        if value is None or value == "":
            return
        names = {str: "text", bool: "true or false", int: "a number", float: "a number"}
        kind = names.get(type(value))
        where = f"{self._path}, row {number}: column {self._column}"
        if kind is None:
            raise CorpusError(f"{where} holds {type(value).__name__}, expected text or a number.")
        if self._first is None:
            self._first = kind, number
        elif self._first[0] != kind:
            raise CorpusError(
                f"{where} holds {kind} ({value!r}), but {self._first[0]} in row {self._first[1]}. Write all of its "
                "values the same way."
            )


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
