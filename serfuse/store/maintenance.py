"""What a store holds in detail, what of it nothing uses, why two kinds differ, and files of older formats anew."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..progress import Observer
from . import clip_table, heard, json_file, rows
from .files import StorePath, locked, remove_empty, remove_tree, write_text
from .key import EmbeddingKey
from .key_folder import KEY_FILE, SKIPPED, KeyFolder, key_content, read_key
from .part import one_array
from .part_writing import FORMAT
from .store import EmbeddingStore
from .verification import ASIDE, clips_lacking, corpus_folders

_TEMPORARY_SECONDS = 3600.0  # what a process may still be writing is younger
_COMPARED = 1000


def info(store: EmbeddingStore, corpus: str | None = None) -> dict[str, Any]:
    """What the store holds, file by file, from footers and ids alone.

    Args:
        store: which.
        corpus: only this one.

    Returns:
        `store`, and `corpora` with `name`, `clips` and, for each of `embeddings`: `name`, `rows` on disk, `clips` that
        have a row of their present audio, `vector_size`, `parts`, `formats` of their files and `bytes`. A kind that
        has lost all its rows is there with 0 of them.

    Raises:
        StoreError: there is no such corpus, or a file is damaged.
    """
    found = []
    for name in [corpus] if corpus else store.corpora():
        clips = store.corpus_info(name).get("clips")
        kinds = []
        for key in store.keys(name, empty=True):
            parts, (size, taken) = _folder(store, name, key).parts(), store.size(name, key)
            kinds.append(
                {
                    "name": key.folder,
                    "rows": sum(part.rows for part in parts),
                    "clips": len(store.select(name, key).ids) if parts else 0,
                    "vector_size": size,
                    "parts": len(parts),
                    "formats": sorted({part.format for part in parts}),
                    "bytes": taken,
                }
            )
        found.append({"name": name, "clips": clips, "embeddings": kinds})
    return {"store": str(store.root), "corpora": found}


def convert(store: EmbeddingStore, corpus: str, observer: Observer | None = None) -> list[str]:
    """Write files of older formats anew in the present one, and bring each kind's rows into one part.

    Each file is replaced when the new one is on the disk; a conversion that was interrupted goes on where it ended.

    Args:
        store: which.
        corpus: whose files.
        observer: hears of the rows that are written.

    Returns:
        the files and kinds that were written, by name.

    Raises:
        StoreError: a file is damaged, or the store cannot be written.
    """
    folder = store.root / corpus
    written = []
    about, table = store.corpus_info(corpus), clip_table.read(folder / "clips.parquet")
    text = json_file.text(about)
    with locked(folder):
        if (folder / "corpus.json").read_text(encoding="utf-8") != text or not clip_table.info(
            folder / "clips.parquet"
        ):
            clip_table.write(folder / "clips.parquet", table, text)
            write_text(folder / "corpus.json", text)
            written += ["corpus.json", "clips.parquet"]
        if (folder / heard.NAME).exists() and json_file.format_of(folder / heard.NAME) != FORMAT:
            heard.write(folder / heard.NAME, heard.read(folder / heard.NAME))
            written.append(heard.NAME)
    for key in store.keys(corpus):
        of = _folder(store, corpus, key)
        with locked(of.folder):
            for name in (KEY_FILE, SKIPPED):
                path = of.folder / name
                if path.exists() and json_file.format_of(path) != FORMAT:
                    json_file.write(path, json_file.read(path))
                    written.append(f"{key.folder}/{name}")
        if any(part.format != FORMAT for part in of.parts()):
            store.compact(corpus, key, observer)
            written.append(key.folder)
    return written


@dataclass(frozen=True)
class Unused:
    """Something in the store that nothing current uses.

    Attributes:
        path: a file or folder; with `rows`, the folder of a kind.
        reason: why nothing uses it.
        bytes: that it takes.
        rows: of parts that stay otherwise; 0 where the path itself goes.
        remove: does away with it.
        held: it is the last trace of embeddings that clips lack now, so that `serfuse store gc --remove` leaves it
            unless `--damaged` asks for it.
    """

    path: StorePath
    reason: str
    bytes: int
    rows: int
    remove: Callable[[], object]
    held: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "path": str(self.path),
            "reason": self.reason,
            "bytes": self.bytes,
            "rows": self.rows,
            "held": self.held,
        }


def unused(store: EmbeddingStore) -> list[Unused]:
    """What `serfuse store gc` removes.

    That is: kinds that the present code would make otherwise, or that were padded to a longest clip that is not the
    longest any more; rows of clips that left the corpus, or of other audio; files that a killed process left an hour
    ago or longer; damaged files that were set aside; folders without rows. Damaged parts of a kind that clips lack now,
    and its folder, are `held`.

    Raises:
        StoreError: the store is damaged; repair it first.
    """
    found: list[Unused] = []
    for folder in corpus_folders(store):
        for path in [*folder.glob(".tmp-*"), *folder.glob("*/.tmp-*")]:
            if time.time() - path.stat().st_mtime > _TEMPORARY_SECONDS:
                found.append(_path(path, "a process that was killed left it"))
        aside = _needed(store, folder)
        found += _aside(folder / ASIDE, aside)
        table = clip_table.read(folder / "clips.parquet")
        longest = pc.max(table["seconds"]).as_py()
        for path in sorted(folder.glob(f"*/{KEY_FILE}")):
            key, size = read_key(path)
            of = KeyFolder(path.parent, key)
            parts = of.parts()
            if not parts:
                found.append(replace(_path(path.parent, "it has no rows"), held=path.parent.name in aside.values()))
            elif not key.current:
                found.append(_path(path.parent, "an earlier version of the extraction code made it"))
            elif key.pad.startswith("max:") and longest is not None and key.pad != f"max:{longest:.3f}":
                found.append(_path(path.parent, f"padded to {key.pad[4:]} s, but the longest clip has {longest:.3f} s"))
            else:
                stale = _stale(table)
                count = sum(int(stale(*some).sum()) for _, *some in rows.texts(parts, table.num_rows))
                if count:
                    remove = _without(of, stale)
                    reason = "rows of clips that are not in the corpus, or of other audio than theirs now"
                    found.append(Unused(path.parent, reason, 4 * size * count, count, remove))
    return found


def difference(store: EmbeddingStore, corpus: str, one: EmbeddingKey, other: EmbeddingKey) -> dict[str, Any]:
    """Why two kinds of embeddings differ, and how much.

    Args:
        store: which.
        corpus: whose.
        one: a kind.
        other: another.

    Returns:
        `fields`: `{name: [value, value]}` of the key's fields that differ; `made_with` likewise, which is not part of
        the key; `vector_size`; `clips`: how many only the one, only the other and both have; `relative_difference`: the
        median over up to a thousand of the clips that both have, `None` where vectors cannot be compared.

    Raises:
        StoreError: a file is damaged.
    """
    first, second = one.to_dict(), other.to_dict()
    made = [_made_with(store, corpus, key) for key in (one, other)]
    chosen = [store.select(corpus, key) for key in (one, other)]
    at = rows.numbers(chosen[0].ids, chosen[1].ids)
    both = int((at >= 0).sum())
    sizes = [store.size(corpus, key)[0] for key in (one, other)]
    apart = None
    if both and sizes[0] == sizes[1]:
        place = np.flatnonzero(at >= 0)
        place = place[:: max(1, len(place) // _COMPARED)][:_COMPARED]
        left, right = (chosen[0].matrix(place).astype(float), chosen[1].matrix(at[place]).astype(float))
        length = np.maximum(np.linalg.norm(left, axis=1), np.finfo(float).tiny)
        apart = float(np.median(np.linalg.norm(left - right, axis=1) / length))
    return {
        "names": [one.folder, other.folder],
        "fields": {name: [first[name], second[name]] for name in first if first[name] != second[name]},
        "made_with": {
            name: [part.get(name) for part in made]
            for name in sorted({*made[0], *made[1]})
            if made[0].get(name) != made[1].get(name)
        },
        "vector_size": sizes,
        "clips": [len(chosen[0].ids) - both, len(chosen[1].ids) - both, both],
        "relative_difference": apart,
    }


def _folder(store: EmbeddingStore, corpus: str, key: EmbeddingKey) -> KeyFolder:
    return KeyFolder(store.root / corpus / key.folder, key)


def _made_with(store: EmbeddingStore, corpus: str, key: EmbeddingKey) -> dict[str, Any]:
    path = store.root / corpus / key.folder / KEY_FILE
    found = json_file.read(path).get("made_with") if path.exists() else key_content(key, 0)["made_with"]
    return found if isinstance(found, dict) else {}


def _stale(table: pa.Table) -> Callable[[pa.Array, pa.Array], np.ndarray]:
    ids, audio = one_array(table["id"]), one_array(table["audio"])

    def stale(have: pa.Array, of: pa.Array) -> np.ndarray:
        out = np.ones(len(have), bool)
        out[rows.current(have, of, ids, audio)[1]] = False
        return out

    return stale


def _without(of: KeyFolder, stale: Callable[[pa.Array, pa.Array], np.ndarray]) -> Callable[[], object]:
    return lambda: of.without(stale)


def _needed(store: EmbeddingStore, folder: StorePath) -> dict[StorePath, str]:
    """The damaged parts of a corpus that were set aside, of kinds that clips lack now, and the folder of each."""
    found: dict[StorePath, str] = {}
    lacks: dict[str, bool] = {}
    for path in sorted((folder / ASIDE).glob("*+*+part-*")):
        kind = path.name.split("+")[1]
        if kind not in lacks:
            key_file = folder / kind / KEY_FILE
            # Without a key nothing says what it was, and nothing has come in its place.
            lacks[kind] = not key_file.exists() or bool(clips_lacking(store, folder.name, read_key(key_file)[0]))
        if lacks[kind]:
            found[path] = kind
    return found


def _aside(folder: StorePath, needed: Mapping[StorePath, str]) -> list[Unused]:
    """The damaged files that were set aside: all in one, or one by one where some are needed."""
    if not folder.is_dir():
        return []
    if not needed:
        return [_path(folder, "damaged files that `repair` set aside")]

    def remove(path: StorePath) -> Callable[[], object]:
        def gone() -> None:
            path.unlink()
            remove_empty(folder)

        return gone

    found = []
    for path in sorted(folder.iterdir()):
        held = path in needed
        reason = f"a damaged part of {needed[path]}, which clips lack now" if held else "a damaged file, set aside"
        found.append(replace(_path(path, reason), remove=remove(path), held=held))
    return found


def _path(path: StorePath, reason: str) -> Unused:
    files: Sequence[StorePath] = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    remove = path.unlink if path.is_file() else (lambda: remove_tree(path))
    return Unused(path, reason, sum(item.stat().st_size for item in files), 0, remove)
