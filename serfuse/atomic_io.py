"""Files that are either wholly there or not there at all, also after a crash."""

import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import FolderInUseError, WriteError

try:
    import fcntl
except ImportError:  # Windows has no advisory locks of this kind; the writes themselves stay atomic
    fcntl = None

LOCK = ".lock"
_TEMPORARY = ".tmp-"
_STALE_SECONDS = 3600.0
_TRIES, _PAUSE = 5, 0.02  # whoever only asks whether a folder is in use holds its lock for an instant
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Create or replace `path` with what `write` puts into the open file it gets.

    The bytes go to a temporary file beside it, are flushed to the disk, and only then get the name; the rename is
    flushed too. So a reader, or a machine that loses power, sees the old file or the new one.

    Raises:
        WriteError: the disk is full, or the folder cannot be written. Nothing under `path` has changed.
    """
    temporary = temporary_name(path)
    try:
        with open(temporary, "xb") as file:
            write(file)
        put_in_place(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_name(path: Path, ending: str = "") -> Path:
    """A name beside `path` that nobody else has, for a file that `remove_stale` may remove where it is left over."""
    return path.with_name(f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-{path.name}{ending}")


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a finished file its name, in the same folder: flushed first, so that no crash leaves an empty one there.

    Raises:
        OSError: it cannot be flushed or renamed.
    """
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_atomic` of `encoded` text."""
    write_atomic(path, lambda file: file.write(encoded(text)))


def encoded(text: str) -> bytes:
    """UTF-8. Bytes of a file's name that are not UTF-8 become escapes (`\\udcf3`)."""
    return text.encode(errors="backslashreplace")


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
    if not folder.parent.exists():
        make_durable_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def make_folder(folder: Path) -> None:
    """Create `folder` with its parents if need be, durably, and prove that files can be created in it.

    Raises:
        WriteError: it cannot be created or written; it says why.
    """
    try:
        make_durable_folder(folder)
        probe = folder / f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-probe"
        with open(probe, "xb"):
            pass
        probe.unlink()
    except OSError as error:
        raise write_error(folder, error) from error


def remove_stale(folder: Path, *, alone: bool = False) -> None:
    """Remove temporary files and folders that a killed process left in `folder`.

    Args:
        folder: where to look; not below it.
        alone: nobody else writes there now (the caller holds its lock), so that all of them are left over; otherwise
            only those that are older than an hour.
    """
    for left in folder.glob(f"{_TEMPORARY}*"):
        with suppress(OSError):
            if alone or time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


@contextmanager
def locked(folder: Path, *, wait: bool = True, remove: bool = False) -> Iterator[None]:
    """Hold the advisory lock of `folder` against other processes that read, change and write the same file.

    Args:
        wait: until another process lets go of it; otherwise that is an error.
        remove: take the lock file away at the end, while it is still held. Whoever waited for it then holds the lock of
            a file without a name, notices, and tries again with the one that is there: two never get in.

    Raises:
        WriteError: the folder cannot be written.
        FolderInUseError: another process holds its lock and `wait` is False.
    """
    path = folder / LOCK
    try:
        descriptor = _held(path, wait)
    except BlockingIOError:
        raise FolderInUseError(folder) from None
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        yield
    finally:
        if remove:
            with suppress(OSError):
                path.unlink()
        os.close(descriptor)


def _held(path: Path, wait: bool) -> int:
    """The descriptor of a lock file that is held, and still has its name.

    Raises:
        BlockingIOError: another process holds it, and `wait` is False.
        OSError: it cannot be created.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is None or not _lock(descriptor, wait) or _is_same(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, wait: bool) -> bool:
    """Lock an open file; `False` on a file system without locks, which loses only the protection against two writers.

    Raises:
        BlockingIOError: another process holds it, and `wait` is False.
    """
    for left in reversed(range(1 if wait else _TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            if not left:
                raise
            time.sleep(_PAUSE)
        except OSError:
            return False
        else:
            break
    return True


def _is_same(descriptor: int, path: Path) -> bool:
    """Whether a path leads to the file that is open."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def in_use(folder: Path) -> bool:
    """Whether another process holds the lock of `folder` just now. Nothing is created or changed."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def write_error(path: Path, error: OSError) -> WriteError:
    """The error of serfuse for one of the operating system."""
    return WriteError(path, error.strerror or str(error), full=error.errno in _FULL)
