"""The files of a run folder, which may come from anybody: read in bounded time and memory, or refused by name."""

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import bounded_file
from ..errors import RunError

DIGESTS = "SHA256SUMS"
"""Name of the file with the digests of the others."""

MOST_JSON_BYTES = 64 << 20  # a fold takes three kilobytes
MOST_TABLE_BYTES = 1 << 30  # folds.csv names every clip once per fold: a hundred folds of ten thousand clips have 40 MB
MOST_DIGEST_BYTES = 1 << 20
_MOST_COLUMNS = 10_000
# The very numbers that were written, to the last digit: from pandas 3.1 on that is what it does anyway.
_EXACT = {"float_precision": "round_trip"} if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1) else {}
_DIGEST_LINE = re.compile(r"([0-9a-f]{64})  ([\w.-]{1,100})", re.A)
_TEXT = {"clip": str, "speaker": str, "text": str, "label": str, "predicted": str, "part": str, "audio": str}


def file_bytes(path: Path, most: int, digests: Mapping[str, str] | None = None) -> bytes:
    """What a regular file holds.

    Args:
        path: the file, or a link to it.
        most: bytes; a larger file is not read.
        digests: what `read_digests` says of the files beside it; one that it names must be as it was written.

    Raises:
        RunError: it is missing, no regular file (a pipe would be waited for, a device may never end), too large, not
            as it was written, or cannot be read.
    """
    data = bounded_file.read_bytes(path, most, RunError, owner="run's", advice="Give a folder that `serfuse cv` wrote.")
    expected = (digests or {}).get(path.name)
    if expected is not None and digest(data) != expected:
        raise RunError(
            f"{path} is not as it was written: its digest is not the one in {DIGESTS} beside it. It was damaged, or "
            f"edited. Copy it again, or run it again; where the change is meant, delete {path.parent / DIGESTS}."
        )
    return data


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a run folder by their names, as they were written.

    `sha256sum --check` reads the same file. Runs before 0.2 have none: nothing is known of theirs.

    Raises:
        RunError: the file of digests is damaged, or a file that it names is missing.
    """
    path = folder / DIGESTS
    if not os.path.lexists(path):
        return {}
    found = {}
    for line in file_bytes(path, MOST_DIGEST_BYTES).decode("utf-8", "replace").splitlines():
        match = _DIGEST_LINE.fullmatch(line)
        if match is None:
            raise RunError(f"{path} is damaged: {line[:100]!r} is no digest of a file. Copy the folder again.")
        found[match[2]] = match[1]
    missing = sorted(name for name in found if not os.path.lexists(folder / name))
    if missing:
        raise RunError(
            f"{folder} is not a whole run folder: {', '.join(missing[:5])} is missing, of which {DIGESTS} tells. Copy "
            "the folder again, or run it again."
        )
    return found


def digest_lines(digests: Mapping[str, str]) -> str:
    """The text that `read_digests` reads."""
    return "".join(f"{value}  {name}\n" for name, value in sorted(digests.items()))


def json_object(path: Path, digests: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        RunError: as `file_bytes`, or it is no JSON object.
    """
    data = file_bytes(path, MOST_JSON_BYTES, digests)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {str(error) or 'it is nested without end'}.") from None
    if not isinstance(found, dict):
        raise RunError(f"{path} holds {type(found).__name__}, expected an object with the figures of a run.")
    return found


def table(
    path: Path, columns: Sequence[str], *, numbers: Sequence[str] = (), digests: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """A CSV table. Names stay text: speaker "03" is not 3, and a clip called "NA" is not missing.

    Args:
        path: the file.
        columns: those that it must have.
        numbers: those that hold finite numbers; `repeat` and `fold` always hold whole ones.
        digests: see `file_bytes`.

    Raises:
        RunError: as `file_bytes`, it is no table, lacks a column, or holds something else than it should.
    """
    return _checked(_parsed(file_bytes(path, MOST_TABLE_BYTES, digests), path), path, columns, numbers)


def optional_table(
    path: Path, columns: Sequence[str], *, numbers: Sequence[str] = (), digests: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """As `table`; without rows where the file is missing, empty, or of a model that has nothing to tell there."""
    data = file_bytes(path, MOST_TABLE_BYTES, digests) if os.path.lexists(path) else b""
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
            io.BytesIO(data),
            dtype=_TEXT,
            keep_default_na=False,
            na_values={"speaker": [""], "text": [""]},
            **_EXACT,
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
