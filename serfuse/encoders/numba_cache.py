"""librosa, whose compiled parts are built by one process at a time.

librosa has numba compile functions when it is imported, and keeps them in a folder for the next time. Two processes
that do so at once, or one that is killed half-way, can leave parts that do not belong together, and every process that
calls them afterwards dies with a segmentation fault (numba issue 10128). So serfuse keeps them in a folder of its own,
behind a lock, and begins that folder anew unless a note in it says that it was finished.
"""

import atexit
import hashlib
import importlib
import os
import pkgutil
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType

from ..atomic_io import locked, make_folder, write_text
from ..errors import StoreError

# Those that serfuse calls, and every module that these load when something in them is first used: numba looks for a
# folder to keep a function in when the module that defines it is imported, and a later import would look elsewhere.
_PARTS = ("util", "core", "filters", "sequence", "feature", "onset")
_BUILT = "whole packages"  # what is built; a folder of an earlier version that built less is not taken for finished
FINISHED = "finished"
"""Name of the file that says so; it holds the number of the process that compiled."""


@cache
def import_librosa() -> ModuleType:
    """The package, with the parts that serfuse calls. The first import on a machine takes some 15 s."""
    package = importlib.import_module("librosa")
    if "librosa.util.utils" in sys.modules:  # the caller has imported it already, in its own way
        return package
    from numba import config

    folder = cache_folder()
    before = config.CACHE_DIR
    with built_once(folder):
        config.CACHE_DIR = str(folder)
        try:
            with _some_cache_home(folder):
                for part in _PARTS:
                    _import_whole(f"librosa.{part}")
        finally:
            config.CACHE_DIR = before
    return package


@contextmanager
def built_once(folder: Path) -> Iterator[None]:
    """Fill `folder` in the block, alone and from nothing, unless a note says that it was finished before.

    Raises:
        WriteError: the folder cannot be written.
    """
    note = folder / FINISHED
    with nullcontext() if note.exists() else locked(folder):
        if not note.exists():
            _empty(folder)
        yield
        if not note.exists():
            write_text(note, f"{os.getpid()}\n")


@contextmanager
def _some_cache_home(folder: Path) -> Iterator[None]:
    """See that there is a folder for caches: librosa names one, for recordings to download, when it is imported."""
    if os.environ.get("XDG_CACHE_HOME") or os.path.isabs(os.path.expanduser("~")):
        yield
        return
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        yield
    finally:
        del os.environ["XDG_CACHE_HOME"]


def _import_whole(name: str) -> None:
    """Import a module, and where it is a package all of its modules."""
    module = importlib.import_module(name)
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        importlib.import_module(f"{name}.{found.name}")


def cache_folder() -> Path:
    """Where the compiled parts for these versions and this processor are kept: below `$NUMBA_CACHE_DIR`, or one's home.

    Where that cannot be written, a temporary folder of this process, another at each call.
    """
    from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

    versions = [f"{name} {metadata.version(name)}" for name in ("librosa", "numba", "llvmlite", "numpy")]
    machine = [sys.version, sys.executable, get_host_cpu_name(), get_host_cpu_features().flatten()]
    digest = hashlib.sha256("\n".join([*versions, *machine, _BUILT]).encode()).hexdigest()[:16]
    given = os.environ.get("NUMBA_CACHE_DIR")
    try:
        root = Path(given).expanduser() if given else Path.home() / ".cache" / "serfuse" / "numba"
        make_folder(root / digest)
        return root / digest
    except (StoreError, RuntimeError):  # read-only, or no home: nothing can be kept, and nobody else can interfere
        private = Path(tempfile.mkdtemp(prefix="serfuse-numba-"))
        atexit.register(shutil.rmtree, private, ignore_errors=True)
        return private


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
