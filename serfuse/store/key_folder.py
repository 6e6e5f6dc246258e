"""The folder that holds embeddings of one kind: a key, parts, and what was skipped."""

import json
import os
import platform
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache
from importlib import metadata
from io import FileIO
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import StoreError
from ..progress import Observer
from . import json_file, part_writing, rows, together
from .damage import DamageError, first_line, repair_command
from .files import StorePath, flushing, locked, make_folder, remove_stale, sync, write_atomic
from .key import EmbeddingKey
from .part import KEY, KIND, Part
from .part_writing import FORMAT, Group
from .records import Skipped
from .rows import Selection

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
KEY_FILE, SKIPPED = "key.json", "skipped.json"
_TRIES = 50
_MOST_OPEN = 64  # parts at a time, of which there may be thousands
_MOST_TEXTS = 1 << 20
_MADE_WITH = ("serfuse", "numpy", "pyarrow", "soundfile", "soxr", "torch", "transformers")


class _VanishedError(Exception):
    """A part that is read has gone: no OSError, which would be taken for one of the file that is written."""


class KeyFolder:
    """Embeddings of one kind on disk.

    Args:
        folder: where they are, or will be.
        key: what they are.
    """

    def __init__(self, folder: StorePath, key: EmbeddingKey) -> None:
        self.folder, self.key = folder, key

    def append(self, ids: Sequence[str], hashes: Sequence[str], matrix: np.ndarray) -> None:
        """Store rows durably: when it returns they survive a crash, when it raises nothing has changed.

        Args:
            ids: clip ids, each once.
            hashes: the audio identity each row was computed from.
            matrix: finite, shape `(len(ids), D)`; stored as float32. D is the same for all rows of a key.

        Raises:
            StoreError: shapes that do not fit, numbers that are not finite, or a store that cannot be written.
        """
        matrix = np.ascontiguousarray(matrix, dtype=np.float32)
        if matrix.ndim != 2 or not matrix.size or not len(ids) == len(hashes) == len(matrix):
            raise StoreError(
                f"Expected a matrix of one row per clip, got shape {matrix.shape} for {len(ids)} clips and "
                f"{len(hashes)} audio hashes."
            )
        if len(set(ids)) != len(ids) or not all(ids) or not all(hashes):
            raise StoreError("Clip ids must be unique, and neither ids nor audio hashes may be empty.")
        bad = ~np.isfinite(matrix).all(axis=1)
        if bad.any():
            raise StoreError(f"The embedding of clip {ids[int(np.argmax(bad))]!r} holds values that are not finite.")
        self._write_key(matrix.shape[1])
        step = part_writing.group_rows(matrix.shape[1])
        names, audio = pa.array(ids, pa.large_string()), pa.array(hashes, pa.large_string())
        # By clip, so that a compaction finds what belongs together in each part in one stretch.
        order = pc.sort_indices(names)

        def groups() -> Iterator[Group]:
            for at in range(0, len(ids), step):
                some = order[at : at + step]
                yield part_writing.group(names.take(some), audio.take(some), matrix[some.to_numpy()])

        self._write_part(matrix.shape[1], groups(), several=len(ids) > step)

    def compact(self, observer: Observer | None = None) -> None:
        """Bring all rows of a key into one part, sorted by clip and audio, in memory that does not grow with them.

        Parts of the first format are written anew in the present one. Nothing is done where there is just one part, of
        the present format.

        Args:
            observer: hears of the rows that are written.

        Raises:
            DamageError: a part is damaged.
            StoreError: the store cannot be written.
        """
        for _ in range(_TRIES):
            try:
                parts = self.parts()
                if not parts or (len(parts) == 1 and parts[0].format == FORMAT):
                    return
                self._compact(parts, observer or Observer())
                return
            except FileNotFoundError:
                continue
        raise self.restless()

    def _compact(self, parts: list[Part], observer: Observer) -> None:
        texts = list(together.each(Part.texts, parts))
        with ThreadPoolExecutor(1) as pool:  # putting them in order keeps one processor busy
            coming = pool.submit(_latest, texts)
            for part in parts:
                if bad := part.bad_blocks():
                    raise part.damaged(f"bytes between {bad[0][0]} and {bad[0][1]} are not those that were written")
            order = coming.result()
        del texts
        path = self._write_rows(parts, *order, observer)
        written = Part(path)
        if written.rows != len(order[0]) or written.owner != self.key.digest:
            raise StoreError(f"The part {path} was not written as it should. The parts before it are kept.")
        if not (self.folder / KEY_FILE).exists() and not any(part.path.exists() for part in parts):
            path.unlink(missing_ok=True)  # all of it was removed on purpose meanwhile
            return

        def remove(part: Part) -> None:
            with suppress(OSError):
                part.path.unlink(missing_ok=True)

        deque(together.each(remove, parts), 0)
        sync(self.folder)
        remove_stale(self.folder)

    def _write_rows(
        self,
        parts: Sequence[Part],
        number: np.ndarray,
        row: np.ndarray,
        ids: pa.Array,
        audio: pa.Array,
        observer: Observer,
        *,
        stamp: str = "",
    ) -> StorePath:
        """A part of rows of other parts, which were verified; `number` and `row` say which, in order."""
        size = parts[0].size
        step = part_writing.group_rows(size)

        def groups() -> Iterator[tuple]:
            # Three: one is written, one is summed up, one is filled.
            buffers = [np.empty((min(step, len(row)), size), np.float32) for _ in range(3 if len(row) > step else 1)]
            with ExitStack() as opened:
                files: dict[int, FileIO] = {}
                for start in range(0, len(row), step):
                    some = slice(start, start + step)
                    found = buffers[start // step % len(buffers)][: len(row[some])]
                    order = np.argsort(number[some], kind="stable")
                    for at in np.split(order, np.flatnonzero(np.diff(number[some][order])) + 1):
                        one = int(number[some][at[0]])
                        if one not in files:
                            if len(files) == _MOST_OPEN:
                                opened.close()
                                files.clear()
                            files[one] = opened.enter_context(_there(parts[one]))
                        parts[one].gather(files[one], row[some][at], found, at)
                    yield ids[some], audio[some], found

        def told() -> Iterator[Group]:
            done = 0
            made = (part_writing.group(*found) for found in together.ahead(groups()))
            with closing(together.ahead(made)) as coming:
                for group in coming:
                    yield group
                    done += group.rows
                    observer.advance(done)

        try:
            with observer.working(f"{self.key.folder}: writing", len(row), "row"), closing(told()) as written:
                return self._write_part(size, written, several=len(row) > step, stamp=stamp)
        except _VanishedError as error:
            raise FileNotFoundError("a part went while it was copied") from error

    def parts(self) -> list[Part]:
        """All parts in the order of their names. A compaction beside may take parts away: then it looks again.

        Raises:
            DamageError: a part is damaged.
            StoreError: a part is of another key or format, or parts keep coming and going.
        """
        for _ in range(_TRIES):
            try:
                return [self.part(path) for path in self.paths()]
            except FileNotFoundError:
                continue
        raise self.restless()

    def paths(self) -> list[StorePath]:
        """The files of all parts, in the order in which they were written."""
        return sorted(self.folder.glob("part-*.parquet"))

    def ahead(self, clips: int, pool: Executor) -> list[Part]:
        """All parts; one that is alone and has as many rows as there are clips is verified while these are read.

        Args:
            clips: how many the corpus has.
            pool: where that is done.

        Raises:
            StoreError: as of `parts`.
        """
        parts = self.parts()
        if len(parts) == 1 and parts[0].rows == clips and rows.worth_mapping(parts[0].size, clips):
            parts[0].map_ahead(pool)
        return parts

    def select(self, ids: pa.ChunkedArray, audio: pa.ChunkedArray) -> tuple[Selection, pa.Array]:
        """The rows of clips as their audio is now; see `rows.select`.

        Raises:
            DamageError: a part is damaged.
            StoreError: parts keep coming and going.
        """
        for _ in range(_TRIES):
            try:
                return rows.select(self.parts(), ids, audio)
            except FileNotFoundError:
                continue
        raise self.restless()

    def texts(self) -> list[tuple[pa.Array, pa.Array]]:
        """Clip ids and audio identities of every part; as `select`."""
        for _ in range(_TRIES):
            try:
                return [part.texts() for part in self.parts()]
            except FileNotFoundError:
                continue
        raise self.restless()

    def part(self, path: StorePath) -> Part:
        """Open one of `paths`.

        Raises:
            DamageError: it is damaged.
            StoreError: it is of another key or format.
            FileNotFoundError: a compaction has taken it away.
        """
        part = Part(path)
        if part.owner != self.key.digest:
            raise StoreError(
                f"The part {path} holds embeddings of another kind ({part.owner or 'unknown'}, not {self.key.digest}). "
                "It does not belong into this folder; move it away."
            )
        return part

    def restless(self) -> StoreError:
        """The error for parts that come and go for ever."""
        return StoreError(f"The parts in {self.folder} keep changing while they are read. Wait for the other process.")

    def skipped(self) -> list[Skipped]:
        """Clips recorded as unusable by this encoder, whatever their audio is now.

        Raises:
            StoreError: the record is damaged, or its format unknown.
        """
        path = self.folder / SKIPPED
        if not path.exists():
            return []
        try:
            return [Skipped(**item) for item in json_file.read(path)["skipped"]]
        except (KeyError, TypeError) as error:
            raise DamageError(path, f"The file {path} is damaged ({error!r}). Delete it and extract again.") from error

    def record_skipped(self, items: Sequence[Skipped]) -> None:
        """Replace the record of skipped clips.

        Raises:
            StoreError: the store cannot be written, or holds a record of an unknown format.
        """
        path = self.folder / SKIPPED
        if not items and not path.exists():
            return
        make_folder(self.folder)
        if path.exists():
            self.skipped()
        ordered = sorted(items, key=lambda item: item.clip)
        json_file.write(path, {"skipped": [vars(item) for item in ordered]})

    def size(self) -> tuple[int, int]:
        """Length of its vectors, and bytes on disk.

        Raises:
            DamageError: `key.json`, or the part it would be made from, is damaged.
            StoreError: parts keep coming and going.
        """
        for _ in range(_TRIES):
            try:
                paths = self.paths()
                if paths and not (self.folder / KEY_FILE).exists():  # deleted, as the message about a damaged one says
                    self._write_key(self.part(paths[0]).size)
                _, vector_size = read_key(self.folder / KEY_FILE)
                return vector_size, sum(path.stat().st_size for path in paths)
            except FileNotFoundError:
                continue
        raise self.restless()

    def _write_key(self, vector_size: int) -> None:
        if not NAME.fullmatch(self.key.encoder):
            raise StoreError(f"{self.key.encoder!r} cannot name an encoder.")
        path = self.folder / KEY_FILE
        make_folder(self.folder)
        with locked(self.folder):
            if not path.exists():
                json_file.write(path, key_content(self.key, vector_size))
        _, there = read_key(path)
        if there != vector_size:
            raise StoreError(
                f"Embeddings of {self.key.folder} have {there} values in the store, but {vector_size} were given. All "
                "clips must give vectors of one length; when frames are kept (pooling 'paper' of a codec), pad the "
                "clips (--pad SECONDS)."
            )

    def salvage(self, part: Part, whole: np.ndarray) -> StorePath | None:
        """Write the whole rows of a damaged part as a part of their own, which counts as old as the damaged one.

        Args:
            part: whose ids and audio identities are whole.
            whole: which rows' vectors are, bool.

        Raises:
            StoreError: the store cannot be written.
        """
        row = np.flatnonzero(whole)
        if not len(row):
            return None
        ids, audio = (array.take(pa.array(row)) for array in part.texts())
        begin = part.path.name.split("-")[1]
        number = np.zeros(len(row), np.int32)
        return self._write_rows([part], number, row, ids, audio, Observer(), stamp=begin)

    def without(self, stale: Callable[[pa.Array, pa.Array], np.ndarray]) -> int:
        """Write parts anew without rows that are not wanted any more.

        Args:
            stale: which rows of ids and audio identities to leave out, bool.

        Returns:
            how many rows were left out.

        Raises:
            StoreError: a part is damaged, or the store cannot be written.
        """
        gone, parts = 0, self.parts()
        for some, have, of in rows.texts(parts, _MOST_TEXTS):
            ends = np.cumsum([parts[number].rows for number in some])
            for number, out in zip(some, np.split(stale(have, of), ends[:-1]), strict=True):
                if not out.any():
                    continue
                part = parts[number]
                if bad := part.bad_blocks():
                    raise part.damaged(f"bytes between {bad[0][0]} and {bad[0][1]} are not those that were written")
                self.salvage(part, ~out)
                part.path.unlink(missing_ok=True)
                gone += int(out.sum())
        sync(self.folder)
        return gone

    def _write_part(self, size: int, groups: Iterable[Group], *, several: bool, stamp: str = "") -> StorePath:
        notes = {KEY: self.key.digest, KIND: json.dumps(self.key.to_dict(), sort_keys=True)}
        # The time first, so that of two rows for the same audio the later one is read last; then what makes it unique.
        name = f"part-{stamp or f'{time.time_ns():020d}'}-{os.getpid()}-{secrets.token_hex(4)}.parquet"

        def write(file: BinaryIO) -> None:
            with flushing(self.folder, file) as written:
                part_writing.write(written, size, notes, groups, several=several)

        write_atomic(self.folder / name, write)
        return self.folder / name


@contextmanager
def _there(part: Part) -> Iterator[FileIO]:
    """A part's file, opened."""
    with ExitStack() as opened:
        try:
            file = opened.enter_context(part.opened())
        except FileNotFoundError as error:
            raise _VanishedError from error
        yield file


def _latest(texts: Sequence[tuple[pa.Array, pa.Array]]) -> tuple[np.ndarray, np.ndarray, pa.Array, pa.Array]:
    """The rows of parts, sorted by clip and audio; of several for the same audio, the last.

    Returns:
        the number of the part and the row in it, clip id and audio identity of each.
    """
    ids, audio = (pa.concat_arrays([pair[place] for pair in texts]) for place in range(2))
    lengths = [len(pair[0]) for pair in texts]
    number = np.repeat(np.arange(len(texts), dtype=np.int32), lengths)
    row = np.concatenate([np.arange(length) for length in lengths])
    order = pc.sort_indices(ids)  # stable, as the next one is
    by_id = ids.take(order)
    if pc.any(pc.equal(by_id[:-1], by_id[1:])).as_py():  # otherwise, which is the rule, it is enough
        order = pc.sort_indices(pa.table({"id": ids, "audio": audio}), [("id", "ascending"), ("audio", "ascending")])
        by_id = ids.take(order)
    ids, audio = by_id, audio.take(order)
    again = pc.and_(pc.equal(ids[:-1], ids[1:]), pc.equal(audio[:-1], audio[1:]))
    last = np.append(~again.to_numpy(zero_copy_only=False), True)
    chosen = order.to_numpy()
    if last.all():
        return number[chosen], row[chosen], ids, audio
    chosen = chosen[last]
    return number[chosen], row[chosen], ids.filter(pa.array(last)), audio.filter(pa.array(last))


def key_content(key: EmbeddingKey, vector_size: int) -> dict[str, Any]:
    """What `key.json` says."""
    return {"digest": key.digest, "key": key.to_dict(), "vector_size": vector_size, "made_with": dict(_made_with())}


def read_key(path: StorePath) -> tuple[EmbeddingKey, int]:
    """The key in a `key.json`, and the length of its vectors.

    Raises:
        DamageError: it is damaged, or describes another folder.
        StoreError: its format is unknown.
    """
    command = repair_command(path.parent.parent.parent)
    data, whole = json_file.parsed(path, f"Mend it with `{command}`, or Delete it and run `serfuse extract` again.")
    try:
        key, vector_size = EmbeddingKey.from_dict(data["key"]), int(data["vector_size"])
    except (KeyError, TypeError, ValueError, AttributeError, StoreError) as error:
        raise DamageError(
            path,
            f"The file {path} is not a key that this version of serfuse knows ({first_line(error)}). Mend it with "
            f"`{command}`, or use the version of serfuse that made it.",
            first_line(error),
        ) from error
    if not whole or key.folder != path.parent.name:
        raise DamageError(
            path,
            f"The file {path} was changed, or its folder renamed: it describes {key.folder}. Mend it with `{command}`.",
            "it is not as it was written",
        )
    return key, vector_size


@cache  # each is a file to be read and parsed
def _made_with() -> dict[str, str]:
    """Versions at hand when a key was first stored; for people, not part of the key."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _MADE_WITH:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
