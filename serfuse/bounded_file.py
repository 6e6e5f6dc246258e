"""Files that may come from anybody, read in bounded time and memory, or refused by name.

A pipe would be waited for and a device may never end, also behind a link: only regular files are opened, and no more is
read of them than was said.
"""

import os
import stat
from pathlib import Path

from .errors import SerfuseError


def check(path: Path, most: int, error: type[SerfuseError], *, owner: str, advice: str = "") -> int:
    """The size of a regular file, in bytes, before somebody else opens it.

    Args:
        path: the file, or a link to it.
        most: bytes that it may have.
        error: what is raised.
        owner: whose file it is, "no ... is so large": "run's", "list of clips".
        advice: a sentence on what to give instead of what is no file.

    Raises:
        error: it is missing, no regular file, larger than `most`, or cannot be looked at.
    """
    try:
        return _checked(os.stat(path), path, most, error, owner, advice)
    except OSError as failed:
        raise error(f"{path} cannot be read: {failed.strerror or failed}.") from None


def read_bytes(path: Path, most: int, error: type[SerfuseError], *, owner: str, advice: str = "") -> bytes:
    """What a regular file holds. Arguments and errors as for `check`."""
    check(path, most, error, owner=owner, advice=advice)

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # whatever took its place since, nobody waits

    try:
        with open(path, "rb", opener=opener) as file:
            _checked(os.fstat(file.fileno()), path, most, error, owner, advice)
            data = file.read(most + 1)
    except OSError as failed:
        raise error(f"{path} cannot be read: {failed.strerror or failed}.") from None
    if len(data) > most:
        raise error(_too_large(path, most, owner))
    return data


def read_text(path: Path, most: int, error: type[SerfuseError], *, owner: str, advice: str = "") -> str:
    """As `read_bytes`, for text in UTF-8."""
    try:
        return read_bytes(path, most, error, owner=owner, advice=advice).decode("utf-8")
    except UnicodeDecodeError:
        raise error(f"{path} cannot be read: it is not text in UTF-8.") from None


def _checked(found: os.stat_result, path: Path, most: int, error: type[SerfuseError], owner: str, advice: str) -> int:
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path} is not a file. {advice}".rstrip())
    if found.st_size > most:
        raise error(_too_large(path, most, owner))
    return found.st_size


def _too_large(path: Path, most: int, owner: str) -> str:
    bound = f"{most >> 20} MB" if most >= 1 << 20 else f"{most >> 10} kB"
    return f"{path} is larger than {bound}, which no {owner} is."
