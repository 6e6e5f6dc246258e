"""The embedding store: what was extracted once is never computed again, and never mixed up.

On disk, under the root (`$SERFUSE_STORE`, else `./serfuse-store`)::

    <corpus>/corpus.json                       what the corpus is, in words
    <corpus>/clips.parquet                     one row per clip: labels, and the content hash of its audio
    <corpus>/<encoder>-<digest>/key.json       how these embeddings were made
    <corpus>/<encoder>-<digest>/part-*.parquet columns id, audio, embedding (fixed-size list of float32)
    <corpus>/<encoder>-<digest>/skipped.json   clips that this encoder cannot use, with the reason

A row belongs to a clip *and* to the audio it was computed from: when a file changes, its old rows no longer count.
Every file is written whole or not at all, parts have unique names, and when two processes stored the same row twice,
either is right. A damaged part is an error that names the file: nothing is guessed.
"""

import json
import math
import os
import platform
import re
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .corpora.base import Clip, Corpus
from .durable import locked, make_folder, remove_stale, write_atomic, write_text
from .embedding_key import EXTRACTION_VERSION, EmbeddingKey, option_text
from .errors import StoreError

__all__ = ["EXTRACTION_VERSION", "AudioFacts", "EmbeddingKey", "EmbeddingStore", "FileStamp", "Skipped", "default_root"]

_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DIGEST_KEY = b"serfuse.key"
_CLIP_COLUMNS = ("id", "path", "emotion", "speaker", "text", "fold", "seconds", "audio", "start", "end")
# Columns that only serve to know a file again without reading it; `clips` does not show them.
_STAMP_COLUMNS = ("_size", "_mtime_ns", "_ctime_ns", "_file_seconds")
_MADE_WITH = ("serfuse", "numpy", "pyarrow", "soundfile", "soxr", "torch", "transformers")


@dataclass(frozen=True)
class FileStamp:
    """What a file system says of a file; while it is the same, the content is taken to be the same."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileStamp":
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True)
class AudioFacts:
    """What is known of a clip's audio without decoding it.

    Attributes:
        audio: identity of the audio: the file's content hash, with `@start-end` behind it for a part of a file.
            `None` when the file cannot be read.
        seconds: length of the clip, NaN when unknown.
        stamp: of the file when it was hashed, `None` when unknown.
        file_seconds: length of the whole file, NaN when unknown.
        settled: the stamp can be trusted later on; not so for a file written a moment ago, which could change again
            within the resolution of the file system's clock.
        problem: why the audio cannot be used, as far as the file's header tells; `None` when it seems fine.
    """

    audio: str | None
    seconds: float = math.nan
    stamp: FileStamp | None = None
    file_seconds: float = math.nan
    settled: bool = True
    problem: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A clip that an encoder could not use, and that the user agreed to leave out."""

    clip: str
    audio: str | None
    reason: str


def default_root() -> Path:
    """`$SERFUSE_STORE`, else `serfuse-store` in the working folder."""
    return Path(os.environ.get("SERFUSE_STORE") or "serfuse-store")


class EmbeddingStore:
    """Labels and embeddings of corpora, on disk.

    Args:
        root: folder, created on the first write; by default `default_root()`.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root) if root else default_root()

    def __repr__(self) -> str:
        return f"EmbeddingStore({str(self.root)!r})"

    # --- corpora ------------------------------------------------------------------------------------------------

    def corpora(self) -> list[str]:
        """Names of the corpora it holds, sorted.

        Raises:
            StoreError: the root is not a folder, or cannot be read.
        """
        if not self.root.exists():
            return []
        if not self.root.is_dir():
            raise StoreError(f"The store {self.root} is a file; expected a folder. Choose another --store.")
        try:
            return sorted(path.parent.name for path in self.root.glob("*/corpus.json"))
        except OSError as error:
            raise StoreError(f"Cannot read the store {self.root}: {error}.") from error

    def check_writable(self, corpus: str) -> None:
        """Create the folder of `corpus` and prove that it can be written; call it before any long computation.

        Raises:
            StoreError: a name that cannot be a folder's, or a store that cannot be written.
        """
        make_folder(self._folder(corpus))

    def write_corpus(
        self,
        corpus: Corpus,
        rows: Mapping[str, AudioFacts],
        *,
        complete: bool = True,
        source: Mapping[str, Any] | None = None,
    ) -> None:
        """Record the clips of a corpus and what their audio is now.

        Args:
            rows: the audio facts of each clip, by clip id.
            complete: `corpus` is the whole corpus: clips that it no longer has leave the table. Otherwise its clips
                are added to those already there. Embeddings are never removed.
            source: how the corpus was read (`corpus`, `data`, ...), to show the command that reads it again.

        Raises:
            StoreError: a clip without facts, a repeated id, another corpus under the same name, or a store that
                cannot be written.
        """
        ids = [clip.id for clip in corpus.clips]
        if len(set(ids)) != len(ids):
            repeated = sorted({name for name in ids if ids.count(name) > 1})[:5]
            raise StoreError(f"Clip ids of corpus {corpus.name!r} are not unique: {', '.join(repeated)} ...")
        missing = [name for name in ids if name not in rows]
        if missing:
            raise StoreError(f"No audio facts were given for {len(missing)} clips, the first is {missing[0]!r}.")
        folder = self._folder(corpus.name)
        make_folder(folder)
        table = _clip_table([(clip, rows[clip.id]) for clip in corpus.clips])
        with locked(folder):
            remove_stale(folder)
            path = folder / "clips.parquet"
            old = _read_clip_table(path) if path.exists() else None
            if old is not None:
                kept = self._other_clips(corpus, old, table, source)
                if not complete and kept.num_rows:
                    table = pa.concat_tables([kept, table], promote_options="default")
                    table = table.sort_by("id")
            if old is None or not table.equals(old):
                write_atomic(path, partial(pq.write_table, table, compression="zstd", write_page_checksum=True))
            info = {
                "format": _FORMAT,
                "name": corpus.name,
                "speaker_kind": corpus.speaker_kind,
                "synthetic": corpus.synthetic,
                "warnings": list(corpus.warnings),
                "clips": table.num_rows,
                "source": dict(source or {}),
            }
            text = json.dumps(info, indent=2, ensure_ascii=False) + "\n"
            where = folder / "corpus.json"
            if not where.exists() or where.read_text(encoding="utf-8") != text:
                write_text(where, text)

    def _other_clips(self, corpus: Corpus, old: pa.Table, new: pa.Table, source: Mapping[str, Any] | None) -> pa.Table:
        """Rows of the table on disk that `corpus` does not have; an error when that is all of them."""
        audio = dict(zip(new["id"].to_pylist(), new["audio"].to_pylist(), strict=True))
        keep = [name not in audio for name in old["id"].to_pylist()]
        info = self.root / corpus.name / "corpus.json"
        before = (_read_json(info).get("source") or {}).get("data") if info.exists() else None
        now = (source or {}).get("data")
        # The same place may have other clips now. Another one may have the same clips, but then with the same audio.
        known = zip(old["id"].to_pylist(), old["audio"].to_pylist(), strict=True)
        same = any(name in audio and audio[name] == there for name, there in known)
        if old.num_rows and new.num_rows and not same and (before != now if before and now else all(keep)):
            raise StoreError(
                f"The store {self.root} already holds a corpus called {corpus.name!r} with {old.num_rows} other "
                f"clips (read from {before or 'another place'}), none of which is in {now or 'the new one'}. "
                "Give this one another name (--name NAME) or another store (--store FOLDER)."
            )
        return old.filter(pa.array(keep, pa.bool_()))

    def corpus_info(self, corpus: str) -> dict[str, Any]:
        """What was recorded of a corpus: name, speaker_kind, synthetic, warnings, clips (count), source.

        Raises:
            StoreError: there is no such corpus (the message lists those there are), or its file is damaged.
        """
        path = self._existing(corpus) / "corpus.json"
        return _read_json(path)

    def clips(self, corpus: str) -> pd.DataFrame:
        """One row per clip, sorted by id.

        Returns:
            columns `id, path, emotion, speaker, text, fold, seconds, audio, start, end` and the corpus' own extra
            ones. Missing values are NaN; `audio` is missing for files that cannot be read.

        Raises:
            StoreError: there is no such corpus, or its table is damaged.
        """
        frame = self._clip_table(corpus).to_pandas()
        return frame.drop(columns=[name for name in _STAMP_COLUMNS if name in frame])

    def known_files(self, corpus: str) -> dict[str, tuple[FileStamp, str, float]]:
        """Files hashed before: `{path: (stamp, content hash, seconds)}`. Empty for an unknown corpus."""
        if corpus not in self.corpora() or not (self._folder(corpus) / "clips.parquet").exists():
            return {}
        found = {}
        columns = self._clip_table(corpus).select(["path", "audio", *_STAMP_COLUMNS]).to_pydict()
        for path, audio, *stamp, seconds in zip(*columns.values(), strict=True):
            if audio is not None and None not in stamp and seconds is not None:
                found[path] = (FileStamp(*stamp), audio.partition("@")[0], seconds)
        return found

    # --- embeddings ---------------------------------------------------------------------------------------------

    def keys(self, corpus: str) -> list[EmbeddingKey]:
        """The kinds of embeddings that hold at least one row, sorted by folder name.

        Raises:
            StoreError: there is no such corpus, or a key file is damaged.
        """
        folder = self._existing(corpus)
        return [
            _read_key(path)[0] for path in sorted(folder.glob("*/key.json")) if any(path.parent.glob("part-*.parquet"))
        ]

    def find(self, corpus: str, encoder: str, **constraints: Any) -> EmbeddingKey:
        """The one kind of embeddings of `encoder` that fits.

        Args:
            encoder: a registry name, or the full name of one kind as messages show it ("hubert-1a2b3c4d5e6f").
            constraints: fields of `EmbeddingKey` and their values; `None` does not constrain. `weights="random"` and
                `pad="max"` fit every seed and length; `options` needs to hold the given ones.

        Raises:
            StoreError: none fits, or several; the message lists them and the command that makes what is missing.
        """
        wanted = {name: value for name, value in constraints.items() if value is not None}
        unknown = sorted(set(wanted) - set(EmbeddingKey.__dataclass_fields__))
        if unknown:
            raise StoreError(
                f"Embeddings cannot be chosen by {', '.join(unknown)}. Choose by: "
                f"{', '.join(EmbeddingKey.__dataclass_fields__)}."
            )
        keys = self.keys(corpus)
        named = [key for key in keys if key.folder == encoder]
        keys = named or [key for key in keys if key.encoder == encoder]
        fitting = [key for key in keys if all(_fits(key, name, value) for name, value in wanted.items())]
        current = [key for key in fitting if named or key.current]
        if len(current) == 1:
            return current[0]
        asked = encoder + "".join(f", {name} {value}" for name, value in wanted.items())
        if current:
            raise StoreError(
                f"The store {self.root} holds several embeddings of corpus {corpus!r} that fit {asked}:\n"
                + "\n".join(f"  {key.describe()}" for key in current)
                + "\nName one in full (for example "
                f"{current[0].folder}), or say more about it (for example {_difference(encoder, current)})."
            )
        held = keys or self.keys(corpus)
        listing = "\n".join(f"  {key.describe()}" for key in held)
        raise StoreError(
            f"The store {self.root} holds no embeddings of corpus {corpus!r} that fit {asked}. "
            + (f"It holds:\n{listing}\n" if held else "It holds none at all. ")
            + f"Make them with: {self.command(corpus, encoder, wanted)}"
        )

    def command(self, corpus: str, encoder: str, settings: Mapping[str, Any] | None = None) -> str:
        """The `serfuse extract` command that makes embeddings, as far as the store knows it."""
        source = self.corpus_info(corpus).get("source", {})
        words = ["serfuse", "extract", "--corpus", source.get("corpus", corpus), "--data", source.get("data", "DIR")]
        if source.get("name"):
            words += ["--name", source["name"]]
        words += ["--encoder", encoder]
        flags = {"pooling": "--pool", "pad": "--pad", "layer": "--layer", "dtype": "--dtype"}
        for name, value in (settings or {}).items():
            if name in flags:
                words += [flags[name], "max" if name == "pad" and str(value).startswith("max") else str(value)]
            elif name == "weights" and str(value).startswith("random"):
                words += ["--weights", "random"]
                if (seed := str(value).partition(":")[2]) not in ("", "0"):
                    words += ["--seed", seed]
            elif name == "options":
                for option, setting in value.items():
                    words += ["--option", f"{option}={option_text(setting)}"]
        return shlex.join([*words, "--store", str(self.root)])

    def present(self, corpus: str, key: EmbeddingKey) -> dict[str, str]:
        """The clips that have a row, and of which audio: `{clip id: audio identity}`.

        A clip with rows of several versions of its audio shows the version that is in the clips table, if it has that.

        Raises:
            StoreError: a part is damaged.
        """
        current = self._audio(corpus)
        found: dict[str, str] = {}
        for _, part in self._read_parts(corpus, key, ["id", "audio"]):
            for clip, audio in zip(part["id"].to_pylist(), part["audio"].to_pylist(), strict=True):
                if found.get(clip) is None or found[clip] != current.get(clip):
                    found[clip] = audio
        return found

    def append(
        self, corpus: str, key: EmbeddingKey, ids: Sequence[str], hashes: Sequence[str], matrix: np.ndarray
    ) -> None:
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
        self._write_key(corpus, key, matrix.shape[1])
        self._write_part(corpus, key, list(ids), list(hashes), matrix)

    def compact(self, corpus: str, key: EmbeddingKey) -> None:
        """Bring all rows of a key into one part.

        Parts are removed only after a durable part holds their rows, so this is safe beside other writers, and
        beside another compaction.

        Raises:
            StoreError: a part is damaged, or the store cannot be written.
        """
        parts = self._read_parts(corpus, key, ["id", "audio", "embedding"])
        if len(parts) < 2:
            return
        rows: dict[tuple[str, str], np.ndarray] = {}
        for _, part in parts:
            matrix = _to_matrix(part)
            pairs = zip(part["id"].to_pylist(), part["audio"].to_pylist(), strict=True)
            rows.update(zip(pairs, matrix, strict=True))
        order = sorted(rows)
        self._write_part(
            corpus, key, [pair[0] for pair in order], [pair[1] for pair in order], np.stack([rows[p] for p in order])
        )
        for path, _ in parts:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        remove_stale(self._folder(corpus) / key.folder)

    def load(self, corpus: str, key: EmbeddingKey) -> tuple[list[str], np.ndarray]:
        """Embeddings of the clips in the table, as their audio is now.

        Returns:
            clip ids, sorted, and their vectors, float32, shape `(N, D)`.

        Raises:
            StoreError: there are none, or a part is damaged.
        """
        current = self._audio(corpus)
        parts = self._read_parts(corpus, key, ["id", "audio", "embedding"])
        place: dict[str, tuple[int, int]] = {}
        for number, (_, part) in enumerate(parts):
            rows = zip(part["id"].to_pylist(), part["audio"].to_pylist(), strict=True)
            for row, (clip, audio) in enumerate(rows):
                if current.get(clip) == audio:
                    place[clip] = (number, row)
        if not place:
            raise StoreError(
                f"The store {self.root} holds no embedding of {key.folder} that belongs to the present audio of "
                f"corpus {corpus!r}. Make them with: {self.command(corpus, key.encoder, _settings(key))}"
            )
        ids = sorted(place)
        matrices = [_to_matrix(part) for _, part in parts]
        return ids, np.stack([matrices[number][row] for number, row in (place[clip] for clip in ids)])

    def join(
        self,
        corpus: str,
        keys: Mapping[str, EmbeddingKey] | Sequence[EmbeddingKey],
        *,
        missing: str = "error",
    ) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
        """Labels and embeddings of the clips that every key has, joined by clip id.

        Args:
            keys: names for the matrices and their keys; from a plain sequence the encoders' names are taken (the
                full names where an encoder comes twice).
            missing: "error" refuses when a clip has no row, unless it was recorded as skipped; "drop" leaves it out.

        Returns:
            the clips (as `clips`, row numbers from 0), whose `attrs["dropped"]` lists what was left out as
            `{"clip", "name", "reason"}`; and `{name: (N, D) float32}` with rows in the same order.

        Raises:
            StoreError: clips are missing, or none is left.
        """
        if missing not in ("error", "drop"):
            raise StoreError(f"missing={missing!r} is not known. Choose one of: error, drop.")
        if not isinstance(keys, Mapping):
            encoders = [key.encoder for key in keys]
            keys = {key.encoder if encoders.count(key.encoder) == 1 else key.folder: key for key in keys}
        clips = self.clips(corpus)
        loaded = {name: self.load(corpus, key) for name, key in keys.items()}
        dropped: list[dict[str, str]] = []
        unexplained: dict[str, list[str]] = {}
        for name, (ids, _) in loaded.items():
            have = set(ids)
            reasons = {item.clip: item.reason for item in self.skipped(corpus, keys[name])}
            for clip in clips["id"]:
                if clip not in have:
                    dropped.append({"clip": clip, "name": name, "reason": reasons.get(clip, "not extracted")})
                    if clip not in reasons:
                        unexplained.setdefault(name, []).append(clip)
        if unexplained and missing == "error":
            lines = [
                f"  {keys[name].folder} lacks {len(lacking)}: {', '.join(lacking[:5])}"
                + (" ..." if len(lacking) > 5 else "")
                + f"\n    {self.command(corpus, keys[name].encoder, _settings(keys[name]))}"
                for name, lacking in unexplained.items()
            ]
            raise StoreError(
                f"Not every one of the {len(clips)} clips of corpus {corpus!r} has its embeddings. Extract the rest "
                "(--skip-bad leaves out clips that cannot be used):\n" + "\n".join(lines)
            )
        clips = clips[~clips["id"].isin([item["clip"] for item in dropped])].reset_index(drop=True)
        if clips.empty:
            raise StoreError(f"No clip of corpus {corpus!r} has embeddings of all of: {', '.join(keys)}.")
        matrices = {}
        for name, (ids, matrix) in loaded.items():
            row_of = {clip: row for row, clip in enumerate(ids)}
            matrices[name] = matrix[[row_of[clip] for clip in clips["id"]]]
        clips.attrs["dropped"] = dropped
        return clips, matrices

    # --- skipped clips ------------------------------------------------------------------------------------------

    def skipped(self, corpus: str, key: EmbeddingKey) -> list[Skipped]:
        """Clips recorded as unusable by this encoder, as long as their audio is unchanged."""
        path = self._folder(corpus) / key.folder / "skipped.json"
        if not path.exists():
            return []
        try:
            items = [Skipped(**item) for item in _read_json(path)["skipped"]]
        except (KeyError, TypeError) as error:
            raise StoreError(f"The file {path} is damaged ({error!r}). Delete it and extract again.") from error
        current = self._audio(corpus)
        return [item for item in items if item.clip in current and current[item.clip] == item.audio]

    def record_skipped(self, corpus: str, key: EmbeddingKey, items: Sequence[Skipped]) -> None:
        """Replace the record of skipped clips.

        Raises:
            StoreError: the store cannot be written.
        """
        folder = self._folder(corpus) / key.folder
        path = folder / "skipped.json"
        if not items and not path.exists():
            return
        make_folder(folder)
        ordered = sorted(items, key=lambda item: item.clip)
        write_text(path, json.dumps({"skipped": [vars(item) for item in ordered]}, indent=2, ensure_ascii=False) + "\n")

    # --- the files ----------------------------------------------------------------------------------------------

    def size(self, corpus: str, key: EmbeddingKey) -> tuple[int, int]:
        """Length of its vectors, and bytes on disk of a key."""
        folder = self._folder(corpus) / key.folder
        parts = sorted(folder.glob("part-*.parquet"))
        if parts and not (folder / "key.json").exists():  # deleted, as the message about a damaged one says
            self._write_key(corpus, key, _to_matrix(_read_part(parts[0], key, ["embedding"])).shape[1])
        _, vector_size = _read_key(folder / "key.json")
        return vector_size, sum(path.stat().st_size for path in folder.glob("part-*.parquet"))

    def _folder(self, corpus: str) -> Path:
        if not _NAME.fullmatch(corpus):
            raise StoreError(
                f"{corpus!r} cannot name a corpus: expected letters, digits, '.', '_' and '-', starting with a letter "
                "or digit. Give another name (--name NAME)."
            )
        return self.root / corpus

    def _existing(self, corpus: str) -> Path:
        folder = self._folder(corpus)
        if not (folder / "corpus.json").is_file():
            there = ", ".join(self.corpora())
            raise StoreError(
                f"The store {self.root} holds no corpus {corpus!r}. "
                + (f"It holds: {there}." if there else "It is empty.")
                + " Fill it with: serfuse extract --corpus NAME --data DIR --encoder NAME"
            )
        return folder

    def _clip_table(self, corpus: str) -> pa.Table:
        return _read_clip_table(self._existing(corpus) / "clips.parquet")

    def _audio(self, corpus: str) -> dict[str, str | None]:
        table = self._clip_table(corpus)
        return dict(zip(table["id"].to_pylist(), table["audio"].to_pylist(), strict=True))

    def _write_key(self, corpus: str, key: EmbeddingKey, vector_size: int) -> None:
        if not _NAME.fullmatch(key.encoder):
            raise StoreError(f"{key.encoder!r} cannot name an encoder.")
        folder = self._folder(corpus) / key.folder
        path = folder / "key.json"
        make_folder(folder)
        with locked(folder):
            if not path.exists():
                data = {
                    "format": _FORMAT,
                    "digest": key.digest,
                    "key": key.to_dict(),
                    "vector_size": vector_size,
                    "made_with": _made_with(),
                }
                write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        _, there = _read_key(path)
        if there != vector_size:
            raise StoreError(
                f"Embeddings of {key.folder} have {there} values in the store, but {vector_size} were given. All clips "
                "must give vectors of one length; when frames are kept (pooling 'paper' of a codec), pad the clips "
                "(--pad SECONDS)."
            )

    def _write_part(
        self, corpus: str, key: EmbeddingKey, ids: list[str], hashes: list[str], matrix: np.ndarray
    ) -> None:
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1), pa.float32()), matrix.shape[1])
        table = pa.table(
            {"id": pa.array(ids, pa.string()), "audio": pa.array(hashes, pa.string()), "embedding": embedding}
        ).replace_schema_metadata({_DIGEST_KEY: key.digest.encode()})
        # The time first, so that of two rows for the same audio the later one is read last; then what makes it unique.
        name = f"part-{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}.parquet"
        write = partial(pq.write_table, table, compression="zstd", use_dictionary=False, write_page_checksum=True)
        write_atomic(self._folder(corpus) / key.folder / name, write)

    def _read_parts(self, corpus: str, key: EmbeddingKey, columns: list[str]) -> list[tuple[Path, pa.Table]]:
        """All parts in the order of their names. A compaction beside may take parts away: then it looks again."""
        folder = self._folder(corpus) / key.folder
        for _ in range(50):
            try:
                parts = [(path, _read_part(path, key, columns)) for path in sorted(folder.glob("part-*.parquet"))]
            except FileNotFoundError:
                continue
            return parts
        raise StoreError(f"The parts in {folder} keep changing while they are read. Wait for the other process.")


def _fits(key: EmbeddingKey, name: str, value: Any) -> bool:
    have = getattr(key, name)
    if isinstance(have, dict):
        return isinstance(value, Mapping) and all(have.get(item) == wanted for item, wanted in value.items())
    have, value = str(have), str(value)
    if name == "pad":
        with suppress(ValueError):
            return float(have) == float(value)
    return have == value or (name in ("pad", "weights") and have.startswith((f"{value}:", f"{value}@")))


def _difference(encoder: str, keys: Sequence[EmbeddingKey]) -> str:
    """How the first key is told apart from the others, in the command line's notation."""
    for name in ("pooling", "pad", "layer", "weights", "dtype"):
        if len({getattr(key, name) for key in keys}) > 1:
            return f"{encoder}@{name}={getattr(keys[0], name)}"
    return keys[0].folder


def _settings(key: EmbeddingKey) -> dict[str, Any]:
    """What of a key differs from the defaults of `serfuse extract`, for the command that makes it."""
    settings = {name: getattr(key, name) for name in ("pooling", "layer", "pad", "weights", "dtype", "options")}
    standard = {"layer": "last", "dtype": "float32", "options": {}}
    return {name: value for name, value in settings.items() if standard.get(name) != value}


def _made_with() -> dict[str, str]:
    """Versions at hand when a key was first stored; for people, not part of the key."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _MADE_WITH:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _clip_table(rows: Sequence[tuple[Clip, AudioFacts]]) -> pa.Table:
    rows = sorted(rows, key=lambda row: row[0].id)
    text, number, count = pa.string(), pa.float64(), pa.int64()
    columns: dict[str, pa.Array] = {
        "id": pa.array([clip.id for clip, _ in rows], text),
        "path": pa.array([str(Path(clip.path).absolute()) for clip, _ in rows], text),
        "emotion": pa.array([clip.emotion for clip, _ in rows], text),
        "speaker": pa.array([clip.speaker for clip, _ in rows], text),
        "text": pa.array([clip.text for clip, _ in rows], text),
        "fold": pa.array([clip.fold for clip, _ in rows], text),
        "seconds": pa.array([_none_for_nan(facts.seconds) for _, facts in rows], number),
        "audio": pa.array([facts.audio for _, facts in rows], text),
        "start": pa.array([clip.start for clip, _ in rows], number),
        "end": pa.array([clip.end for clip, _ in rows], number),
    }
    for name in sorted({name for clip, _ in rows for name in clip.extra}):
        column = f"extra_{name}" if name in columns or name in _STAMP_COLUMNS else name
        values = [clip.extra.get(name) for clip, _ in rows]
        columns[column] = pa.array([None if value is None else str(value) for value in values], text)
    for name in ("size", "mtime_ns", "ctime_ns"):
        values = [getattr(facts.stamp, name) if facts.stamp and facts.settled else None for _, facts in rows]
        columns[f"_{name}"] = pa.array(values, count)
    columns["_file_seconds"] = pa.array([_none_for_nan(facts.file_seconds) for _, facts in rows], number)
    return pa.table(columns)


def _none_for_nan(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file, opened with its checksums verified.

    By Arrow's own file and without its threads: threads that read through a Python file may outlive the interpreter,
    which then aborts or hangs at its end, now and then (github.com/apache/arrow issues 34314, 50482).
    """
    with pa.OSFile(str(path)) as file:
        yield pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False)


def _read_clip_table(path: Path) -> pa.Table:
    try:
        with _parquet(path) as reader:
            table = reader.read(use_threads=False)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise StoreError(
            f"The table {path} cannot be read ({_first_line(error)}). Delete the file and run `serfuse extract` again; "
            "the embeddings stay."
        ) from error
    lacking = [name for name in (*_CLIP_COLUMNS, *_STAMP_COLUMNS) if name not in table.column_names]
    if lacking:
        raise StoreError(f"The table {path} has no column {', '.join(lacking)}. Delete it and extract again.")
    return table


def _read_part(path: Path, key: EmbeddingKey, columns: list[str]) -> pa.Table:
    try:
        with _parquet(path) as reader:
            owner = (reader.schema_arrow.metadata or {}).get(_DIGEST_KEY, b"").decode()
            table = reader.read(columns=columns, use_threads=False)
        if any(table[name].null_count for name in columns):
            raise ValueError("it holds empty cells")
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise StoreError(
            f"The part {path} is damaged ({_first_line(error)}). Delete that file and run the same `serfuse extract` "
            "again: only the clips it held are computed anew."
        ) from error
    if owner != key.digest:
        raise StoreError(
            f"The part {path} holds embeddings of another kind ({owner or 'unknown'}, not {key.digest}). It does not "
            "belong into this folder; move it away."
        )
    return table


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _to_matrix(part: pa.Table) -> np.ndarray:
    size = part.schema.field("embedding").type.list_size
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in part["embedding"].chunks]
    return np.concatenate(chunks).reshape(-1, size) if chunks else np.empty((0, size), np.float32)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"The file {path} cannot be read ({_first_line(error)}). Delete it and run `serfuse extract` again."
        ) from error
    if not isinstance(data, dict):
        raise StoreError(f"The file {path} is damaged. Delete it and run `serfuse extract` again.")
    return data


def _read_key(path: Path) -> tuple[EmbeddingKey, int]:
    data = _read_json(path)
    try:
        key, vector_size = EmbeddingKey.from_dict(data["key"]), int(data["vector_size"])
    except (KeyError, TypeError, ValueError, StoreError) as error:
        raise StoreError(
            f"The file {path} is not a key that this version of serfuse knows ({_first_line(error)}). "
            f"Move the folder {path.parent} away, or use the version of serfuse that made it."
        ) from error
    if key.folder != path.parent.name:
        raise StoreError(
            f"The file {path} was changed, or its folder renamed: it describes {key.folder}. Move the folder "
            f"{path.parent} away and extract again."
        )
    return key, vector_size
