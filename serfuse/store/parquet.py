"""Parquet files as the store reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file, opened with its checksums verified.

    By Arrow's own file and without its threads: threads that read through a Python file may outlive the interpreter,
    which then aborts or hangs at its end, now and then (github.com/apache/arrow issues 34314, 50482).
    """
    with pa.OSFile(str(path)) as file:
        yield pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False)
