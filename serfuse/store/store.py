"""The embedding store: what was extracted once is never computed again, and never mixed up.

On disk, under the root (`$SERFUSE_STORE`, else `./serfuse-store`)::

    <corpus>/corpus.json                       what the corpus is, in words
    <corpus>/clips.parquet                     one row per clip: labels, and the content hash of its audio
    <corpus>/.claims                           who computes what just now (`serfuse.claims`); empty
    <corpus>/looked-*.json                     hashes of files, until clips.parquet has them
    <corpus>/heard.json                        what decoding told: digests of samples, remarks on quality
    <corpus>/<encoder>-<digest>/key.json       how these embeddings were made
    <corpus>/<encoder>-<digest>/part-*.parquet columns id, audio, embedding (fixed-size list of float32)
    <corpus>/<encoder>-<digest>/skipped.json   clips that this encoder cannot use, with the reason

A row belongs to a clip *and* to the audio it was computed from: when a file changes, its old rows no longer count.
Every file is written whole or not at all, parts have unique names, and when two processes stored the same row twice,
either is right. A damaged part is an error that names the file: nothing is guessed.
"""

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..claims import Claims
from ..corpora.base import Corpus
from ..encoders import ENCODERS, canonical
from ..errors import StoreError, StoreWriteError, WriteError
from ..progress import Observer
from ..registry import unknown_name
from . import clip_table, heard, json_file, looked, selection
from .arrivals import Arrivals
from .damage import repair_command
from .files import StorePath, beside, locked, make_folder, place, remove_stale, write_text
from .heard import Heard
from .key import EmbeddingKey
from .key_folder import KEY_FILE, NAME, KeyFolder, read_key
from .part import Part, one_array
from .records import AudioFacts, FileStamp, Skipped
from .rows import numbers, select

CLIPS = "clips.parquet"
CLAIMS = ".claims"
_TRIES = 50


def default_root() -> StorePath:
    """`$SERFUSE_STORE`, else `serfuse-store` in the working folder.

    Raises:
        StoreError: the variable holds an address that cannot be used, or `memory://`, as for `--store`.
    """
    root = os.environ.get("SERFUSE_STORE") or "serfuse-store"
    if root.startswith("memory://"):
        raise StoreError(
            f"The variable SERFUSE_STORE is {root}, which is in the memory of this process and gone when it ends. Give "
            "a folder, or an address such as s3://BUCKET/PREFIX. (In Python, serfuse.Store takes memory://.)"
        )
    return place(root)


@contextmanager
def _writing() -> Iterator[None]:
    """Say of what cannot be written that it is the store."""
    try:
        yield
    except StoreWriteError:
        raise
    except WriteError as error:
        raise StoreWriteError(error.path, error.reason, full=error.full) from error


class EmbeddingStore:
    """Labels and embeddings of corpora, on disk or in a storage of objects.

    Args:
        root: folder, created on the first write, or an address that fsspec knows (`s3://bucket/prefix`); by default
            `default_root()`.

    Raises:
        StoreError: the address cannot be used, or the library for it is missing.
    """

    def __init__(self, root: str | StorePath | None = None) -> None:
        self.root = place(root) if root else default_root()

    @classmethod
    def of(cls, store: "EmbeddingStore | StorePath | str") -> "EmbeddingStore":
        """The store itself, or the one in a folder: what functions take that are given either."""
        return store if isinstance(store, cls) else cls(store)

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

    @_writing()
    def check_writable(self, corpus: str) -> None:
        """Create the folder of `corpus` and prove that it can be written; call it before any long computation.

        Raises:
            StoreError: a name that cannot be a folder's, or a store that cannot be written.
        """
        folder = self._folder(corpus)
        make_folder(folder)
        for left in (folder, *(path.parent for path in folder.glob(f"*/{KEY_FILE}"))):
            remove_stale(left)

    @_writing()
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
            repeated = sorted(name for name, count in Counter(ids).items() if count > 1)[:5]
            raise StoreError(f"Clip ids of corpus {corpus.name!r} are not unique: {', '.join(repeated)} ...")
        missing = [name for name in ids if name not in rows]
        if missing:
            raise StoreError(f"No audio facts were given for {len(missing)} clips, the first is {missing[0]!r}.")
        folder = self._folder(corpus.name)
        make_folder(folder)
        table = clip_table.make([(clip, rows[clip.id]) for clip in corpus.clips])
        with locked(folder):
            remove_stale(folder)
            path, where = folder / CLIPS, folder / "corpus.json"
            if where.exists():
                self._info(corpus.name)  # damaged, or of a later version: nothing is written over it
            old = None
            if path.exists():
                old = table if clip_table.holds(path, table) else clip_table.read(path)
            if old is not None and old is not table:
                kept = self._other_clips(corpus, old, table, source, complete)
                if not complete and kept.num_rows:
                    table = pa.concat_tables([kept, table], promote_options="default")
                    table = table.sort_by("id")
            info = {
                "name": corpus.name,
                "speaker_kind": corpus.speaker_kind,
                "synthetic": corpus.synthetic,
                "warnings": list(corpus.warnings),
                "clips": table.num_rows,
                "source": dict(source or {}),
            }
            text = json_file.text(info)
            changed = not where.exists() or where.read_text(encoding="utf-8") != text
            if changed or old is None or not table.equals(old):
                clip_table.write(path, table, text)
            if changed:
                write_text(where, text)
            looked.forget(folder, lambda: clip_table.files(table))

    def _other_clips(
        self, corpus: Corpus, old: pa.Table, new: pa.Table, source: Mapping[str, Any] | None, complete: bool
    ) -> pa.Table:
        """Rows of the table on disk that `corpus` does not have; an error when that table is of another corpus."""
        info = self.root / corpus.name / "corpus.json"
        before = (self._info(corpus.name).get("source") or {}).get("data") if info.exists() else None
        now = (source or {}).get("data")
        if old.num_rows and new.num_rows and (problem := _difference(old, new, before, now, complete)):
            raise StoreError(
                f"The store {self.root} already holds a corpus called {corpus.name!r} with {old.num_rows} clips (read "
                f"from {before or 'another place'}), and {now or 'the new one'} is another one: {problem}. Give this "
                "one another name (--name NAME) or another store (--store FOLDER)."
            )
        return old.filter(pc.invert(pc.is_in(old["id"], value_set=new["id"])))

    def corpus_info(self, corpus: str) -> dict[str, Any]:
        """What was recorded of a corpus: name, speaker_kind, synthetic, warnings, clips (count), source.

        Raises:
            StoreError: there is no such corpus (the message lists those there are), or its file is damaged.
        """
        self._existing(corpus)
        return self._info(corpus)

    def _info(self, corpus: str) -> dict[str, Any]:
        command = repair_command(self.root)
        cure = f"Mend it with `{command}`, or Delete it and run `serfuse extract` again."
        return json_file.read(self._folder(corpus) / "corpus.json", cure)

    def clips(self, corpus: str) -> pd.DataFrame:
        """One row per clip, sorted by id.

        Returns:
            columns `id, path, emotion, speaker, text, fold, seconds, audio, start, end` and the corpus' own extra
            ones. Missing values are NaN; `audio` is missing for files that cannot be read. Where clips were decoded,
            `sound` holds the digest of their samples.

        Raises:
            StoreError: there is no such corpus, or its table is damaged.
        """
        return self._frame(corpus, self._clip_table(corpus))

    def _frame(self, corpus: str, table: pa.Table) -> pd.DataFrame:
        audio, sound = heard.sounds(self._existing(corpus) / heard.NAME)
        if len(audio):
            names = ["extra_sound" if name == "sound" else name for name in table.column_names]
            heard_of = sound.take(pc.index_in(table["audio"].cast(pa.large_string()), value_set=audio))
            table = table.rename_columns(names).append_column("sound", heard_of)
        return table.to_pandas()

    def known_files(self, corpus: str) -> dict[str, tuple[FileStamp, str, float]]:
        """Files hashed before: `{path: (stamp, content hash, seconds)}`. Empty for an unknown corpus.

        Raises:
            StoreError: the table of clips is damaged.
        """
        folder = self._folder(corpus)
        found: looked.Files = {}
        if (folder / "corpus.json").is_file() and (folder / CLIPS).exists():
            columns = ["path", "audio", *clip_table.STAMP_COLUMNS]
            found = clip_table.files(clip_table.read(self._existing(corpus) / CLIPS, columns))
        for path, about in looked.read(folder).items():
            if path not in found or about[0].ctime_ns > found[path][0].ctime_ns:
                found[path] = about
        return found

    @_writing()
    def record_files(self, corpus: str, files: Mapping[str, tuple[FileStamp, str, float]]) -> None:
        """Keep what looking at files has told, before the whole corpus is known; `known_files` gives it back.

        Args:
            corpus: its name; it need not be there yet.
            files: `{path: (stamp, content hash, seconds)}`, of stamps that can be trusted later on.

        Raises:
            StoreError: the store cannot be written.
        """
        folder = self._folder(corpus)
        make_folder(folder)
        looked.write(folder, files)

    def heard(self, corpus: str) -> dict[str, Heard]:
        """What decoding told of the audio of a corpus, by its identity (`AudioFacts.audio`).

        Raises:
            StoreError: there is no such corpus, or the record is damaged.
        """
        return heard.read(self._existing(corpus) / heard.NAME)

    def remarked(self, corpus: str) -> dict[str, Heard]:
        """As `heard`, of the audio that has remarks: a few, where all would take much memory.

        Raises:
            StoreError: there is no such corpus, or the record is damaged.
        """
        return {audio: item for audio, item in heard.each(self._existing(corpus) / heard.NAME) if item.remarks}

    def record_heard(self, corpus: str, items: Mapping[str, Heard]) -> None:
        """Add to what is known of a corpus' audio. What belongs to none of its clips any more is forgotten.

        Raises:
            StoreError: the store cannot be written.
        """
        folder = self._existing(corpus)
        with locked(folder):
            current = clip_table.read(folder / CLIPS, ["audio"])["audio"]

            def others(some: Mapping[str, Heard]) -> set[str]:
                there = pc.is_in(pa.array(some, pa.string()), value_set=current).to_numpy(zero_copy_only=False)
                return {audio for audio, is_there in zip(some, there, strict=True) if not is_there}

            known = heard.read(folder / heard.NAME)
            strange, gone = others(items), others(known)
            changed = {audio for audio, item in items.items() if audio not in strange and known.get(audio) != item}
            if gone or changed:
                known.update((audio, items[audio]) for audio in changed)
                for audio in gone:
                    del known[audio]
                heard.write(folder / heard.NAME, known)

    # --- embeddings ---------------------------------------------------------------------------------------------

    def keys(self, corpus: str, *, empty: bool = False) -> list[EmbeddingKey]:
        """The kinds of embeddings that hold at least one row, sorted by folder name.

        Args:
            corpus: name of the corpus.
            empty: also those that hold none: damage took them, or a process ended before the first was stored.

        Raises:
            StoreError: there is no such corpus, or a key file is damaged.
        """
        folder = self._existing(corpus)
        return [
            read_key(path)[0]
            for path in sorted(folder.glob("*/key.json"))
            if empty or any(path.parent.glob("part-*.parquet"))
        ]

    def find(self, corpus: str, encoder: str, **constraints: Any) -> EmbeddingKey:
        """The one kind of embeddings of `encoder` that fits.

        Args:
            encoder: a registry name, or the full name of one kind as messages show it ("hubert-1a2b3c4d5e6f").
            constraints: fields of `EmbeddingKey` and their values; `None` does not constrain. `weights="random"` and
                `pad="max"` fit every seed and length; `options` needs to hold the given ones. `layer="all"` (every
                numbered layer that is there) and `layer="0+6+9"` give the key of those layers used together.

        Raises:
            StoreError: none fits, or several; the message lists them and the command that makes what is missing.
            UnknownNameError: the store holds none of that name and `serfuse extract` knows no such encoder.
        """
        wanted = {name: value for name, value in constraints.items() if value is not None}
        unknown = sorted(set(wanted) - set(EmbeddingKey.__dataclass_fields__))
        if unknown:
            raise StoreError(
                f"Embeddings cannot be chosen by {', '.join(unknown)}. Choose by: "
                f"{', '.join(EmbeddingKey.__dataclass_fields__)}."
            )
        keys = self.keys(corpus)
        encoder = canonical(encoder)
        named = [key for key in keys if key.folder == encoder]
        keys = named or [key for key in keys if key.encoder == encoder]
        if selection.several_layers(layer := str(wanted.get("layer"))):
            others = {name: value for name, value in wanted.items() if name != "layer"}
            single = [key for key in keys if all(selection.fits(key, name, value) for name, value in others.items())]
            if together := selection.joint(single, layer):
                keys, wanted = together, others
        fitting = [key for key in keys if all(selection.fits(key, name, value) for name, value in wanted.items())]
        current = [key for key in fitting if named or key.current]
        if len(current) == 1:
            return current[0]
        asked = encoder + "".join(f", {name} {value}" for name, value in wanted.items())
        if current:
            raise StoreError(
                f"The store {self.root} holds several embeddings of corpus {corpus!r} that fit {asked}:\n"
                + "\n".join(f"  {key.describe()}" for key in current)
                + (
                    f"\nSay more about it (for example {selection.difference(encoder, current, layer)})."
                    if current[0].joint
                    else f"\nName one in full (for example {current[0].folder}), or say more about it (for example "
                    f"{selection.difference(encoder, current)})."
                )
            )
        held = keys or self.keys(corpus)
        if not keys and encoder not in ENCODERS:
            raise unknown_name("encoder", encoder, dict.fromkeys(key.encoder for key in held) or ENCODERS)
        if layer not in ("None", "last") and encoder in ENCODERS:
            preset = ENCODERS.get(encoder).preset
            if preset.vector_size and not preset.layers:  # of a checkpoint that is not here neither is known
                raise StoreError(f"{encoder} has no layers to choose from, so layer={layer} names nothing.")
        listing = "\n".join(f"  {key.describe()}" for key in held)
        raise StoreError(
            f"The store {self.root} holds no embeddings of corpus {corpus!r} that fit {asked}. "
            + (f"It holds:\n{listing}\n" if held else "It holds none at all. ")
            + f"Make them with: {self.command(corpus, encoder, wanted)}"
        )

    def command(self, corpus: str, encoder: str, settings: Mapping[str, Any] | None = None) -> str:
        """The `serfuse extract` command that makes embeddings, as far as the store knows it.

        Where `settings` leave the pooling open, and all embeddings that the corpus has are of one pooling, it is taken:
        `serfuse cv` fuses embeddings of one pooling.
        """
        if str((settings or {}).get("weights", "")).startswith("imported:"):
            words = ["serfuse", "store", "import", "FILE", "--corpus", corpus, "--name", encoder]
            return shlex.join([*words, "--store", str(self.root)])
        source = self.corpus_info(corpus).get("source", {})
        settings = {**self._usual_pooling(corpus), **(settings or {})}
        words = ["serfuse", "extract", "--corpus", source.get("corpus", corpus), "--data", source.get("data", "DIR")]
        if source.get("name"):
            words += ["--name", source["name"]]
        return shlex.join([*selection.command(words, encoder, settings), "--store", str(self.root)])

    def _usual_pooling(self, corpus: str) -> dict[str, Any]:
        """The one pooling of all embeddings that were extracted of a corpus, where it is not the default."""
        try:
            extracted = [key for key in self.keys(corpus) if not key.weights.startswith("imported:")]
        except StoreError:  # a damaged key: what else is said must not depend on it
            return {}
        poolings = {key.pooling for key in extracted}
        return {"pooling": poolings.pop()} if len(poolings) == 1 and "time" not in poolings else {}

    def present(self, corpus: str, key: EmbeddingKey) -> dict[str, str]:
        """The clips that have a row, and of which audio: `{clip id: audio identity}`.

        A clip with rows of several versions of its audio shows the version that is in the clips table, if it has that.

        Raises:
            StoreError: a part is damaged.
        """
        current = self._audio(corpus)
        found: dict[str, str] = {}
        for ids, audio in self._of(corpus, key).texts():
            for clip, of in zip(ids.to_pylist(), audio.to_pylist(), strict=True):
                if found.get(clip) is None or found[clip] != current.get(clip):
                    found[clip] = of
        return found

    def arrivals(self, corpus: str, key: EmbeddingKey) -> Arrivals:
        """Tells which clips have a row, and later which have got one meanwhile, from whichever process."""
        return Arrivals(self._of(corpus, key))

    @_writing()
    def claims(self, corpus: str) -> Claims:
        """What the processes that fill this corpus tell each other: who computes what just now.

        Raises:
            StoreError: the store cannot be written.
        """
        folder = self._folder(corpus)
        make_folder(folder)
        return Claims(beside(folder) / CLAIMS)

    @_writing()
    def append(
        self, corpus: str, key: EmbeddingKey, ids: Sequence[str], hashes: Sequence[str], matrix: np.ndarray
    ) -> None:
        """Store rows durably: when it returns they survive a crash, when it raises nothing has changed.

        Args:
            corpus: name of the corpus.
            key: what the embeddings are.
            ids: clip ids, each once.
            hashes: the audio identity each row was computed from.
            matrix: finite, shape `(len(ids), D)`; stored as float32. D is the same for all rows of a key.

        Raises:
            StoreError: shapes that do not fit, numbers that are not finite, or a store that cannot be written.
        """
        self._of(corpus, key).append(ids, hashes, matrix)

    @_writing()
    def compact(self, corpus: str, key: EmbeddingKey, observer: Observer | None = None) -> None:
        """Bring all rows of a key into one part of the present format, in memory that does not grow with their number.

        Parts are removed only after a durable part holds their rows, so this is safe beside other writers, and
        beside another compaction.

        Args:
            observer: hears of the rows that are written.

        Raises:
            StoreError: a part is damaged, or the store cannot be written.
        """
        self._of(corpus, key).compact(observer)

    def load(self, corpus: str, key: EmbeddingKey) -> tuple[list[str], np.ndarray]:
        """Embeddings of the clips in the table, as their audio is now.

        Returns:
            clip ids, sorted, and their vectors, float32, shape `(N, D)`.

        Raises:
            StoreError: there are none, or a part is damaged.
        """
        return self._steadily(lambda: self._load(EmbeddingStore._choose(self, corpus, key), corpus, key))

    def _load(self, found: "Chosen", corpus: str, key: EmbeddingKey) -> tuple[list[str], np.ndarray]:
        if not len(found.ids):
            raise StoreError(
                f"The store {self.root} holds no embedding of {key.folder} that belongs to the present audio of "
                f"corpus {corpus!r}. Make them with: {self.command(corpus, key.encoder, selection.settings_of(key))}"
            )
        return found.ids.to_pylist(), found.matrix()

    def select(self, corpus: str, key: EmbeddingKey) -> "Chosen":
        """The clips that have an embedding of their present audio, whose vectors are not read yet.

        Raises:
            StoreError: there is no such corpus, or a part is damaged.
        """
        return self._choose(corpus, key)

    def _choose(
        self, corpus: str, key: EmbeddingKey, table: pa.Table | None = None, parts: Sequence[Part] | None = None
    ) -> "Chosen":
        if table is None:
            table = clip_table.read(self._existing(corpus) / CLIPS, ["id", "audio"])
        of = table["id"], table["audio"]
        rows, ids = self._of(corpus, key).select(*of) if parts is None else select(parts, *of)
        return Chosen(ids, rows)

    def _ahead(self, corpus: str, key: EmbeddingKey, clips: int, pool: Executor) -> Sequence[Part]:
        """The parts of a key for `_choose`, of which is begun what can be without the table of clips."""
        return self._of(corpus, key).ahead(clips, pool)

    def _steadily(self, read: Callable[[], Any]) -> Any:
        """What `read` gives, which is tried again where a compaction beside has taken parts away."""
        for _ in range(_TRIES):
            try:
                return read()
            except FileNotFoundError:
                continue
        raise StoreError(f"The parts in {self.root} keep changing while they are read. Wait for the other process.")

    def look_up(self, corpus: str, key: EmbeddingKey, clips: Sequence[str]) -> np.ndarray:
        """Embeddings of some clips, without reading those of the others.

        Args:
            clips: their ids, in any order.

        Returns:
            float32, shape `(len(clips), D)`.

        Raises:
            StoreError: a clip has no embedding of its present audio, or a part is damaged.
        """

        def read() -> np.ndarray:
            table = clip_table.read(self._existing(corpus) / CLIPS, ["id", "audio"])
            wanted = pc.is_in(table["id"], value_set=pa.array(clips, pa.string()))
            found = self._choose(corpus, key, table.filter(wanted))
            at = numbers(pa.array(clips, pa.large_string()), found.ids)
            if (at < 0).any():
                lacking = [clips[place] for place in np.flatnonzero(at < 0)[:5]]
                raise StoreError(
                    f"{int((at < 0).sum())} of the {len(clips)} clips have no embedding of {key.folder}: "
                    f"{', '.join(lacking)}. Make them with: "
                    f"{self.command(corpus, key.encoder, selection.settings_of(key))}"
                )
            return found.matrix(at)

        return self._steadily(read)

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
        return self._steadily(lambda: self._join(corpus, keys, missing))

    def _join(
        self, corpus: str, keys: Mapping[str, EmbeddingKey], missing: str
    ) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
        self._existing(corpus)
        count = 0
        with suppress(StoreError):  # only to know what is worth beginning with
            count = self._info(corpus).get("clips")
        # The labels of a million clips are read and made while their vectors are verified, one kind after the other.
        with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as making:
            parts = {name: self._ahead(corpus, key, count, reading) for name, key in keys.items()}
            table = self._clip_table(corpus)
            coming = making.submit(self._frame, corpus, table)
            kept, dropped, matrices = self._matrices(corpus, keys, table, missing, parts)
            clips = coming.result()
        if not kept.all():
            clips = clips[kept].reset_index(drop=True)
        clips.attrs["dropped"] = dropped
        return clips, matrices

    def _matrices(
        self,
        corpus: str,
        keys: Mapping[str, EmbeddingKey],
        table: pa.Table,
        missing: str,
        parts: Mapping[str, Sequence[Part]],
    ) -> tuple[np.ndarray, list[dict[str, str]], dict[str, np.ndarray]]:
        """Which clips of the table every key has, what is to be said of the others, and the vectors by key."""
        every = one_array(table["id"])
        whole = pa.table({"id": pa.chunked_array([every]), "audio": table["audio"]})  # put together once for all kinds
        found = {name: self._choose(corpus, key, whole, parts[name]) for name, key in keys.items()}
        place = {name: numbers(every, chosen.ids) for name, chosen in found.items()}
        dropped: list[dict[str, str]] = []
        unexplained: dict[str, list[str]] = {}
        kept = np.ones(len(every), bool)
        for name, at in place.items():
            if (at >= 0).all():
                continue
            kept &= at >= 0
            reasons = {item.clip: item.reason for item in self.skipped(corpus, keys[name])}
            for clip in every.filter(pa.array(at < 0)).to_pylist():
                dropped.append({"clip": clip, "name": name, "reason": reasons.get(clip, "not extracted")})
                if clip not in reasons:
                    unexplained.setdefault(name, []).append(clip)
        if unexplained and missing == "error":
            lines = [
                f"  {keys[name].folder} lacks {len(lacking)}: {', '.join(lacking[:5])}"
                + (" ..." if len(lacking) > 5 else "")
                + f"\n    {self.command(corpus, keys[name].encoder, selection.settings_of(keys[name]))}"
                for name, lacking in unexplained.items()
            ]
            raise StoreError(
                f"Not every one of the {len(every)} clips of corpus {corpus!r} has its embeddings. Extract the rest "
                "(--skip-bad leaves out clips that cannot be used):\n" + "\n".join(lines)
            )
        if not kept.any():
            raise StoreError(f"No clip of corpus {corpus!r} has embeddings of all of: {', '.join(keys)}.")
        return kept, dropped, {name: chosen.matrix(place[name][kept]) for name, chosen in found.items()}

    # --- skipped clips ------------------------------------------------------------------------------------------

    def skipped(self, corpus: str, key: EmbeddingKey) -> list[Skipped]:
        """Clips recorded as unusable by this encoder, as long as their audio is unchanged."""
        items = self._of(corpus, key).skipped()
        current = self._audio(corpus) if items else {}
        return [item for item in items if item.clip in current and current[item.clip] == item.audio]

    @_writing()
    def record_skipped(self, corpus: str, key: EmbeddingKey, items: Sequence[Skipped]) -> None:
        """Replace the record of skipped clips.

        Raises:
            StoreError: the store cannot be written.
        """
        self._of(corpus, key).record_skipped(items)

    # --- the files ----------------------------------------------------------------------------------------------

    def size(self, corpus: str, key: EmbeddingKey) -> tuple[int, int]:
        """Length of its vectors, and bytes on disk of a key."""
        return self._of(corpus, key).size()

    def _of(self, corpus: str, key: EmbeddingKey) -> KeyFolder:
        return KeyFolder(self._folder(corpus) / key.folder, key)

    def _folder(self, corpus: str) -> StorePath:
        if not NAME.fullmatch(corpus):
            raise StoreError(
                f"{corpus!r} cannot name a corpus: expected letters, digits, '.', '_' and '-', starting with a letter "
                "or digit. Give another name (--name NAME)."
            )
        return self.root / corpus

    def _existing(self, corpus: str) -> StorePath:
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
        return clip_table.read(self._existing(corpus) / CLIPS, stamps=False)

    def _audio(self, corpus: str) -> dict[str, str | None]:
        table = self._clip_table(corpus)
        return dict(zip(table["id"].to_pylist(), table["audio"].to_pylist(), strict=True))


@dataclass(frozen=True)
class Chosen:
    """Clips that have an embedding.

    Attributes:
        ids: of the clips, ascending, large strings.
        rows: where their vectors are, a `Selection`, or whatever has its `matrix`.
    """

    ids: pa.Array
    rows: Any

    def matrix(self, which: np.ndarray | None = None) -> np.ndarray:
        """The vectors at some places of `ids` (`None`: all), float32, shape `(len(which), D)`.

        Raises:
            StoreError: a part is damaged.
            FileNotFoundError: a compaction has taken a part away meanwhile: choose again.
        """
        return self.rows.matrix(which)


def _difference(old: pa.Table, new: pa.Table, before: str | None, now: str | None, complete: bool) -> str:
    """In what a table of clips differs from the one under the same name so that it cannot take its place; "" if not.

    A corpus that is read from the same place may have changed in any way. One from elsewhere may be the same corpus,
    moved: then it says the same of every clip that both have, and has every clip that the store has.

    Args:
        old: the table in the store.
        new: the one that is given.
        before: where the first was read from, `None` where that is not known.
        now: where the second was read from.
        complete: `new` is a whole corpus, not a part of one.
    """
    if before and before == now:
        return ""
    if not pc.any(pc.is_in(old["id"], value_set=new["id"])).as_py():
        return "the two have no clip in common"
    if not (before and now):  # nothing says whether this is the same place: only a wholly other corpus is told
        return ""
    there, given = (dict(zip(table["id"].to_pylist(), table["audio"].to_pylist(), strict=True)) for table in (old, new))
    common = there.keys() & given.keys()
    sound = sorted(name for name in common if None not in (there[name], given[name]) and there[name] != given[name])
    if sound:
        return f"{len(sound)} of the {len(common)} clips that both have sound different (the first is {sound[0]!r})"
    for column in ("emotion", "speaker"):
        one, other = (
            dict(zip(table["id"].to_pylist(), table[column].to_pylist(), strict=True)) for table in (old, new)
        )
        unlike = sorted(name for name in common if one[name] != other[name])
        if unlike:
            said = f"{one[unlike[0]]} and {other[unlike[0]]}"
            return f"{len(unlike)} of the {len(common)} clips that both have differ in {column} ({unlike[0]!r}: {said})"
    lost, gained = there.keys() - given.keys(), given.keys() - there.keys()
    if lost and (complete or gained):
        return f"{len(lost)} clips of the store are not in it (the first is {min(lost)!r})"
    return ""
