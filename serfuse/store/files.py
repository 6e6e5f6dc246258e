"""The files of a store, on a disk or in a storage of objects: what the rest of this package does to a path.

A store's root is a `Path` or an `ObjectPath`. On a disk everything is as `serfuse.atomic_io` does it: temporary names,
renames, flushes, advisory locks. A storage of objects has none of these, and needs few of them:

- An object is put whole or not at all, so no temporary name is needed. Parts have unique names and never change.
- What is moved is copied first and removed then.
- `local` gives the file to open and map: the path itself, or a copy on this machine.
- `locked` creates an object `.lock` in one step with looking for it. It is a lease: its owner renews it, and one that
  was not renewed for a minute is taken over; at once, where its owner was a process of this machine, which can be seen
  to have ended. It only keeps two writers of a small file (`corpus.json`, the table of
  clips, `heard.json`) from undoing each other; rows never depend on it, since parts are only removed after one that
  holds their rows is there.
"""

import os
import secrets
import shutil
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from .. import atomic_io
from ..errors import StoreError, WriteError
from . import object_cache
from .objects import ObjectPath, is_url, local_path

StorePath = Path | ObjectPath
"""Where a store, or a file of it, is."""

LEASE_SECONDS = 60.0
"""After so long without a sign of its owner, the lock of a folder in a storage of objects is taken over."""
FAR_BYTES = 1 << 26
"""Objects of less are fetched whole."""
GAP_BYTES = 1 << 18
"""So much between two stretches of an object is fetched with them: a request takes about as long as this."""
_LOOK_SECONDS = 0.2
FLUSHED_BYTES = 1 << 27
"""So much of a file that is written goes to the disk at a time."""


def place(root: "str | os.PathLike[str] | ObjectPath") -> StorePath:
    """The root of a store.

    Args:
        root: a folder, or an address that fsspec knows (`s3://bucket/prefix`, `memory://name`, `file:///folder`).

    Raises:
        StoreError: the address cannot be used, or a `Path` was made of one, which loses a slash.
    """
    if isinstance(root, ObjectPath):
        return root
    text = os.fspath(root)
    if isinstance(root, str) and is_url(text):
        return local_path(text) or ObjectPath(text)
    first = Path(text).parts[:1]
    if not isinstance(root, str) and first and len(first[0]) > 2 and first[0].endswith(":"):
        raise StoreError(f"An address became a Path, which loses a slash. Give it as text: {first[0]}//...")
    return Path(text)


def local(path: StorePath, status: Any = None) -> Path:
    """The file to open: the path itself, or the object's copy on this machine.

    Args:
        path: in the store.
        status: what its `stat` has just said, where that is known; it spares a request.

    Raises:
        FileNotFoundError: there is no such object.
        StoreError: the storage cannot be reached, or does not allow it.
    """
    return path.copy(status) if isinstance(path, ObjectPath) else path


@dataclass(frozen=True)
class Fetched:
    """Stretches of an object that were fetched without the rest of it.

    Attributes:
        begins: the first byte of each, ascending.
        pieces: their bytes.
    """

    begins: Sequence[int]
    pieces: Sequence[bytes]

    def fill(self, begin: int, memory: memoryview) -> None:
        """Copy bytes from `begin` on until `memory` is full.

        Raises:
            ValueError: they were not fetched.
        """
        number = bisect_right(self.begins, begin) - 1
        at = begin - self.begins[number] if number >= 0 else 0
        piece = self.pieces[number][at : at + len(memory)] if number >= 0 else b""
        if len(piece) != len(memory):
            raise ValueError("it is cut off")
        memory[:] = piece


def far(path: StorePath, status: Any) -> bool:
    """Whether a file is a large object without a copy on this machine, so that a little of it is better fetched alone.

    Args:
        path: in the store.
        status: what its `stat` has just said.
    """
    return isinstance(path, ObjectPath) and status.st_size >= FAR_BYTES and not path.has_copy(status)


def joined(stretches: Sequence[tuple[int, int]], gap: int = 0) -> list[tuple[int, int]]:
    """Stretches that touch as one, ascending.

    Args:
        stretches: `(first byte, byte behind the last)` of each.
        gap: bytes that may lie between two that are joined.
    """
    found: list[tuple[int, int]] = []
    for begin, end in sorted(stretches):
        if found and begin <= found[-1][1] + gap:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((begin, end))
    return found


def fetched(path: StorePath, wanted: Sequence[tuple[int, int]], gap: int = 0, keep: Any = None) -> Fetched:
    """Stretches of an object, `joined` and asked for all at once.

    Args:
        path: of the object.
        wanted: `(first byte, byte behind the last)` of each.
        gap: bytes that may lie between two that are fetched as one.
        keep: the object's `stat`: they are kept on this machine, and taken from there where they are.

    Raises:
        FileNotFoundError: there is no such object.
        StoreError: the storage cannot be reached, or does not allow it.
    """
    assert isinstance(path, ObjectPath)
    whole = joined(wanted, gap)
    return Fetched([begin for begin, _ in whole], path.ranges(whole, keep))


def distrust(path: StorePath) -> None:
    """Read the file from where it is kept the next time, not from a copy."""
    if isinstance(path, ObjectPath):
        object_cache.forget(str(path))


def write_atomic(path: StorePath, write: Callable[[BinaryIO], object]) -> None:
    """Create or replace a file, whole or not at all, and durably; see `serfuse.atomic_io.write_atomic`.

    Raises:
        WriteError: it cannot be written. Nothing under `path` has changed.
    """
    if isinstance(path, ObjectPath):
        path.put(write)
    else:
        atomic_io.write_atomic(path, write)


class _Flushing:
    """An open file that another thread flushes to the disk while it is written."""

    def __init__(self, file: BinaryIO, pool: ThreadPoolExecutor, every: int) -> None:
        self._file, self._pool, self._every = file, pool, every
        self._since = 0
        self._flushed: Future[None] | None = None

    def write(self, data: bytes | memoryview) -> int:
        """As the file's own."""
        count = self._file.write(data)
        self._since += count
        if self._since >= self._every and (self._flushed is None or self._flushed.done()):
            self.finish()
            self._file.flush()
            self._flushed = self._pool.submit(getattr(os, "fdatasync", os.fsync), self._file.fileno())
            self._since = 0
        return count

    def finish(self) -> None:
        """Wait, and raise what the disk said: the system says it only once, so that a later flush would not tell."""
        if self._flushed is not None:
            self._flushed.result()


@contextmanager
def flushing(path: StorePath, file: BinaryIO, every: int = FLUSHED_BYTES) -> Iterator[BinaryIO]:
    """What `write_atomic` gives to write into, so that much of it is on the disk by the time all is written.

    Otherwise the system begins to write gigabytes to the disk only when they are waited for.

    Args:
        path: of the file that is written.
        file: open for writing.
        every: bytes that are flushed at a time.

    Raises:
        OSError: the disk is full, or broken.
    """
    if isinstance(path, ObjectPath):  # on its way into a storage, it need not survive a crash
        yield file
        return
    with ThreadPoolExecutor(1) as pool:
        written = _Flushing(file, pool, every)
        yield written  # type: ignore[misc]
        written.finish()


def write_text(path: StorePath, text: str) -> None:
    """`write_atomic` of text in UTF-8."""
    write_atomic(path, lambda file: file.write(atomic_io.encoded(text)))


def make_folder(folder: StorePath) -> None:
    """Create a folder if need be, durably, and prove that it can be written.

    Raises:
        WriteError: it cannot.
    """
    if isinstance(folder, ObjectPath):
        probe = folder / f".tmp-{os.getpid()}-{secrets.token_hex(4)}-probe"
        try:
            probe.put_bytes(b"")
            probe.unlink(missing_ok=True)
        except WriteError as error:
            raise WriteError(folder, error.reason) from error
        return
    atomic_io.make_folder(folder)


def sync(folder: StorePath) -> None:
    """Wait until the list of names in a folder is on the disk; what a storage has taken is there already."""
    if isinstance(folder, Path):
        atomic_io.sync(folder)


def remove_stale(folder: StorePath) -> None:
    """Remove what a killed process left; in a storage it leaves nothing with a name."""
    if isinstance(folder, Path):
        atomic_io.remove_stale(folder)


def move(path: StorePath, target: StorePath) -> None:
    """Give a file another name within its store.

    Raises:
        OSError: it cannot be renamed.
        WriteError: the storage does not allow it.
    """
    if isinstance(path, ObjectPath):
        path.move_to(target)
        return
    os.replace(path, target)
    sync(target.parent)
    sync(path.parent)


def there(path: StorePath) -> bool:
    """Whether a name is taken, be it by a link that leads nowhere."""
    return os.path.lexists(path) if isinstance(path, Path) else path.exists()


def remove_tree(folder: StorePath) -> None:
    """Remove a folder with all that it holds."""
    folder.remove_all() if isinstance(folder, ObjectPath) else shutil.rmtree(folder)


def remove_empty(folder: StorePath) -> None:
    """Remove a folder if it holds nothing; in a storage such a folder does not exist."""
    if isinstance(folder, Path):
        with suppress(OSError):
            folder.rmdir()


def beside(folder: StorePath) -> Path:
    """A folder of this machine for what its processes tell each other of a folder: itself, where it is on a disk.

    Raises:
        WriteError: it cannot be created.
    """
    if isinstance(folder, Path):
        return folder
    place = object_cache.folder() / f"on-{object_cache.digest(str(folder))}"
    make_folder(place)
    return place


def check_shared(path: StorePath) -> None:
    """Refuse what other processes do not see.

    Raises:
        StoreError: it is in the memory of this process.
    """
    if isinstance(path, ObjectPath) and str(path).startswith("memory://"):
        raise StoreError(f"The store {path} is in the memory of this process, and other processes do not see it.")


@contextmanager
def locked(folder: StorePath, lease: float = LEASE_SECONDS) -> Iterator[None]:
    """Keep other processes from changing the same small files of a folder meanwhile.

    Args:
        folder: which.
        lease: seconds; all that lock a folder of objects must agree on it.

    Raises:
        WriteError: the folder cannot be written.
    """
    if isinstance(folder, Path):
        with atomic_io.locked(folder):
            yield
        return
    lock = folder / atomic_io.LOCK
    token = f"{_machine()}/{os.getpid()}-{secrets.token_hex(8)}"
    _take(lock, token, lease)
    over = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lock, token, over, lease / 4), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join()
        with suppress(StoreError, OSError):  # left behind it only makes the next one wait
            if lock.read_text().startswith(token):  # not when it was taken over
                lock.unlink(missing_ok=True)


def _take(lock: ObjectPath, token: str, lease: float) -> None:
    seen, since = "", time.monotonic()
    while not lock.create(f"{token} 0".encode()):
        try:
            held = lock.read_text()
        except FileNotFoundError:
            continue
        if _ended(held):
            # Of those that wait on this machine, one takes it away.
            with atomic_io.locked(beside(lock.parent)), suppress(FileNotFoundError):
                if lock.read_text() == held:
                    lock.unlink(missing_ok=True)
        elif held != seen:
            seen, since = held, time.monotonic()
        elif time.monotonic() - since > lease:  # by this machine's clock alone
            lock.unlink(missing_ok=True)
        else:
            time.sleep(_LOOK_SECONDS)


@cache
def _machine() -> str:
    """What the processes that this one can see have in common; "" where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return object_cache.digest(f"{boot}{os.stat('/proc/self/ns/pid').st_ino}")[:16]  # of a container, its own
    except OSError:
        return ""


def _ended(held: str) -> bool:
    """Whether the owner of a lock was a process of this machine that is not there any more."""
    machine, _, owner = held.rpartition("/")
    number = owner.partition("-")[0]
    if not machine or machine != _machine() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # of another user
        return False
    return False


def _renew(lock: ObjectPath, token: str, over: threading.Event, seconds: float) -> None:
    count = 0
    while not over.wait(seconds):
        count += 1
        with suppress(StoreError, OSError):
            lock.put_bytes(f"{token} {count}".encode())
