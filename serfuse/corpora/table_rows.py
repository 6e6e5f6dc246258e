"""The rows of a table on disk: CSV, JSON lines or Parquet, bounded."""

import csv
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .. import bounded_file
from ..errors import CorpusError

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

MAX_ROWS = 5_000_000
"""Most rows that are read unless told otherwise."""

MAX_BYTES = 1 << 30
"""Most bytes of a text table that are read, or of text in a Parquet table."""

# A Parquet table of some bytes can stand for thousands of times as many, where all rows are alike.
_PARQUET_TEXT, _PARQUET_TIMES = 1 << 26, 100
_MOST_COLUMNS = 10_000
_LINE = 1 << 20  # letters
_LINES_OF_A_ROW = 1000
_BATCH = 4096

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
    bounded_file.check(path, MAX_BYTES, CorpusError, owner="table of clips")
    return _READERS[kind](path, max_rows)


def _csv(path: Path, max_rows: int) -> Table:
    def lines() -> Iterator[list[str]]:
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                first = file.readline(_LINE)
                file.seek(0)
                text = _Lines(path, file)
                for row in csv.reader(text, delimiter=max("\t,;", key=first.count), strict=True):
                    text.of_row = 0
                    yield row
        except UnicodeDecodeError:
            raise CorpusError(f"{path}: is not UTF-8 text. Save the table as UTF-8.") from None
        except (OSError, csv.Error) as error:
            raise CorpusError(f"{path}: cannot be read as a table: {error}.") from None

    header = tuple(next(lines(), []))
    _check_columns(path, header)
    if len(set(header)) != len(header):
        raise CorpusError(f"{path}: two columns have one name: {', '.join(header)[:1000]}.")

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
                text = _Lines(path, file)
                for number, line in enumerate(text, start=1):
                    text.of_row = 0
                    _bounded(path, number, max_rows)
                    if line.strip():
                        yield number, _object(path, number, line)
        except UnicodeDecodeError:
            raise CorpusError(f"{path}: is not UTF-8 text. Save the table as UTF-8.") from None
        except (OSError, ValueError, RecursionError) as error:
            raise CorpusError(f"{path}: cannot be read as JSON lines: {error}.") from None

    # A key may be missing from any row, also from the first: the columns are those of all rows.
    keys: dict[str, None] = {}
    for _, row in objects():
        keys.update(dict.fromkeys(row))
        _check_columns(path, keys)
    header = tuple(keys)

    def rows(wanted: Collection[str]) -> Iterator[tuple[int, Row]]:
        kinds = {column: _Kinds(path, column) for column in wanted}
        for number, row in objects():
            for column, seen in kinds.items():
                seen.add(number, row.get(column))
            yield number, row

    return Table(path, header, rows)


class _Lines:
    """The lines of a text file, of bounded length.

    Attributes:
        of_row: how many were given since somebody set it to 0, which the reader of a row does behind each.
    """

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file, self.of_row, self._number = path, file, 0, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(_LINE + 1)
        if not line:
            raise StopIteration
        self._number, self.of_row = self._number + 1, self.of_row + 1
        if len(line) > _LINE or self.of_row > _LINES_OF_A_ROW:
            raise CorpusError(f"{self._path}, line {self._number}: too long a row for a table of clips.")
        return line


def _check_columns(path: Path, names: Collection[str]) -> None:
    if len(names) > _MOST_COLUMNS:
        raise CorpusError(f"{path}: more than {_MOST_COLUMNS} columns, which no table of clips has.")


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

    @contextmanager
    def opened(text: Sequence[str] = ()) -> Iterator[pyarrow.parquet.ParquetFile]:
        try:
            with pyarrow.parquet.ParquetFile(path, read_dictionary=list(text)) as table:
                yield table
        except UnicodeDecodeError:
            raise CorpusError(f"{path}: holds text that is not UTF-8.") from None
        except (pyarrow.ArrowException, OSError) as error:
            raise CorpusError(f"{path}: cannot be read as Parquet: {error}.") from None

    def rows(wanted: Collection[str]) -> Iterator[tuple[int, Row]]:
        columns = sorted(wanted)
        with opened() as table:
            text = _check_parquet(path, table, columns)
        # Text comes as numbers into a list of distinct values, each of which is kept once however often it stands.
        with opened(text) as table:
            _check_text(path, table, text)
            kept: dict[str, dict[Any, Any]] = {column: {} for column in columns}
            number = 0
            for batch in table.iter_batches(_BATCH, columns=columns):
                values = [_values(batch.column(column), kept[column]) for column in columns]
                for row in zip(*values, strict=True):
                    number += 1
                    _bounded(path, number, max_rows)
                    yield number, dict(zip(columns, row, strict=True))

    with opened() as table:
        header = tuple(table.schema_arrow.names)
        count = table.metadata.num_rows
    _check_columns(path, header)
    _bounded(path, count, max_rows)
    return Table(path, header, rows)


def _check_parquet(path: Path, table: "pyarrow.parquet.ParquetFile", columns: Sequence[str]) -> list[str]:
    """Those of the columns that hold text, after a look at what the file claims to hold.

    Raises:
        CorpusError: a column of lists or the like, or more bytes than a table of clips has.
    """
    import pyarrow

    for column in columns:
        kind = table.schema_arrow.field(column).type
        if pyarrow.types.is_nested(kind):
            raise CorpusError(f"{path}: column {column} holds {kind}, expected text or a number.")
    claimed = 0
    for group in range(table.metadata.num_row_groups):
        about = table.metadata.row_group(group)
        chunks = (about.column(place) for place in range(about.num_columns))
        claimed += sum(max(0, chunk.total_uncompressed_size) for chunk in chunks if chunk.path_in_schema in columns)
    if claimed > _most_text(path):
        raise CorpusError(f"{path}: unpacks to {claimed >> 20} MB, which no table of clips of its size holds.")
    kinds = {column: table.schema_arrow.field(column).type for column in columns}
    return [column for column, kind in kinds.items() if _is_text(kind)]


def _check_text(path: Path, table: "pyarrow.parquet.ParquetFile", columns: Sequence[str]) -> None:
    """Refuse more text than a table of clips has; what stands there often counts as often."""
    import pyarrow.compute as pc

    total = 0
    for batch in table.iter_batches(_BATCH, columns=list(columns)) if columns else ():
        for column in batch.columns:
            lengths = pc.binary_length(column.dictionary).take(column.indices)
            total += pc.sum(lengths).as_py() or 0
        if total > _most_text(path):
            raise CorpusError(
                f"{path}: holds more than {_most_text(path) >> 20} MB of text, which no table of clips of its size "
                "does."
            )


def _most_text(path: Path) -> int:
    return min(MAX_BYTES, _PARQUET_TEXT + _PARQUET_TIMES * path.stat().st_size)


def _is_text(kind: "pyarrow.DataType") -> bool:
    import pyarrow

    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)


def _values(column: "pyarrow.Array", kept: dict[Any, Any]) -> list[Any]:
    """The values of a column; those of text are kept once each."""
    import pyarrow

    if not pyarrow.types.is_dictionary(column.type):
        return column.to_pylist()
    used = column.indices.unique().drop_null()
    found = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))
    known = {place: kept.setdefault(value, value) for place, value in found.items()}
    return [None if place is None else known[place] for place in column.indices.to_pylist()]


def _bounded(path: Path, rows: int, max_rows: int) -> None:
    if rows > max_rows:
        raise CorpusError(f"{path}: more than {max_rows} rows. Split the table, or raise max_rows.")


_READERS = {".csv": _csv, ".tsv": _csv, ".parquet": _parquet, ".jsonl": _jsonl, ".ndjson": _jsonl}
