"""Objects in a storage that fsspec reaches (`s3://`, `gs://`, `abfs://`, `memory://` ...), by the names of a path.

`ObjectPath` has of `pathlib.Path` what the store uses. An object is put whole or not at all and is read whole, as a
copy on this machine (`object_cache`). There are no renames, no folders apart from what lies in them, and no locks of
an operating system; `serfuse.store.files` says what takes their place.
"""

import fnmatch
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import total_ordering
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, BinaryIO

from ..errors import StoreError, WriteError
from . import object_cache
from .damage import first_line

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:_-]*://")
_PASSWORD = re.compile(r"://[^/]*:.*@", re.DOTALL)  # which may hold a slash, as the secret keys of S3 do
_LOCAL = ("file", "local")
_AT_ONCE_BYTES = 1 << 26  # more is sent in pieces that become an object when all have arrived
_STATES = ("ETag", "etag", "md5Hash", "content_md5", "version_id", "created", "mtime", "LastModified", "modified")


def is_url(text: str) -> bool:
    """Whether a text is the address of a storage rather than a path."""
    return _URL.match(text) is not None


@total_ordering
class ObjectPath:
    """The address of an object, or of all objects whose names begin with it.

    Args:
        url: for example `s3://bucket/prefix`.

    Raises:
        StoreError: it is no such address, holds a password, or the library for it is missing.
    """

    def __init__(self, url: str) -> None:
        if _PASSWORD.search(url):  # before any message that shows the address
            raise StoreError(
                "The address of a store must not hold a password or a secret key, as this one seems to: "
                f"{url.partition('://')[0]}://...:...@... Give it by the storage's own settings (for S3: AWS_PROFILE, "
                "or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), and an address such as s3://bucket/prefix."
            )
        if not is_url(url) or "::" in url:
            raise StoreError(f"{url!r} is no address of a storage. Expected one like s3://bucket/prefix.")
        self._protocol, _, path = url.partition("://")
        self._path = "/".join(part for part in path.split("/") if part)
        if ".." in self._path.split("/"):
            raise StoreError(f"{url!r} holds '..', which has no meaning in a storage of objects.")
        self._system()

    @classmethod
    def _made(cls, protocol: str, path: str) -> "ObjectPath":
        made = cls.__new__(cls)
        made._protocol, made._path = protocol, path
        return made

    # --- the name -------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        return f"{self._protocol}://{self._path}"

    def __repr__(self) -> str:
        return f"ObjectPath({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectPath._made, (self._protocol, self._path)

    def __hash__(self) -> int:
        return hash(str(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and str(self) == str(other)

    def __lt__(self, other: "ObjectPath") -> bool:
        return str(self) < str(other)

    def __truediv__(self, name: str) -> "ObjectPath":
        return self._made(self._protocol, "/".join(filter(None, [self._path, str(name)])))

    @property
    def name(self) -> str:
        """The last part."""
        return self._path.rpartition("/")[2]

    @property
    def parent(self) -> "ObjectPath":
        """All but the last part."""
        return self._made(self._protocol, self._path.rpartition("/")[0])

    def with_name(self, name: str) -> "ObjectPath":
        """The same with another last part."""
        return self.parent / name

    def relative_to(self, other: "ObjectPath") -> PurePosixPath:
        """What comes behind `other`.

        Raises:
            ValueError: it does not lie there.
        """
        return PurePosixPath(self._path).relative_to(PurePosixPath(other._path))

    def resolve(self) -> "ObjectPath":
        """Itself: an address means the same everywhere."""
        return self

    # --- what is there --------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether there is such an object, or objects below it."""
        return self._info() is not None

    def is_file(self) -> bool:
        """Whether there is such an object."""
        found = self._info()
        return found is not None and found["type"] != "directory"

    def is_dir(self) -> bool:
        """Whether objects lie below it."""
        found = self._info()
        return found is not None and found["type"] == "directory"

    def stat(self) -> Any:
        """`st_size` and `st_mode`, as `os.stat` names them, and the `version` by which copies are known.

        Raises:
            FileNotFoundError: there is no such object.
        """
        found = self._info()
        if found is None:
            raise FileNotFoundError(str(self))
        kind = stat.S_IFDIR if found["type"] == "directory" else stat.S_IFREG
        size = int(found["size"] or 0)
        return SimpleNamespace(st_size=size, st_mode=kind | 0o644, version=_version(found))

    def iterdir(self) -> Iterator["ObjectPath"]:
        """What lies directly below it, by name."""
        yield from (path for path, _ in self._listed())

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """What lies below it and fits a pattern, whose parts may have `*`."""
        first, _, rest = pattern.partition("/")
        if "*" not in first:
            found = self / first
            if rest:
                yield from found.glob(rest)
            elif found.exists():
                yield found
            return
        for path, folder in self._listed():
            if fnmatch.fnmatchcase(path.name, first):
                if not rest:
                    yield path
                elif folder:
                    yield from path.glob(rest)

    def rglob(self, pattern: str) -> Iterator["ObjectPath"]:
        """All objects below it whose last part fits a pattern."""
        for path, folder in self._listed():
            if folder:
                yield from path.rglob(pattern)
            elif fnmatch.fnmatchcase(path.name, pattern):
                yield path

    def read_bytes(self) -> bytes:
        """What the object holds.

        Raises:
            FileNotFoundError: there is no such object.
            StoreError: the storage cannot be reached, or does not allow it.
        """
        with self._reading() as (system, path):
            return system.cat_file(path)

    def read_text(self, encoding: str = "utf-8") -> str:
        """What the object holds, as text."""
        return self.read_bytes().decode(encoding)

    def copy(self, status: Any = None) -> Path:
        """The object's copy on this machine; see `object_cache`.

        Args:
            status: from `stat`, where that was just asked for: each time is a request.

        Raises:
            FileNotFoundError: there is no such object.
            StoreError: the storage cannot be reached, or does not allow it.
        """
        status = status or self.stat()
        if stat.S_ISDIR(status.st_mode):
            raise FileNotFoundError(str(self))

        def fetch(target: Path) -> None:
            with self._reading() as (system, path):
                system.get_file(path, str(target))

        return object_cache.copy_of(str(self), status.version, status.st_size, fetch)

    def has_copy(self, status: Any) -> bool:
        """Whether a copy of the object as `stat` found it lies on this machine."""
        return object_cache.held(str(self), status.version, status.st_size)

    def ranges(self, wanted: Sequence[tuple[int, int]], keep: Any = None) -> list[bytes]:
        """Some stretches of the object, of which many are asked for at once.

        Args:
            wanted: `(first byte, byte behind the last)` of each.
            keep: from `stat`: they are kept on this machine, and taken from there where they are.

        Raises:
            FileNotFoundError: there is no such object.
            StoreError: the storage cannot be reached, or does not allow it.
        """
        if keep is not None:
            return object_cache.stretches_of(str(self), keep.version, wanted, self.ranges)
        if not wanted:
            return []
        begins, ends = [begin for begin, _ in wanted], [end for _, end in wanted]
        with self._reading() as (system, path):
            found = system.cat_ranges([path] * len(wanted), begins, ends, on_error="raise")
            for piece in found:
                if isinstance(piece, BaseException):  # some storages return what they were asked to raise
                    raise piece
            return found

    # --- changes --------------------------------------------------------------------------------------------------

    def put(self, write: Callable[[BinaryIO], object]) -> None:
        """Create or replace the object with what `write` puts into the open file it gets, whole or not at all.

        Raises:
            WriteError: the storage does not take it, or the folder of copies is full.
        """
        written = object_cache.scratch()
        try:
            try:
                with open(written, "wb") as file:
                    write(file)
            except OSError as error:
                raise WriteError(written, error.strerror or str(error), full=error.errno == 28) from error
            size = written.stat().st_size
            with self._writing() as (system, path):
                if size <= _AT_ONCE_BYTES:
                    system.pipe_file(path, written.read_bytes())
                else:
                    system.put_file(str(written), path)
            found = self._info()
            if found is not None and int(found["size"]) == size:
                object_cache.adopt(str(self), _version(found), written)
        finally:
            with suppress(OSError):
                written.unlink(missing_ok=True)

    def put_bytes(self, data: bytes) -> None:
        """Create or replace a small object, of which no copy is kept.

        Raises:
            WriteError: the storage does not take it.
        """
        with self._writing() as (system, path):
            system.pipe_file(path, data)

    def create(self, data: bytes) -> bool:
        """Create the object, in one step with looking whether it is there; `False` where it is.

        Raises:
            WriteError: the storage does not take it.
        """
        try:
            with self._writing() as (system, path):
                system.pipe_file(path, data, mode="create")
        except WriteError as error:
            if isinstance(error.__cause__, FileExistsError) or "PreconditionFailed" in repr(error.__cause__):
                return False
            if isinstance(error.__cause__, OSError) and "precondition" in error.reason.lower():
                return False
            raise
        return True

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object.

        Raises:
            FileNotFoundError: there is none, and `missing_ok` is False.
            WriteError: the storage does not allow it.
        """
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(str(self))
        try:
            with self._writing() as (system, path):
                system.rm_file(path)
        except WriteError as error:
            if not isinstance(error.__cause__, FileNotFoundError | KeyError):
                raise
        object_cache.forget(str(self))

    def move_to(self, target: "ObjectPath") -> None:
        """Copy the object to another name, then remove it under this one.

        Raises:
            WriteError: the storage does not allow it; then it is still here.
        """
        with self._writing() as (system, path):
            system.cp_file(path, target._system()[1])
        self.unlink(missing_ok=True)

    def remove_all(self) -> None:
        """Remove all objects below it.

        Raises:
            WriteError: the storage does not allow it.
        """
        for path in self.rglob("*"):
            path.unlink(missing_ok=True)

    # --- the storage ----------------------------------------------------------------------------------------------

    def _system(self) -> tuple[Any, str]:
        """What reaches the storage, and the object's name there. Of this process: such a thing does not survive a fork.

        Raises:
            StoreError: the library for it is missing, or settings of it are wrong.
        """
        url = str(self)
        try:
            import fsspec
        except ImportError:
            raise StoreError(f"The store {url} needs fsspec: pip install 'serfuse[remote]'") from None
        try:
            return fsspec.core.url_to_fs(url)
        except ImportError as error:
            extra = " pip install 'serfuse[remote]'" if self._protocol in ("s3", "s3a") else f" {first_line(error)}."
            raise StoreError(f"The store {url} needs another library:{extra}") from None
        except ValueError as error:
            raise StoreError(f"The store {url} cannot be opened: {first_line(error)}.") from None

    @contextmanager
    def _reading(self) -> Iterator[tuple[Any, str]]:
        try:
            system, path = self._system()
            system.invalidate_cache()  # another process may have changed what is there
            yield system, path
        except (StoreError, MemoryError):
            raise
        except FileNotFoundError as error:
            if _no_bucket(error):
                raise StoreError(f"{self} cannot be read: {_no_bucket(error)}.") from error
            raise
        except Exception as error:  # every storage's library has its own errors, few of which are an OSError
            raise StoreError(f"{self} cannot be read: {_reason(error)}.") from error

    @contextmanager
    def _writing(self) -> Iterator[tuple[Any, str]]:
        try:
            system, path = self._system()
            yield system, path
        except (StoreError, MemoryError):
            raise
        except Exception as error:
            raise WriteError(self, _no_bucket(error) or _reason(error)) from error

    def _info(self) -> dict[str, Any] | None:
        try:
            with self._reading() as (system, path):
                return system.info(path)
        except FileNotFoundError:
            return None

    def _listed(self) -> list[tuple["ObjectPath", bool]]:
        """What lies directly below it, sorted, and whether that is a folder."""
        try:
            with self._reading() as (system, path):
                found = system.ls(path, detail=True)
        except FileNotFoundError:
            return []
        names = {
            item["name"].rstrip("/").rpartition("/")[2]: item["type"] == "directory"
            for item in found
            if item["name"].strip("/") != path.strip("/")
        }
        return [(self / name, folder) for name, folder in sorted(names.items())]


def local_path(url: str) -> Path | None:
    """The path in a `file://` address, `None` for any other."""
    protocol, _, path = url.partition("://")
    return Path(path) if protocol in _LOCAL else None


def _version(found: dict[str, Any]) -> str:
    """What tells the present content of an object from any other that it has had."""
    return repr([(name, str(found[name])) for name in _STATES if found.get(name)] + [("size", found["size"])])


def _no_bucket(error: BaseException) -> str:
    """What to say where not only the object but the whole bucket is missing, or ""."""
    cause: BaseException | None = error
    while cause is not None:
        if "NoSuchBucket" in repr(cause) or "bucket does not exist" in str(cause):
            return "there is no such bucket"
        cause = cause.__cause__
    return ""


def _reason(error: Exception) -> str:
    name = type(error).__name__
    if "Credentials" in name or "credentials" in str(error):
        return f"{first_line(error)}. Give your credentials the way the storage's own tools take them"
    if isinstance(error, PermissionError):
        return f"access is denied ({first_line(error)})"
    text = first_line(error)
    return text if isinstance(error, OSError) and text != name else f"{name}: {text}"
