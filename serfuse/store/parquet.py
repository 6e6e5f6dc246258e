"""Parquet files as the store reads them: verified, and no more than they can honestly hold."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from . import together

_LARGE_BYTES = 1 << 24  # from which on two threads are quicker


@contextmanager
def opened(path: Path | bytes, *, coded: Sequence[str] = (), buffer_size: int = 0) -> Iterator[pq.ParquetFile]:
    """A Parquet file, opened with its checksums verified.

    By Arrow's own file and without its threads: threads that read through a Python file may outlive the interpreter,
    which then aborts or hangs at its end, now and then (github.com/apache/arrow issues 34314, 50482).

    Args:
        path: the file, or the bytes of one (of which its end is enough, where only metadata are asked for).
        coded: columns that stay coded by a dictionary.
        buffer_size: bytes to read at a time; 0 for a column of a row group at once.
    """
    with pa.BufferReader(path) if isinstance(path, bytes) else pa.OSFile(str(path)) as file:
        yield pq.ParquetFile(
            file,
            page_checksum_verification=True,
            pre_buffer=False,
            read_dictionary=list(coded) or None,
            buffer_size=buffer_size,
        )


def decoded_bytes(metadata: pq.FileMetaData) -> int:
    """What the pages of a file take once they are decompressed, as it says."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    return sum(group.total_byte_size for group in groups)


def table(path: Path, columns: Sequence[str] | None, most: int, *, sealed: bool, group: int | None = None) -> pa.Table:
    """Columns of a file, where a few bytes may stand for gigabytes by way of a dictionary.

    Args:
        path: the file.
        columns: their names, `None` for all.
        most: bytes that they may take.
        sealed: its footer is known to be as it was written. Otherwise it is not asked about single columns: Arrow ends
            the process over some wrong bytes there ("histogram size mismatch", Arrow 26).
        group: the number of the row group to read, `None` for all.

    Raises:
        ValueError: they would take more.
    """
    with opened(path) as reader:
        metadata, schema = reader.metadata, reader.schema_arrow
        names = list(columns) if columns is not None else schema.names
        coded = {name for name in names if pa.types.is_string(schema.field(name).type)}
        claimed = decoded_bytes(metadata)
        sizes: dict[str, int] = {}
        if sealed:
            numbers = range(metadata.num_row_groups) if group is None else [group]
            groups = [metadata.row_group(number) for number in numbers]
            chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
            chunks = [chunk for chunk in chunks if chunk.path_in_schema in names]
            coded &= {chunk.path_in_schema for chunk in chunks if chunk.has_dictionary_page}
            claimed = sum(chunk.total_uncompressed_size for chunk in chunks)
            sizes = dict.fromkeys(names, 0)
            for chunk in chunks:
                sizes[chunk.path_in_schema] += chunk.total_uncompressed_size
        claimed += 8 * metadata.num_rows * len(names)
        if claimed > most:
            raise ValueError(f"it claims to hold {claimed >> 20} MB of text, more than {most >> 20} MB")

    def read(some: list[str]) -> pa.Table:
        with opened(path, coded=sorted(coded.intersection(some))) as reader:
            if group is not None:
                return reader.read_row_group(group, columns=some, use_threads=False)
            return reader.read(columns=some, use_threads=False)

    halves = _halves(sizes) if sum(sizes.values()) > _LARGE_BYTES else [names]
    columns = {name: part[name] for part in together.each(read, halves) for name in part.column_names}
    found = pa.table({name: columns[name] for name in names})
    left = most - claimed
    for number, name in enumerate(found.column_names):
        if name in coded:
            for chunk in found[name].chunks:
                lengths = pc.binary_length(chunk.dictionary).take(chunk.indices)
                left -= pc.sum(lengths).as_py() or 0
            if left < 0:
                raise ValueError(f"its column {name} takes more than {most >> 20} MB")
            found = found.set_column(number, schema.field(name), found[name].cast(pa.string()))
    return found


def _halves(sizes: dict[str, int]) -> list[list[str]]:
    """The names in two lists that take about as long to read."""
    found, weights = [[], []], [0, 0]
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        lighter = weights.index(min(weights))
        found[lighter].append(name)
        weights[lighter] += sizes[name]
    return [half for half in found if half]
