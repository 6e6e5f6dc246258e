"""What looking at files has told so far, so that who interrupts it need not begin again.

While a corpus is surveyed, the hashes of its files are written beside the table of clips now and then, a sealed file
each time. They are of use until the table holds them. One that is damaged tells nothing: its files are read again.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from ..errors import StoreError
from . import json_file
from .files import StorePath
from .records import FileStamp

Files = dict[str, tuple[FileStamp, str, float]]
PATTERN = "looked-*.json"
_OLD_SECONDS = 30 * 24 * 3600.0


def write(folder: StorePath, files: Mapping[str, tuple[FileStamp, str, float]]) -> None:
    """Add what is known of some files: `{path: (stamp, content hash, seconds)}`.

    Raises:
        WriteError: the file cannot be written.
    """
    name = f"looked-{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}.json"
    content = (
        (path, [stamp.size, stamp.mtime_ns, stamp.ctime_ns, digest, seconds])
        for path, (stamp, digest, seconds) in files.items()
    )
    json_file.write_items(folder / name, "files", content)


def read(folder: StorePath) -> Files:
    """All that was added, of a file what was added last."""
    found: Files = {}
    for path in sorted(folder.glob(PATTERN)):
        found.update(_each(path))
    return found


def forget(folder: StorePath, known: Callable[[], Files]) -> None:
    """Remove what the table of clips knows now, and what nobody has come back to for a month.

    Args:
        folder: of the corpus.
        known: gives what the table knows; asked only where there is something to compare.
    """
    if not (paths := sorted(folder.glob(PATTERN))):
        return
    there = known()
    for path in paths:
        with suppress(OSError, StoreError):
            old = time.time() - int(path.name.split("-")[1]) / 1e9 > _OLD_SECONDS
            if old or all(there.get(name) == about for name, about in _each(path)):
                path.unlink()


def _each(path: StorePath) -> Iterator[tuple[str, tuple[FileStamp, str, float]]]:
    """What a file tells, one by one; of one that is damaged nothing."""
    try:
        for name, (size, mtime, ctime, digest, seconds) in json_file.items(path, "files"):
            yield str(name), (FileStamp(int(size), int(mtime), int(ctime)), str(digest), float(seconds))
    except (StoreError, KeyError, AttributeError, TypeError, ValueError):
        return
