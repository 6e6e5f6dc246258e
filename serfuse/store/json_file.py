"""JSON files of the store: with their format, and sealed, so that no wrong byte goes unnoticed."""

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from json.decoder import WHITESPACE
from typing import Any

from . import seal
from .damage import DamageError, first_line, unknown_format
from .files import StorePath, distrust, local, write_atomic, write_text

FORMAT = 2
_KNOWN = (1, FORMAT)
_MOST_BYTES = 1 << 31  # heard.json has 150 bytes per clip
_BEGIN = r'\s*\{\s*"format":\s*(\d+),\s*%s:\s*\{\s*'  # of a file that has an object of many items


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
    with _told(path, cure):
        content, broken = _content(path)
        data = json.loads(content)
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


def items(path: StorePath, name: str, cure: str = "Delete it and run `serfuse extract` again.") -> Iterator[tuple]:
    """Key and value of each item of the object called `name` in a file, one by one: a million take little memory.

    Raises:
        DamageError: as `read`; or there is no such object.
        StoreError: its format is unknown.
    """
    with _told(path, cure):
        content, broken = _content(path)
        begin = re.match(_BEGIN % re.escape(json.dumps(name)), content)
    if broken is False and begin and int(begin.group(1)) in _KNOWN:
        with _told(path, cure):  # as it was written, and as `write_items` writes
            decoder, at = json.JSONDecoder(), begin.end()
            while content[at] != "}":
                key, at = decoder.raw_decode(content, at)
                at = WHITESPACE.match(content, WHITESPACE.match(content, at).end() + 1).end()  # behind a colon
                value, at = decoder.raw_decode(content, at)
                yield key, value
                at = WHITESPACE.match(content, at).end()
                if content[at] == ",":
                    at = WHITESPACE.match(content, at + 1).end()
        return
    del content
    found = read(path, cure).get(name)
    if not isinstance(found, dict):
        raise DamageError(path, f"The file {path} is damaged. {cure}", f"it has no {name}")
    yield from found.items()


def sealed_text(path: StorePath, cure: str = "Delete it and run `serfuse extract` again.") -> str | None:
    """The text of a file that is as it was written; `None` of any other, of which `read` tells more.

    Raises:
        DamageError: it cannot be read.
    """
    with _told(path, cure):
        content, broken = _content(path)
    made = re.match(r'\s*\{\s*"format":\s*(\d+)', content)
    return content if broken is False and made and int(made.group(1)) in _KNOWN else None


def write_items(path: StorePath, name: str, content: Iterable[tuple[str, Any]]) -> None:
    """A file of one object called `name`, whose items are taken one by one.

    Raises:
        WriteError: the file cannot be written.
    """
    encode = json.JSONEncoder(ensure_ascii=False, indent=0).encode
    data = bytearray(f'{{\n"format": {FORMAT},\n{encode(name)}: {{'.encode())
    begin = len(data)
    for key, value in content:
        data += b",\n" if len(data) > begin else b"\n"
        data += f"{encode(key)}: {encode(value)}".encode(errors="backslashreplace")
    data += b"\n" * (len(data) > begin) + f'}},\n"{seal.NAME}": "{seal.BLANK}"\n}}\n'.encode()
    seal.fill(data)
    write_atomic(path, lambda file: file.write(data))


def _content(path: StorePath) -> tuple[str, bool | None]:
    """What a file holds, and what its seal says of that."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
        raise ValueError("it is no regular file, or a very large one")
    with open(
        local(path, status), "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
    ) as file:
        raw = file.read()
    return raw.decode(), seal.broken(raw)


@contextmanager
def _told(path: StorePath, cure: str) -> Iterator[None]:
    """What cannot be read is damage, named and with a cure."""
    try:
        yield
    except (OSError, ValueError, IndexError, RecursionError) as error:
        distrust(path)
        raise DamageError(
            path, f"The file {path} cannot be read ({first_line(error)}). {cure}", first_line(error)
        ) from error


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
