"""The folder that holds embeddings of one kind: a key, parts, and what was skipped."""

import json
import os
import platform
import re
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..atomic_io import locked, make_folder, remove_stale, write_atomic, write_text
from ..errors import StoreError
from . import json_file, parquet
from .key import EmbeddingKey
from .records import Skipped

FORMAT = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DIGEST = b"serfuse.key"
_MADE_WITH = ("serfuse", "numpy", "pyarrow", "soundfile", "soxr", "torch", "transformers")


class KeyFolder:
    """Embeddings of one kind on disk.

    Args:
        folder: where they are, or will be.
        key: what they are.
    """

    def __init__(self, folder: Path, key: EmbeddingKey) -> None:
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
        self._write_part(list(ids), list(hashes), matrix)

    def compact(self) -> None:
        """Bring all rows of a key into one part.

        Parts are removed only after a durable part holds their rows, so this is safe beside other writers, and
        beside another compaction.

        Raises:
            StoreError: a part is damaged, or the store cannot be written.
        """
        parts = self.parts(["id", "audio", "embedding"])
        if len(parts) < 2:
            return
        rows: dict[tuple[str, str], np.ndarray] = {}
        for _, part in parts:
            matrix = to_matrix(part)
            pairs = zip(part["id"].to_pylist(), part["audio"].to_pylist(), strict=True)
            rows.update(zip(pairs, matrix, strict=True))
        order = sorted(rows)
        self._write_part([pair[0] for pair in order], [pair[1] for pair in order], np.stack([rows[p] for p in order]))
        for path, _ in parts:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        remove_stale(self.folder)

    def parts(self, columns: list[str]) -> list[tuple[Path, pa.Table]]:
        """All parts in the order of their names. A compaction beside may take parts away: then it looks again.

        Raises:
            StoreError: a part is damaged, or parts keep coming and going.
        """
        for _ in range(50):
            try:
                return [(path, self._read_part(path, columns)) for path in sorted(self.folder.glob("part-*.parquet"))]
            except FileNotFoundError:
                continue
        raise StoreError(f"The parts in {self.folder} keep changing while they are read. Wait for the other process.")

    def skipped(self) -> list[Skipped]:
        """Clips recorded as unusable by this encoder, whatever their audio is now.

        Raises:
            StoreError: the record is damaged.
        """
        path = self.folder / "skipped.json"
        if not path.exists():
            return []
        try:
            return [Skipped(**item) for item in json_file.read(path)["skipped"]]
        except (KeyError, TypeError) as error:
            raise StoreError(f"The file {path} is damaged ({error!r}). Delete it and extract again.") from error

    def record_skipped(self, items: Sequence[Skipped]) -> None:
        """Replace the record of skipped clips.

        Raises:
            StoreError: the store cannot be written.
        """
        path = self.folder / "skipped.json"
        if not items and not path.exists():
            return
        make_folder(self.folder)
        ordered = sorted(items, key=lambda item: item.clip)
        write_text(path, json.dumps({"skipped": [vars(item) for item in ordered]}, indent=2, ensure_ascii=False) + "\n")

    def size(self) -> tuple[int, int]:
        """Length of its vectors, and bytes on disk."""
        parts = sorted(self.folder.glob("part-*.parquet"))
        if parts and not (self.folder / "key.json").exists():  # deleted, as the message about a damaged one says
            self._write_key(to_matrix(self._read_part(parts[0], ["embedding"])).shape[1])
        _, vector_size = read_key(self.folder / "key.json")
        return vector_size, sum(path.stat().st_size for path in self.folder.glob("part-*.parquet"))

    def _write_key(self, vector_size: int) -> None:
        if not NAME.fullmatch(self.key.encoder):
            raise StoreError(f"{self.key.encoder!r} cannot name an encoder.")
        path = self.folder / "key.json"
        make_folder(self.folder)
        with locked(self.folder):
            if not path.exists():
                data = {
                    "format": FORMAT,
                    "digest": self.key.digest,
                    "key": self.key.to_dict(),
                    "vector_size": vector_size,
                    "made_with": _made_with(),
                }
                write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        _, there = read_key(path)
        if there != vector_size:
            raise StoreError(
                f"Embeddings of {self.key.folder} have {there} values in the store, but {vector_size} were given. All "
                "clips must give vectors of one length; when frames are kept (pooling 'paper' of a codec), pad the "
                "clips (--pad SECONDS)."
            )

    def _write_part(self, ids: list[str], hashes: list[str], matrix: np.ndarray) -> None:
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1), pa.float32()), matrix.shape[1])
        table = pa.table(
            {"id": pa.array(ids, pa.string()), "audio": pa.array(hashes, pa.string()), "embedding": embedding}
        ).replace_schema_metadata({_DIGEST: self.key.digest.encode()})
        # The time first, so that of two rows for the same audio the later one is read last; then what makes it unique.
        name = f"part-{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}.parquet"
        write = partial(pq.write_table, table, compression="zstd", use_dictionary=False, write_page_checksum=True)
        write_atomic(self.folder / name, write)

    def _read_part(self, path: Path, columns: list[str]) -> pa.Table:
        try:
            with parquet.opened(path) as reader:
                owner = (reader.schema_arrow.metadata or {}).get(_DIGEST, b"").decode()
                table = reader.read(columns=columns, use_threads=False)
            if any(table[name].null_count for name in columns):
                raise ValueError("it holds empty cells")
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException, ValueError, KeyError) as error:
            raise StoreError(
                f"The part {path} is damaged ({json_file.first_line(error)}). Delete that file and run the same "
                "`serfuse extract` again: only the clips it held are computed anew."
            ) from error
        if owner != self.key.digest:
            raise StoreError(
                f"The part {path} holds embeddings of another kind ({owner or 'unknown'}, not {self.key.digest}). It "
                "does not belong into this folder; move it away."
            )
        return table


def to_matrix(part: pa.Table) -> np.ndarray:
    """The embeddings of a part, (N, D) float32."""
    size = part.schema.field("embedding").type.list_size
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in part["embedding"].chunks]
    return np.concatenate(chunks).reshape(-1, size) if chunks else np.empty((0, size), np.float32)


def read_key(path: Path) -> tuple[EmbeddingKey, int]:
    """The key in a `key.json`, and the length of its vectors.

    Raises:
        StoreError: it is damaged, or of another version, or describes another folder.
    """
    data = json_file.read(path)
    try:
        key, vector_size = EmbeddingKey.from_dict(data["key"]), int(data["vector_size"])
    except (KeyError, TypeError, ValueError, StoreError) as error:
        raise StoreError(
            f"The file {path} is not a key that this version of serfuse knows ({json_file.first_line(error)}). "
            f"Move the folder {path.parent} away, or use the version of serfuse that made it."
        ) from error
    if key.folder != path.parent.name:
        raise StoreError(
            f"The file {path} was changed, or its folder renamed: it describes {key.folder}. Move the folder "
            f"{path.parent} away and extract again."
        )
    return key, vector_size


def _made_with() -> dict[str, str]:
    """Versions at hand when a key was first stored; for people, not part of the key."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _MADE_WITH:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
