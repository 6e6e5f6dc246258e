"""Removes embeddings of one kind, which may well be in use: for what nothing uses there is `maintenance.unused`."""

import os
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import atomic_io
from ..encoders import canonical
from ..errors import StoreError
from . import selection
from .files import StorePath, remove_empty, remove_tree, sync
from .key_folder import KEY_FILE, read_key
from .part import Part
from .store import EmbeddingStore
from .verification import ASIDE, key_folders

_TRIES = 50


@dataclass(frozen=True)
class Kind:
    """Embeddings of one kind, as they lie in the store.

    Attributes:
        corpus: whose.
        name: of the kind in full, which is that of its folder.
        rows: on disk, of parts that can be read.
        parts: files that hold rows.
        bytes: that all of its files take, with damaged parts of it that were set aside.
    """

    corpus: str
    name: str
    rows: int
    parts: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return dict(vars(self))


def find(store: EmbeddingStore, corpus: str, encoder: str, **constraints: Any) -> Kind:
    """The one kind that fits, be it outdated, empty or damaged.

    Args:
        store: which.
        corpus: whose.
        encoder: a registry name, or the full name of one kind, which is enough where its `key.json` is damaged.
        constraints: fields of `EmbeddingKey` and their values, as `EmbeddingStore.find` takes them.

    Raises:
        StoreError: there is no such corpus, or none or several fit; the message lists those that there are.
    """
    store.corpus_info(corpus)
    folders = {folder.name: folder for folder in key_folders(store.root / corpus)}
    if encoder in folders and not constraints:
        return _kind(corpus, folders[encoder])
    keys, described = {}, {}
    for name, folder in folders.items():
        try:
            keys[name] = read_key(folder / KEY_FILE)[0]
            described[name] = keys[name].describe()
        except (StoreError, OSError):
            described[name] = f"{name}: its {KEY_FILE} is missing or damaged"
    asked = canonical(encoder)
    fitting = [
        name
        for name, key in keys.items()
        if asked in (key.encoder, name) and all(selection.fits(key, *item) for item in constraints.items())
    ]
    if len(fitting) == 1:
        return _kind(corpus, folders[fitting[0]])
    told = encoder + "".join(f", {field} {value}" for field, value in constraints.items())
    listing = "\n".join(f"  {described[name]}" for name in fitting or described)
    if fitting:
        raise StoreError(
            f"The store {store.root} holds several embeddings of corpus {corpus!r} that fit {told}:\n{listing}\n"
            f"Name one in full (for example {fitting[0]}); nothing was removed."
        )
    raise StoreError(
        f"The store {store.root} holds no embeddings of corpus {corpus!r} that fit {told}. "
        + (f"It holds:\n{listing}" if listing else "It holds none at all.")
    )


def remove(store: EmbeddingStore, kind: Kind) -> Kind:
    """Remove a kind: its key, its rows, its record of skipped clips, and damaged parts of it that were set aside.

    On a disk all of it goes at once, in a storage of objects one by one, the key first: what is killed in between is
    ended by removing it again, by its full name. Arrays that were read or mapped stay as they are. Not for a process
    that extracts into this corpus at the same time: it would lose its claims.

    Args:
        store: which.
        kind: from `find`.

    Returns:
        what was removed.

    Raises:
        StoreError: a process extracts into this corpus just now (of other machines none is seen), the kind has gone
            meanwhile, or the store cannot be written.
    """
    folder = store.root / kind.corpus / kind.name
    with closing(store.claims(kind.corpus)) as claims:
        if not claims.take_all():
            raise StoreError(
                f"A process is extracting into corpus {kind.corpus!r} of the store {store.root}. Wait for it to end, "
                f"or stop it; {kind.name} was not removed."
            )
        if not folder.is_dir():
            raise StoreError(f"The store {store.root} does not hold {kind.name} of corpus {kind.corpus!r} any more.")
        kind = _kind(kind.corpus, folder)
        try:
            for path in _aside(folder):
                path.unlink(missing_ok=True)
            remove_empty(folder.parent / ASIDE)
            _remove(folder)
        except OSError as error:
            raise StoreError(f"Cannot remove {folder}: {error.strerror or error}.") from error
    return kind


def _remove(folder: StorePath) -> None:
    if isinstance(folder, Path):
        if folder.is_symlink():
            _remove(folder.resolve())
            folder.unlink()
            return
        # Below a name that whoever comes later removes, should this process be killed.
        away = atomic_io.temporary_name(folder)
        away.mkdir()
        os.replace(folder, away / folder.name)
        sync(folder.parent)
        remove_tree(away)
        return
    (folder / KEY_FILE).unlink(missing_ok=True)
    for _ in range(_TRIES):  # a compaction beside may bring one more, and takes it away again when it sees this
        if not (paths := _files(folder)):
            return
        for path in paths:
            path.unlink(missing_ok=True)
    raise StoreError(f"Files keep coming into {folder}. Wait for the other process, and remove it again.")


def _kind(corpus: str, folder: StorePath) -> Kind:
    rows = count = size = 0
    for path in _files(folder):
        with suppress(FileNotFoundError):  # a compaction beside has taken it away
            size += path.stat().st_size
            if path.name.startswith("part-"):
                count += 1
                with suppress(StoreError):
                    rows += Part(path).rows
    with suppress(FileNotFoundError):
        size += sum(path.stat().st_size for path in _aside(folder))
    return Kind(corpus, folder.name, rows, count, size)


def _files(folder: StorePath) -> list[StorePath]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _aside(folder: StorePath) -> list[StorePath]:
    """Damaged files of a kind that `repair` set aside."""
    return sorted((folder.parent / ASIDE).glob(f"*+{folder.name}+*"))
