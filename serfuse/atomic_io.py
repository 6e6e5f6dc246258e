"""Files that are either wholly there or not there at all, also after a crash."""

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import StoreError

try:
    import fcntl
except ImportError:  # Windows has no advisory locks of this kind; the writes themselves stay atomic
    fcntl = None

LOCK = ".lock"
_TEMPORARY = ".tmp-"
_STALE_SECONDS = 3600.0
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Create or replace `path` with what `write` puts into the open file it gets.

    The bytes go to a temporary file beside it, are flushed to the disk, and only then get the name; the rename is
    flushed too. So a reader, or a machine that loses power, sees the old file or the new one.

    Raises:
        StoreError: the disk is full, or the folder cannot be written. Nothing under `path` has changed.
    """
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        raise StoreError(_reason(path, error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_atomic` of UTF-8 text."""
    write_atomic(path, lambda file: file.write(text.encode()))


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk.

    Raises:
        OSError: a file cannot be flushed. For a folder that is no error: some file systems, and Windows, cannot.
    """
    folder = path.is_dir()
    with suppress(OSError) if folder else nullcontext():
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_durable_folder(folder: Path) -> None:
    """Create `folder` with its parents if need be, so that their names survive a crash as well.

    Raises:
        OSError: it cannot be created.
    """
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_durable_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def make_folder(folder: Path) -> None:
    """Create `folder` with its parents if need be, and prove that files can be created in it.

    Raises:
        StoreError: it cannot be created or written; the message says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-probe"
        with open(probe, "xb"):
            pass
        probe.unlink()
    except OSError as error:
        raise StoreError(_reason(folder, error)) from error


def remove_stale(folder: Path) -> None:
    """Remove temporary files that a killed process left in `folder` more than an hour ago."""
    for left in folder.glob(f"{_TEMPORARY}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the advisory lock of `folder` against other processes that read, change and write the same file.

    Args:
        wait: until another process lets go of it; otherwise that is an error.

    Raises:
        StoreError: the folder cannot be written, or another process holds its lock and `wait` is False.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StoreError(_reason(folder, error)) from error
    try:
        if fcntl is not None:
            # A file system without locks loses only the protection against two simultaneous writers.
            with suppress(OSError):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                except BlockingIOError:
                    raise StoreError(
                        f"Another process is at work in {folder}. Wait for it to end, or give another folder."
                    ) from None
        yield
    finally:
        os.close(descriptor)


def _reason(path: Path, error: OSError) -> str:
    if error.errno in _FULL:
        return (
            f"Cannot write {path}: no space left on the disk, or a quota is used up ({error.strerror}). "
            "What was written before is intact; free some space and run the same command again."
        )
    return (
        f"Cannot write {path}: {error.strerror or error}. Give a folder that you may write to (--store FOLDER, or "
        "the variable SERFUSE_STORE)."
    )
