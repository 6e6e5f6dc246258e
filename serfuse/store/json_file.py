"""JSON files as the store reads them."""

import json
from pathlib import Path
from typing import Any

from ..errors import StoreError


def first_line(error: Exception) -> str:
    """What to quote of an error of another library."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def read(path: Path) -> dict[str, Any]:
    """The object in a file.

    Raises:
        StoreError: it cannot be read, or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(
            f"The file {path} cannot be read ({first_line(error)}). Delete it and run `serfuse extract` again."
        ) from error
    if not isinstance(data, dict):
        raise StoreError(f"The file {path} is damaged. Delete it and run `serfuse extract` again.")
    return data
