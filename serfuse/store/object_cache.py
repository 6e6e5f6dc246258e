"""Copies of objects on this machine: what is read of object storage is read from here, mapped and verified as any file.

A copy's name is made of the object's address and of what the storage says of its content (`ETag`, size, time), so an
object that was replaced never meets the copy of the one before. Of a large object there may be single stretches. The
folder is `$SERFUSE_CACHE`, else `~/.cache/serfuse/objects`; what was used longest ago is removed when it holds more
than `$SERFUSE_CACHE_GB` (20).
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ..atomic_io import make_durable_folder, remove_stale, temporary_name, write_error
from ..errors import StoreError

_USUAL_GB = 20.0
_DIGITS = 40


def folder() -> Path:
    """Where the copies are, created if need be.

    Raises:
        WriteError: it cannot be created.
    """
    chosen = os.environ.get("SERFUSE_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "serfuse" / "objects"
    place = Path(chosen) if chosen else base
    try:
        make_durable_folder(place)
    except OSError as error:
        raise write_error(place, error) from error
    return place


def most_bytes() -> int:
    """How much the folder may hold.

    Raises:
        StoreError: `$SERFUSE_CACHE_GB` is no size.
    """
    text = os.environ.get("SERFUSE_CACHE_GB") or str(_USUAL_GB)
    try:
        size = float(text)
        if not 0 <= size < float("inf"):
            raise ValueError
    except ValueError:
        raise StoreError(f"SERFUSE_CACHE_GB is {text!r}; expected a number of gigabytes, for example 20.") from None
    return int(size * 1e9)


def held(address: str, version: str, size: int) -> bool:
    """Whether there is a copy of an object; the arguments are those of `copy_of`."""
    with suppress(OSError):
        return (folder() / _name(address, version)).stat().st_size == size
    return False


def copy_of(address: str, version: str, size: int, fetch: Callable[[Path], object]) -> Path:
    """The copy of an object; it is fetched where there is none.

    Args:
        address: of the object.
        version: what tells its content from any other it has had.
        size: bytes that it has.
        fetch: writes the object into a file.

    Raises:
        StoreError: what was fetched has another size, so the object was replaced meanwhile, or the transfer was cut.
        WriteError: the folder of copies cannot be written.
    """
    path = folder() / _name(address, version)
    with suppress(OSError):
        if path.stat().st_size == size:
            os.utime(path)
            return path
    temporary = temporary_name(path)
    try:
        fetch(temporary)
        found = temporary.stat().st_size
        if found != size:
            raise StoreError(f"{address} has {size} bytes, but {found} were received. Run the same command again.")
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    _make_room(path)
    return path


def stretches_of(
    address: str,
    version: str,
    wanted: Sequence[tuple[int, int]],
    fetch: Callable[[Sequence[tuple[int, int]]], Sequence[bytes]],
) -> list[bytes]:
    """Stretches of an object; those that are not here are fetched together, and kept.

    Args:
        address: of the object.
        version: what tells its content from any other it has had.
        wanted: `(first byte, byte behind the last)` of each.
        fetch: gives the bytes of some of them.

    Raises:
        WriteError: the folder of copies cannot be created.
    """
    place = folder()
    paths = [place / _name(address, f"{version} {begin}-{end}") for begin, end in wanted]
    found: dict[int, bytes] = {}
    for number, (path, (begin, end)) in enumerate(zip(paths, wanted, strict=True)):
        with suppress(OSError):
            data = path.read_bytes()
            if len(data) == end - begin:
                os.utime(path)
                found[number] = data
    lacking = [number for number in range(len(wanted)) if number not in found]
    if lacking:
        for number, data in zip(lacking, fetch([wanted[number] for number in lacking]), strict=True):
            found[number] = data
            temporary = temporary_name(paths[number])
            with suppress(OSError):  # on a full disk it is fetched the next time
                try:
                    temporary.write_bytes(data)
                    os.replace(temporary, paths[number])
                finally:
                    temporary.unlink(missing_ok=True)
        _make_room(paths[lacking[-1]])
    return [found[number] for number in range(len(wanted))]


def adopt(address: str, version: str, written: Path) -> None:
    """Keep a file that was just stored under `address` as its copy; nothing is lost when that fails."""
    path = folder() / _name(address, version)
    with suppress(OSError):
        os.replace(written, path)
        _make_room(path)


def forget(address: str) -> None:
    """Remove all copies of an object, so that the next look fetches it anew."""
    for path in folder().glob(f"{digest(address)}-*"):
        with suppress(OSError):
            path.unlink()


def scratch() -> Path:
    """An empty file for something on its way into the storage; the caller removes or adopts it.

    Raises:
        WriteError: the folder of copies cannot be written.
    """
    place = folder()
    try:
        descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=place)
    except OSError as error:
        raise write_error(place, error) from error
    os.close(descriptor)
    return Path(name)


def _make_room(newest: Path) -> None:
    """Remove what was used longest ago until the rest fits; never the newest, which is about to be read."""
    remove_stale(newest.parent)
    most, found = most_bytes(), []
    for path in newest.parent.glob("[0-9a-f]*-*"):
        with suppress(OSError):
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, path))
    taken = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if taken <= most:
            return
        if path != newest:
            with suppress(OSError):  # another process was faster; whoever has it mapped keeps it
                path.unlink()
            taken -= size


def _name(address: str, version: str) -> str:
    return f"{digest(address)}-{digest(version)}"


def digest(text: str) -> str:
    """What stands for an address in the name of a file."""
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
