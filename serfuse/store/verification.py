"""Reads every check sum of a store, and mends what can be mended."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import StoreError
from ..progress import Observer
from . import clip_table, heard, json_file, looked, seal
from .damage import DamageError
from .files import StorePath, distrust, local, locked, make_folder, move, there, write_text
from .key import EmbeddingKey
from .key_folder import KEY_FILE, SKIPPED, KeyFolder, key_content, read_key
from .part import Part
from .selection import settings_of
from .store import EmbeddingStore

ASIDE = "damaged"
"""The folder of a corpus that damaged files are moved into."""


@dataclass(frozen=True)
class Finding:
    """A file of the store that is not as it was written.

    Attributes:
        path: the file.
        reason: what is wrong with it.
        done: what `repair` did; "" when nothing was done yet.
    """

    path: StorePath
    reason: str
    done: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"path": str(self.path), "reason": self.reason, "done": self.done}


@dataclass
class Verification:
    """What was read, and what was found.

    Attributes:
        files: number of files.
        bytes: their size.
        unsealed: files of the first format, whose sums do not cover every byte; `serfuse store convert` mends that.
        findings: files that are damaged.
        lacking: after a repair, clips to extract again, by the command that does it.
    """

    files: int = 0
    bytes: int = 0
    unsealed: list[StorePath] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    lacking: dict[str, list[str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "files": self.files,
            "bytes": self.bytes,
            "unsealed": [str(path) for path in self.unsealed],
            "damaged": [item.to_dict() for item in self.findings],
            "extract_again": self.lacking,
        }


def verify(store: EmbeddingStore, observer: Observer | None = None) -> Verification:
    """Read every byte of a store.

    Args:
        store: which.
        observer: hears of the megabytes that were read.

    Raises:
        StoreError: the store cannot be read, or holds files of an unknown format.
    """
    return _verify(store, observer or Observer())[0]


def repair(store: EmbeddingStore, observer: Observer | None = None) -> Verification:
    """`verify`, and set damaged files aside: into the folder `damaged` of their corpus.

    The rows of a damaged part that are whole are kept. A key or `corpus.json` is written anew from what the parts or
    the table of clips say of it.

    Returns:
        what was found and done, and the clips that have no row now, by the command that extracts them.

    Raises:
        StoreError: the store cannot be read or written, or holds files of an unknown format.
    """
    observer = observer or Observer()
    found, bad_parts = _verify(store, observer)
    mended = []
    # Parts come first: what is left of them says what the key was.
    for item in sorted(found.findings, key=lambda item: not item.path.name.startswith("part-")):
        corpus = item.path.relative_to(store.root).parts[0]
        with locked(store.root / corpus):
            done = _mend(store.root / corpus, item.path, bad_parts.get(item.path))
        mended.append(Finding(item.path, item.reason, done))
    found.findings = mended
    if mended:
        found.lacking = _lacking(store, [item.path.relative_to(store.root).parts for item in mended])
    return found


def corpus_folders(store: EmbeddingStore) -> list[StorePath]:
    """Folders of the store that hold a corpus, also one that has lost its `corpus.json`."""
    if not store.root.is_dir():
        return []
    marks = ("corpus.json", "clips.parquet", f"*/{KEY_FILE}", "*/part-*.parquet")
    return sorted(path for path in store.root.iterdir() if path.is_dir() and any(any(path.glob(m)) for m in marks))


def key_folders(corpus: StorePath) -> list[StorePath]:
    """Folders of a corpus that hold embeddings."""
    marks = (KEY_FILE, SKIPPED, "part-*.parquet")
    return sorted(path for path in corpus.iterdir() if path.is_dir() and any(any(path.glob(mark)) for mark in marks))


def _verify(store: EmbeddingStore, observer: Observer) -> tuple[Verification, dict[StorePath, Part]]:
    found, readable = Verification(), {}
    plain: list[tuple[StorePath, Callable[[StorePath], object]]] = []
    parts: list[StorePath] = []
    for corpus in corpus_folders(store):
        for name, read in (
            ("corpus.json", json_file.read),
            ("clips.parquet", clip_table.read),
            (heard.NAME, heard.read),
        ):
            if name == heard.NAME and not (corpus / name).exists():
                continue
            plain.append((corpus / name, read))
        plain += [(path, json_file.read) for path in sorted(corpus.glob(looked.PATTERN))]
        for folder in key_folders(corpus):
            plain.append((folder / KEY_FILE, read_key))
            if (folder / SKIPPED).exists():
                plain.append((folder / SKIPPED, json_file.read))
            parts += sorted(folder.glob("part-*.parquet"))
    for path in (*parts, *(path for path, _ in plain)):
        distrust(path)  # what is kept is to be read, not a copy of it
    sizes = {path: _size(path) for path in [*parts, *(path for path, _ in plain)]}
    found.files, found.bytes = len(sizes), sum(sizes.values())
    done = 0

    def moved(count: int) -> None:
        nonlocal done
        done += count
        observer.advance(done >> 20, fraction=done / found.bytes if found.bytes else 1.0)

    with observer.working("verifying", found.bytes >> 20, "MB"):
        for path, read in plain:
            try:
                read(path)
                if not _is_sealed(path):
                    found.unsealed.append(path)
            except DamageError as error:
                found.findings.append(Finding(path, error.reason))
            moved(sizes[path])
        for path in parts:
            try:
                part = Part(path)
                if f"-{part.owner}" != path.parent.name[-13:]:
                    raise DamageError(path, f"it holds embeddings of another kind ({part.owner})")
                readable[path] = part
                if part.format == 1:
                    found.unsealed.append(path)
                if bad := part.bad_blocks(moved):
                    lost = int(part.rows_in(bad)[1].sum())
                    raise DamageError(
                        path, f"{len(bad)} blocks of it are not as they were written; {lost} rows are hit"
                    )
            except FileNotFoundError:  # a compaction beside has brought its rows into another part
                continue
            except DamageError as error:
                found.findings.append(Finding(path, error.reason))
    return found, readable


def _mend(corpus: StorePath, path: StorePath, part: Part | None) -> str:
    """Set one file aside, and put in its place what can be known; says what was done."""
    content, kept = None, ""
    if path.name.startswith("part-"):
        kept = _salvaged(path, part)
    elif path.name == KEY_FILE:
        content = _key_again(path)
    elif path.name == "corpus.json":
        try:
            content = clip_table.info(corpus / "clips.parquet") or None
        except StoreError:
            content = None
    moved = _set_aside(corpus, path)
    if content is not None:
        write_text(path, content)
    where = f"set aside as {moved}" if moved else "it is missing"
    if kept:
        return f"{where}; {kept}"
    return f"{where}; written anew" if content is not None else where


def _salvaged(path: StorePath, part: Part | None) -> str:
    if part is None:
        return "none of its rows can be kept"
    none = f"none of its {part.rows} rows can be kept"
    try:
        texts, hit = part.rows_in(part.bad_blocks())
    except DamageError:
        return none
    if part.format == 1 or texts or hit.all() or f"-{part.owner}" != path.parent.name[-13:]:
        return none
    key = EmbeddingKey.from_dict(json.loads(part.kind))
    KeyFolder(path.parent, key).salvage(part, ~hit)
    return f"{int((~hit).sum())} of its {part.rows} rows are whole and kept"


def _key_again(path: StorePath) -> str | None:
    """The text of a `key.json`, from what is left of it or from the parts beside it."""
    for part in _whole_parts(path.parent):
        said: Any = None
        if part.kind:
            said = json.loads(part.kind)
        elif path.exists():
            try:
                said = json_file.parsed(path, "")[0].get("key")
            except StoreError:
                said = None
        try:
            key = EmbeddingKey.from_dict(said)
        except (TypeError, AttributeError, StoreError):
            continue
        if key.folder == path.parent.name:
            return json_file.text(key_content(key, part.size))
    return None


def _whole_parts(folder: StorePath) -> Iterator[Part]:
    for path in sorted(folder.glob("part-*.parquet")):
        try:
            yield Part(path)
        except (StoreError, FileNotFoundError):
            continue


def _set_aside(corpus: StorePath, path: StorePath) -> StorePath | None:
    if not there(path):
        return None
    make_folder(corpus / ASIDE)
    within = "+".join(path.relative_to(corpus).parts)
    target = corpus / ASIDE / f"{time.time_ns()}+{within}"
    move(path, target)
    return target


def clips_lacking(store: EmbeddingStore, corpus: str, key: EmbeddingKey) -> list[str]:
    """The clips of a corpus, sorted, that have no row of a kind and were not recorded as unusable.

    Raises:
        StoreError: a file is damaged.
    """
    has_rows = any((store.root / corpus / key.folder).glob("part-*.parquet"))
    have = set(store.select(corpus, key).ids.to_pylist()) if has_rows else set()
    skipped = {item.clip for item in store.skipped(corpus, key)}
    return sorted(set(store.clips(corpus)["id"]) - have - skipped)


def _lacking(store: EmbeddingStore, mended: list[tuple[str, ...]]) -> dict[str, list[str]]:
    """Clips without a row, by the command that extracts them.

    Args:
        store: which.
        mended: the files that were damaged: corpus, kind where it is a kind's, and name.
    """
    lacking: dict[str, list[str]] = {}
    for corpus in sorted({place[0] for place in mended}):
        hit = {place[1] for place in mended if place[0] == corpus and len(place) > 2}
        try:
            held = {key.folder for key in store.keys(corpus)}
            keys = {key.folder: key for key in store.keys(corpus, empty=True) if key.folder in held | hit}
            for key in keys.values():
                if gone := clips_lacking(store, corpus, key):
                    lacking[store.command(corpus, key.encoder, settings_of(key))] = gone
            for folder in sorted(hit - set(keys)):  # neither its key nor a row is left: only its name tells what it was
                encoder = folder.rpartition("-")[0]
                lacking[store.command(corpus, encoder)] = sorted(store.clips(corpus)["id"])
        except StoreError:  # the table of clips was set aside: extracting anything brings it back
            try:
                lacking[store.command(corpus, "ENCODER")] = []
            except StoreError:
                lacking[f"serfuse extract --name {corpus} --corpus READER --data DIR --store {store.root}"] = []
    return lacking


def _is_sealed(path: StorePath) -> bool:
    return seal.broken(local(path).read_bytes()) is False


def _size(path: StorePath) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
