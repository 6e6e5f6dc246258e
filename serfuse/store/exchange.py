"""Embeddings out of a store into one file of another kind, and embeddings made elsewhere into it."""

import hashlib
import json
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..atomic_io import make_durable_folder, write_atomic, write_text
from ..encoders import ENCODERS
from ..errors import StoreError
from ..progress import Observer
from . import parquet, part_writing, rows
from .damage import first_line
from .key import EmbeddingKey
from .key_folder import NAME
from .part import one_array
from .store import EmbeddingStore

LABELS = ("id", "emotion", "speaker", "text", "fold", "seconds", "audio", "path", "start", "end")
IDS, VECTORS = ("id", "ids", "clip", "clips"), ("embedding", "embeddings", "vectors", "X")
_STEP_VALUES = 1 << 23  # of float32: 32 MB at a time
# What a file may hold once it is decompressed: embeddings hardly compress.
_FLOOR_BYTES, _MOST_RATIO = 1 << 26, 64


def export(
    store: EmbeddingStore, corpus: str, key: EmbeddingKey, out: str | Path, *, observer: Observer | None = None
) -> int:
    """Write labels and embeddings of a corpus into one file, or a Hugging Face dataset folder.

    Args:
        store: which.
        corpus: whose clips; those without an embedding are left out.
        key: which embeddings.
        out: a name that ends in `.parquet` (columns as `EmbeddingStore.clips` and `embedding`), in `.npz` (arrays
            `embedding` and the columns of text as arrays), or else a folder, which gets `README.md` and
            `data/train-00000-of-00001.parquet` and is what `datasets.load_dataset(FOLDER)` takes.
        observer: hears of the rows that are written.

    Returns:
        number of clips.

    Raises:
        StoreError: there are no embeddings, `out` is there already or cannot be written, or the store is damaged.
    """
    out = Path(out)
    if out.exists():
        raise StoreError(f"{out} is there already. Give another name, or move it away.")
    frame = store.clips(corpus)
    chosen = store.select(corpus, key)
    at = rows.numbers(pa.array(frame["id"], pa.large_string(), from_pandas=True), chosen.ids)
    frame, at = frame[at >= 0].reset_index(drop=True), at[at >= 0]
    if not len(at):
        raise StoreError(f"There is nothing to export: no clip of {corpus!r} has embeddings of {key.folder}.")
    observer = observer or Observer()
    try:
        make_durable_folder(out.parent)
        if out.suffix == ".npz":
            _write_npz(out, frame, chosen.matrix(at))
        elif out.suffix == ".parquet":
            _write_table(out, frame, chosen, at, key, observer)
        else:
            make_durable_folder(out / "data")
            _write_table(out / "data" / "train-00000-of-00001.parquet", frame, chosen, at, key, observer)
            write_text(out / "README.md", _card(corpus, key, len(at)))
    except OSError as error:
        raise StoreError(f"Cannot write {out}: {error.strerror or error}.") from error
    return len(at)


def _write_table(path: Path, frame: Any, chosen: Any, at: np.ndarray, key: EmbeddingKey, observer: Observer) -> None:
    labels = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    size = chosen.rows.size
    vector = part_writing.schema(size).field("embedding")
    about = {"serfuse.exported": json.dumps(key.to_dict(), sort_keys=True)}
    schema = pa.schema([*labels.schema, vector]).with_metadata(about)
    step = max(1, _STEP_VALUES // size)

    def write(file: Any) -> None:
        options = {"compression": "zstd", "write_page_checksum": True, "use_dictionary": labels.column_names}
        with pq.ParquetWriter(file, schema, **options) as writer, observer.working("exporting", len(at), "row"):
            for start in range(0, len(at), step):
                matrix = chosen.matrix(at[start : start + step])
                values = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), type=vector.type)
                some = labels.slice(start, len(matrix)).combine_chunks()
                writer.write_table(pa.Table.from_arrays([*some.columns, values], schema=schema))
                observer.advance(start + len(matrix))

    write_atomic(path, write)


def _write_npz(path: Path, frame: Any, matrix: np.ndarray) -> None:
    columns = {}
    for name in frame.columns:
        if frame[name].dtype.kind in "fiub":
            columns[name] = frame[name].to_numpy()
        else:
            columns[name] = np.array(["" if value != value or value is None else str(value) for value in frame[name]])
    write_atomic(path, lambda file: np.savez(file, embedding=matrix, **columns))


def _card(corpus: str, key: EmbeddingKey, count: int) -> str:
    return (
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n"
        "    path: data/train-*.parquet\n---\n\n"
        f"# {corpus}: embeddings\n\n{count} clips, exported by serfuse. How they were made:\n\n```json\n"
        f"{json.dumps(key.to_dict(), indent=2, sort_keys=True, ensure_ascii=False)}\n```\n"
    )


# --- import -----------------------------------------------------------------------------------------------------


def import_embeddings(
    store: EmbeddingStore,
    corpus: str,
    source: str | Path,
    name: str,
    *,
    ids: str | Path | None = None,
    made: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
) -> tuple[EmbeddingKey, int, list[str]]:
    """Take embeddings that were made elsewhere into a store, for clips that it knows.

    The key says that they were imported, and holds a hash of every id and number, so that other numbers under the same
    name are another kind. A row belongs to the audio that its clip has now.

    Args:
        store: which.
        corpus: whose clips they are of; `serfuse extract` with any encoder makes a corpus known.
        source: an `.npz` (arrays `id` and `embedding`), an `.npy` with `ids`, a Parquet file (columns `id` and
            `embedding`), or a Hugging Face dataset folder with such columns, in Parquet or Arrow files.
        name: what they are called from now on, as an encoder is; not the name of an encoder that serfuse has.
        ids: for an `.npy`: a text file with the id of each row on a line.
        made: what is known of their making, from the fields of a key: `pooling`, `layer`, `pad`, `sample_rate`,
            `dtype`, and `options` for anything else.
        observer: hears of the rows that are read.

    Returns:
        the key, the number of rows, and the clips of the corpus that have none.

    Raises:
        StoreError: the file cannot be read or is larger than it can honestly be, ids are repeated or not of the corpus,
            numbers are not finite, or the store cannot be written.
    """
    source = Path(source)
    if not NAME.fullmatch(name):
        raise StoreError(f"{name!r} cannot name embeddings: expected letters, digits, '.', '_' and '-'.")
    if name in ENCODERS:
        raise StoreError(
            f"{name!r} is an encoder of serfuse, and what was made elsewhere is not what it makes. Give another name, "
            f"for example {name}-imported."
        )
    observer = observer or Observer()
    clips = store.clips(corpus)
    known = pa.array(clips["id"], pa.large_string(), from_pandas=True)
    audio = clips["audio"].to_numpy(dtype=object)
    with _guarded(source):
        digest, count, every = _survey(source, ids)
    at = rows.numbers(pa.array(every, pa.large_string()), known)
    if len(set(every)) != len(every):
        raise StoreError(f"{source} has several rows for one clip. Each clip may have one.")
    if (at < 0).any():
        strange = [every[place] for place in np.flatnonzero(at < 0)[:5]]
        raise StoreError(
            f"{int((at < 0).sum())} of the {count} ids in {source} are not clips of corpus {corpus!r}: "
            f"{', '.join(map(repr, strange))}. Its ids look like {clips['id'].iloc[0]!r}; nothing is guessed."
        )
    mute = [every[place] for place, row in enumerate(at) if not isinstance(audio[row], str)]
    if mute:
        raise StoreError(f"The audio of {len(mute)} of these clips cannot be read, the first is {mute[0]!r}.")
    fields = {"pooling": "unknown", "sample_rate": 0, **(made or {})}
    if strange_fields := sorted(set(fields) - {"pooling", "layer", "pad", "sample_rate", "dtype", "options"}):
        raise StoreError(f"The making of imported embeddings cannot be told by {', '.join(strange_fields)}.")
    key = EmbeddingKey(name, weights=f"imported:{digest}", **fields)
    store.check_writable(corpus)
    done = 0
    with _guarded(source), observer.working("importing", count, "row"):
        for some, matrix in _batches(source, ids):
            place = at[done : done + len(some)]
            store.append(corpus, key, some, [audio[row] for row in place], matrix)
            done += len(some)
            observer.advance(done)
    store.compact(corpus, key)
    have = set(every)
    return key, count, [clip for clip in clips["id"] if clip not in have]


def _survey(source: Path, ids: str | Path | None) -> tuple[str, int, list[str]]:
    """A hash of everything, the number of rows, and all ids: before a row is stored, since the key needs the hash."""
    made, every, size = hashlib.sha256(), [], 0
    for some, matrix in _batches(source, ids):
        if matrix.ndim != 2 or not matrix.shape[1] or (size and matrix.shape[1] != size):
            raise ValueError(f"expected vectors of one length, received an array of shape {matrix.shape}")
        bad = ~np.isfinite(matrix).all(axis=1)
        if bad.any():
            raise ValueError(f"the embedding of clip {some[int(np.argmax(bad))]!r} holds values that are not finite")
        size = matrix.shape[1]
        every += some
        made.update("\0".join(some).encode() + b"\0")
        made.update(np.ascontiguousarray(matrix, "<f4"))
    if not every:
        raise ValueError("it holds no rows")
    return made.hexdigest(), len(every), every


def _batches(source: Path, ids: str | Path | None) -> Iterator[tuple[list[str], np.ndarray]]:
    """Ids and vectors of a source, some rows at a time."""
    if source.is_dir():
        files = sorted([*source.rglob("*.parquet"), *source.rglob("*.arrow")])
        if not files:
            raise ValueError("the folder holds neither Parquet nor Arrow files")
        for file in files:
            yield from _parquet(file) if file.suffix == ".parquet" else _arrow(file)
    elif source.suffix == ".npz":
        yield from _npz(source)
    elif source.suffix == ".npy":
        if ids is None:
            raise ValueError("an .npy file has no ids; give a text file with one per line (--ids FILE)")
        names = Path(ids).read_text(encoding="utf-8").splitlines()
        yield from _sliced(names, np.load(source, mmap_mode="r", allow_pickle=False))
    elif source.suffix in (".parquet", ".pq"):
        yield from _parquet(source)
    else:
        raise ValueError("its kind is unknown; expected .npz, .npy, .parquet or a Hugging Face dataset folder")


def _sliced(names: Sequence[str], matrix: np.ndarray) -> Iterator[tuple[list[str], np.ndarray]]:
    if matrix.ndim != 2 or len(matrix) != len(names):
        raise ValueError(f"expected a row for each of the {len(names)} ids, received shape {matrix.shape}")
    if matrix.dtype.kind != "f":
        raise ValueError(f"expected numbers with a fraction, received {matrix.dtype}")
    step = max(1, _STEP_VALUES // max(1, matrix.shape[1]))
    for start in range(0, len(names), step):
        yield list(names[start : start + step]), _float32(matrix[start : start + step])


def _npz(source: Path) -> Iterator[tuple[list[str], np.ndarray]]:
    most = _FLOOR_BYTES + _MOST_RATIO * source.stat().st_size
    with zipfile.ZipFile(source) as members:
        claimed = sum(member.file_size for member in members.infolist())
    if claimed > most:
        raise ValueError(f"it claims {claimed >> 20} MB, more than {most >> 20} MB")
    _check_arrays(source)
    with np.load(source, allow_pickle=False) as arrays:
        names = arrays[_one_of(IDS, arrays.files)]
        if names.dtype.kind not in "US" or names.ndim != 1:
            raise ValueError(f"expected ids as text, received {names.dtype} of shape {names.shape}")
        texts = [name.decode() if isinstance(name, bytes) else str(name) for name in names.tolist()]
        yield from _sliced(texts, arrays[_one_of(VECTORS, arrays.files)])


def _check_arrays(source: Path) -> None:
    """Refuse an `.npz` whose arrays claim other bytes than they have: NumPy would make room for them first."""
    with zipfile.ZipFile(source) as members:
        for member in members.infolist():
            if not member.filename.endswith(".npy"):
                continue
            with members.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
                claimed, held = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
            if not dtype.hasobject and claimed != held:
                raise ValueError(
                    f"its array {member.filename.removesuffix('.npy')!r} claims {claimed} bytes ({dtype} of shape "
                    f"{shape}) and has {held}"
                )


def _parquet(source: Path) -> Iterator[tuple[list[str], np.ndarray]]:
    with parquet.opened(source, buffer_size=1 << 20) as reader:
        most = _FLOOR_BYTES + _MOST_RATIO * source.stat().st_size
        names = reader.schema_arrow.names
        columns = [_one_of(IDS, names), _one_of(VECTORS, names)]
        kind = reader.schema_arrow.field(columns[1]).type
        length = kind.list_size if pa.types.is_fixed_size_list(kind) else 1
        claimed = parquet.decoded_bytes(reader.metadata) + 4 * reader.metadata.num_rows * length
        if claimed > most:
            raise ValueError(f"it claims {claimed >> 20} MB, more than {most >> 20} MB")
        parquet.table(source, columns[:1], most, sealed=False)
        for batch in reader.iter_batches(batch_size=2048, columns=columns, use_threads=False):
            yield _of_batch(batch, columns)


def _arrow(source: Path) -> Iterator[tuple[list[str], np.ndarray]]:
    with pa.memory_map(str(source)) as file:
        try:
            batches: Iterable[pa.RecordBatch] = pa.ipc.open_stream(file)
        except pa.ArrowInvalid:
            whole = pa.ipc.open_file(file)
            batches = (whole.get_batch(number) for number in range(whole.num_record_batches))
        for batch in batches:
            batch.validate(full=True)
            columns = [_one_of(IDS, batch.schema.names), _one_of(VECTORS, batch.schema.names)]
            yield _of_batch(batch, columns)


def _of_batch(batch: pa.RecordBatch, columns: Sequence[str]) -> tuple[list[str], np.ndarray]:
    ids, vectors = (batch.column(batch.schema.get_field_index(name)) for name in columns)
    if ids.null_count or vectors.null_count or not len(ids):
        raise ValueError("it holds empty cells" if len(ids) else "it holds no rows")
    flat = vectors.flatten()
    if not pa.types.is_floating(flat.type) or flat.null_count or len(flat) % len(ids):
        raise ValueError(f"expected lists of numbers of one length, received {vectors.type}")
    lengths = {len(flat) // len(ids)}
    if not pa.types.is_fixed_size_list(vectors.type):
        lengths |= set(np.unique(pc.list_value_length(vectors).to_numpy(zero_copy_only=False)).tolist())
    if len(lengths) > 1:
        raise ValueError("its vectors differ in length")
    names = one_array(pa.chunked_array([ids])).to_pylist()
    matrix = flat.to_numpy(zero_copy_only=False).reshape(len(ids), -1)
    return names, _float32(matrix)


def _float32(matrix: np.ndarray) -> np.ndarray:
    """The same in float32; what is too large for it becomes infinite, which is refused as any infinite number is."""
    with np.errstate(over="ignore"):
        return np.asarray(matrix, np.float32)


def _one_of(names: Sequence[str], there: Sequence[str]) -> str:
    found = [name for name in names if name in there]
    if len(found) != 1:
        raise ValueError(f"expected just one of {', '.join(names)}, received {', '.join(there)}")
    return found[0]


@contextmanager
def _guarded(source: Path) -> Iterator[None]:
    try:
        yield
    except (StoreError, MemoryError):
        raise
    except Exception as error:  # every library has its own errors for a file that it cannot read
        raise StoreError(f"{source} cannot be imported: {first_line(error)}.") from error
