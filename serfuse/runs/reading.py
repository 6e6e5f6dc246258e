"""The files of a run folder, which may come from anybody: read in bounded time and memory, or refused by name."""

import io
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import RunError

MOST_JSON_BYTES = 64 << 20  # a fold takes three kilobytes
MOST_TABLE_BYTES = 1 << 30  # folds.csv names every clip once per fold: a hundred folds of ten thousand clips have 40 MB
_MOST_COLUMNS = 10_000
_TEXT = {"clip": str, "speaker": str, "text": str, "label": str, "predicted": str, "part": str, "audio": str}


def file_bytes(path: Path, most: int) -> bytes:
    """What a regular file holds.

    Args:
        path: the file, or a link to it.
        most: bytes; a larger file is not read.

    Raises:
        RunError: it is missing, no regular file (a pipe would be waited for, a device may never end), too large, or
            cannot be read.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # whatever took its place since, nobody waits

    try:
        if stat.S_ISREG(path.stat().st_mode):
            with open(path, "rb", opener=opener) as file:
                found = os.fstat(file.fileno())
                if stat.S_ISREG(found.st_mode):
                    data = file.read(most + 1) if found.st_size <= most else None
                    if data is None or len(data) > most:
                        raise RunError(f"{path} is larger than {most >> 20} MB, which no run's is.")
                    return data
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}.") from None
    raise RunError(f"{path} is not a file. Give a folder that `serfuse cv` wrote.")


def json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        RunError: as `file_bytes`, or it is no JSON object.
    """
    data = file_bytes(path, MOST_JSON_BYTES)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {str(error) or 'it is nested without end'}.") from None
    if not isinstance(found, dict):
        raise RunError(f"{path} holds {type(found).__name__}, expected an object with the figures of a run.")
    return found


def table(path: Path, columns: Sequence[str], *, numbers: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV table. Names stay text: speaker "03" is not 3, and a clip called "NA" is not missing.

    Args:
        path: the file.
        columns: those that it must have.
        numbers: those that hold finite numbers; `repeat` and `fold` always hold whole ones.

    Raises:
        RunError: as `file_bytes`, it is no table, lacks a column, or holds something else than it should.
    """
    return _checked(_parsed(file_bytes(path, MOST_TABLE_BYTES), path), path, columns, numbers)


def optional_table(path: Path, columns: Sequence[str], *, numbers: Sequence[str] = ()) -> pd.DataFrame:
    """As `table`; without rows where the file is missing, empty, or of a model that has nothing to tell there."""
    data = file_bytes(path, MOST_TABLE_BYTES) if os.path.lexists(path) else b""
    if not data.strip():
        return pd.DataFrame()
    found = _parsed(data, path)
    if found.empty or set(found.columns) <= {"repeat", "fold"}:  # a model without epochs
        return pd.DataFrame()
    return _checked(found, path, columns, numbers)


def _parsed(data: bytes, path: Path) -> pd.DataFrame:
    if io.BytesIO(data).readline().count(b",") > _MOST_COLUMNS:
        raise RunError(f"{path} has more than {_MOST_COLUMNS} columns, which no run's has.")
    try:
        return pd.read_csv(
            io.BytesIO(data), dtype=_TEXT, keep_default_na=False, na_values={"speaker": [""], "text": [""]}
        )
    except (ValueError, OverflowError) as error:  # pandas' own errors of reading are ValueErrors
        raise RunError(f"{path} cannot be read: {error}") from None


def _checked(found: pd.DataFrame, path: Path, columns: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    missing = [column for column in columns if column not in found.columns]
    if missing:
        raise RunError(f"{path} has no column {', '.join(missing)}; it has {', '.join(map(str, found.columns))}.")
    for column in ("repeat", "fold"):
        if column in found.columns:
            found[column] = whole_numbers(found[column], str(path))
    for column in numbers:
        if column in found.columns:
            _check_finite(found[column], str(path))
    return found


def whole_numbers(column: pd.Series, where: str) -> pd.Series:
    """The column as int64.

    Raises:
        RunError: it holds something else than whole numbers; `where` names the table.
    """
    try:
        found = column.astype(float)
        if not ((found == found.round()) & (found.abs() < 2**53)).all():
            raise ValueError("expected whole numbers")
    except (ValueError, TypeError) as error:
        raise RunError(f"{where}: the column {column.name!r} holds something that is no number ({error}).") from None
    return found.astype("int64")


def _check_finite(column: pd.Series, where: str) -> None:
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if not numeric or not np.isfinite(column.astype(float)).all():
        raise RunError(f"{where}: the column {column.name!r} holds something that is no number.")
