"""JSON files of the store: with their format, and sealed, so that no wrong byte goes unnoticed."""

import json
import os
import stat
from collections.abc import Mapping
from typing import Any

from . import seal
from .damage import DamageError, first_line, unknown_format
from .files import StorePath, distrust, local, write_text

FORMAT = 2
_KNOWN = (1, FORMAT)
_MOST_BYTES = 1 << 31  # heard.json has 150 bytes per clip


def read(path: StorePath, cure: str = "Delete it and run `serfuse extract` again.") -> dict[str, Any]:
    """The object in a file, without its format and seal.

    Args:
        path: the file.
        cure: what to do when it is damaged.

    Raises:
        DamageError: it cannot be read, is not as it was written, or holds something else.
        StoreError: its format is unknown.
    """
    data, whole = parsed(path, cure)
    if not whole:
        raise DamageError(path, f"The file {path} was changed, or is damaged. {cure}", "it is not as it was written")
    return data


def parsed(path: StorePath, cure: str) -> tuple[dict[str, Any], bool]:
    """As `read`, and whether it is as it was written; what is said of that is left to the caller."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            raise ValueError("it is no regular file, or a very large one")
        with open(
            local(path), "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
        ) as file:
            raw = file.read()
        broken = seal.broken(raw)
        data = json.loads(raw.decode())
    except (OSError, ValueError, RecursionError) as error:
        distrust(path)
        raise DamageError(
            path, f"The file {path} cannot be read ({first_line(error)}). {cure}", first_line(error)
        ) from error
    if not isinstance(data, dict):
        raise DamageError(path, f"The file {path} is damaged. {cure}")
    made = data.pop("format", 1)
    data.pop(seal.NAME, None)
    if broken is None and made == FORMAT:
        broken = True
    if not broken and (isinstance(made, bool) or made not in _KNOWN):
        raise unknown_format(path, made)
    if broken:
        distrust(path)
    return data, not broken


def write(path: StorePath, content: Mapping[str, Any], indent: int = 2) -> None:
    """Whole or not at all.

    Raises:
        WriteError: the file cannot be written.
    """
    write_text(path, text(content, indent))


def text(content: Mapping[str, Any], indent: int = 2) -> str:
    """What `write` puts into a file."""
    whole = json.dumps({"format": FORMAT, **content, seal.NAME: seal.BLANK}, ensure_ascii=False, indent=indent) + "\n"
    return seal.sealed(whole.encode(errors="backslashreplace")).decode()


def format_of(path: StorePath) -> int:
    """The format of a file that `read` accepts."""
    return int(json.loads(path.read_text(encoding="utf-8")).get("format", 1))
