"""A part is Parquet for anybody, no wrong byte of it goes unnoticed, and no file claims what it cannot hold."""

import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from store_rows import COMPATIBLE, KEY, corpus_of, facts_of, fill, parts_of

from serfuse.errors import StoreError
from serfuse.store import AudioFacts, DamageError, EmbeddingStore, Skipped, blocks, files, part_writing
from serfuse.store.part import Part


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(tmp_path / "store")


@pytest.mark.parametrize(("count", "size"), [(1, 1), (5, 1), (7, 3), (300, 251), (12_000, 768)])
def test_other_readers_find_the_same_rows(store: EmbeddingStore, count: int, size: int) -> None:
    """One row group and several, with checksums that Arrow verifies."""
    matrix = fill(store, count, size, parts=min(count, 3))
    store.compact("c", KEY)
    (part,) = parts_of(store)
    read = pq.ParquetFile(part, page_checksum_verification=True).read()
    assert read.schema.field("embedding").type.list_size == size and read["id"].to_pylist()[0] == "k000000"
    np.testing.assert_array_equal(read["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, size), matrix)
    if count <= 300:
        frame = pd.read_parquet(part)
        np.testing.assert_array_equal(np.stack(frame["embedding"]), matrix)
        assert list(frame["audio"]) == [f"{name}-1" for name in frame["id"]]


@pytest.mark.slow
def test_many_rows_are_mapped_in_order_and_read_in_any_other(store: EmbeddingStore) -> None:
    """25,000 rows of 768 values in three row groups: 77 MB."""
    matrix = fill(store, 25_000, 768, parts=2)
    before = store.load("c", KEY)[1]  # of parts that are in no order
    store.compact("c", KEY)
    ids, mapped = store.load("c", KEY)
    assert mapped.tobytes() == before.tobytes() == matrix.tobytes()
    # A join verifies them ahead, and hands over what is the caller's alone.
    twice = store.join("c", {"a": KEY, "b": KEY})[1]
    twice["a"][:] = 0
    assert twice["b"].tobytes() == matrix.tobytes()
    other = facts_of(corpus := corpus_of(*ids)) | {ids[7]: AudioFacts("another", 1.0)}
    store.write_corpus(corpus, other, source={"corpus": "table", "data": "/data/clips.csv"})
    clips, found = store.join("c", [KEY], missing="drop")
    assert len(clips) == len(ids) - 1 and found["hubert"].tobytes() == np.delete(matrix, 7, axis=0).tobytes()
    store.write_corpus(corpus, facts_of(corpus), source={"corpus": "table", "data": "/data/clips.csv"})
    order = np.random.default_rng(1).permutation(len(ids))[:1000]
    np.testing.assert_array_equal(store.look_up("c", KEY, [ids[n] for n in order]), matrix[order])
    # What is written into the array stays the caller's own, and the array outlives the file.
    mapped[:] = 0
    np.testing.assert_array_equal(store.load("c", KEY)[1], matrix)
    mapped = store.load("c", KEY)[1]
    (part,) = parts_of(store)
    data = bytearray(part.read_bytes())
    part.unlink()
    np.testing.assert_array_equal(mapped, matrix)
    # One wrong byte is found by whoever reads it, and by nobody else.
    place = data.rfind(matrix[17].tobytes())
    data[place + 100] ^= 1
    part.write_bytes(data)
    with pytest.raises(DamageError, match="bytes between") as caught:
        store.join("c", [KEY])
    assert str(part) in str(caught.value) and caught.value.path == part
    with pytest.raises(DamageError):
        store.look_up("c", KEY, ["k000017"])
    for row in (11_000, 24_999):  # of other row groups, also where it is no whole block
        wrong = bytearray(data)
        wrong[place + 100] ^= 1
        wrong[wrong.rfind(matrix[row].tobytes()) + 3071] ^= 128
        part.write_bytes(wrong)
        with pytest.raises(DamageError, match="bytes between"):
            store.load("c", KEY)
    part.write_bytes(data)
    far = [f"k{n:06d}" for n in range(17 + blocks.BYTES // 3072, 25_000, 500)]
    np.testing.assert_array_equal(store.look_up("c", KEY, far), matrix[[int(name[1:]) for name in far]])


def test_no_flipped_byte_anywhere_in_a_store_goes_unnoticed(store: EmbeddingStore) -> None:
    """One byte in twenty of every file, and all of a part's first and last bytes."""
    fill(store, 40, 5)
    store.record_skipped("c", KEY, [Skipped("k000001", "x", "y")])

    def read() -> None:
        store.corpus_info("c")
        store.skipped("c", store.find("c", "hubert"))
        store.join("c", [KEY])

    rng = random.Random(0)
    folder = store.root / "c"
    for path in [folder / "corpus.json", folder / "clips.parquet", *sorted((folder / KEY.folder).glob("[!.]*"))]:
        data = path.read_bytes()
        places = {*range(8), *range(len(data) - 12, len(data)), *rng.sample(range(len(data)), len(data) // 20)}
        for place in sorted(places):
            changed = bytearray(data)
            changed[place] ^= 1 << rng.randrange(8)
            path.write_bytes(changed)
            with pytest.raises(StoreError) as caught:
                read()
            assert path.name in str(caught.value), (path.name, place)
        path.write_bytes(data)
    read()


def test_sums_notice_what_a_checksum_must() -> None:
    data = np.random.default_rng(0).integers(0, 256, 3 * blocks.BYTES + 1000, dtype=np.uint8)
    whole = blocks.sums(memoryview(data))
    assert len(whole) == 4 and len(set(whole.tolist())) == 4
    written = blocks.Summing()
    for piece in np.split(data, [1, 17, blocks.BYTES - 1, 2 * blocks.BYTES + 5]):
        written.add(piece.tobytes())
    np.testing.assert_array_equal(written.finish(), whole)
    for place in (0, 7, blocks.BYTES, len(data) - 1):
        changed = data.copy()
        changed[place] ^= 1
        assert np.flatnonzero(blocks.sums(memoryview(changed)) != whole).tolist() == [place // blocks.BYTES]
    swapped = data.copy()
    swapped[:8], swapped[8:16] = data[8:16], data[:8]
    assert blocks.sums(memoryview(swapped))[0] != whole[0]


@pytest.mark.parametrize(
    "ids",
    [
        [f"{n:05}" if n < 1024 else f"z{n:08}" for n in range(1200)],  # of one length in each of two row groups
        [f"{n:0{4 + n % 3}}-\u00e9" for n in range(1200)],
        ["", "b"],
    ],
    ids=["even", "uneven", "an empty one"],
)
def test_ids_of_any_length_are_read_as_they_were_written(store: EmbeddingStore, ids: list[str]) -> None:
    key = replace(KEY, layer="1")
    matrix = np.arange(len(ids), dtype=np.float32)[:, None] * np.ones(
        8192 if len(ids[0]) < len(ids[-1]) else 1, np.float32
    )
    if not all(ids):
        with pytest.raises(StoreError, match="neither ids nor audio hashes may be empty"):
            store.append("c", key, ids, ["x", "y"], matrix)
        ids = ["a", "b"]
    audio = [f"{n % 7 * 'x'}1" for n in range(len(ids))]
    store.append("c", key, ids, audio, matrix)
    part = Part(parts_of(store, key)[0])
    have, of = (texts.to_pylist() for texts in part.texts())
    assert list(zip(have, of, strict=True)) == sorted(zip(ids, audio, strict=True))
    store.append("c", key, ids[:1], ["other"], matrix[:1])
    store.compact("c", key)
    (path,) = parts_of(store, key)
    have, of = (texts.to_pylist() for texts in Part(path).texts())
    assert sorted(zip(have, of, strict=True)) == sorted([*zip(ids, audio, strict=True), (ids[0], "other")])
    assert pq.read_table(path, columns=["id", "audio"]).to_pydict() == {"id": have, "audio": of}


@pytest.mark.parametrize("length", [3, 0])
def test_a_part_says_whether_its_rows_are_those_of_the_clips(store: EmbeddingStore, length: int) -> None:
    """Two row groups, of ids of one length or of several, beside tables that are cut elsewhere."""
    size = 1 << 18
    count = part_writing.group_rows(size) + 5
    ids = sorted(f"{number:03d}" if length else "ü" * (1 + number % 4) + str(number) for number in range(count))
    audio = [f"{name}-1" for name in ids]
    store.append("c", KEY, ids, audio, np.zeros((count, size), np.float32))
    (path,) = parts_of(store)
    part = Part(path)

    def held(names: list[str], of: list[str | None], cut: int = 0) -> bool:
        return part.holds(*(pa.chunked_array([some[:cut], some[cut:]], pa.string()) for some in (names, of)))

    assert all(held(ids, audio, cut) for cut in (0, 1, 40, count))
    other = [*ids[:-1], "n" * len(ids[-1])]
    longer = [*ids[:-1], f"{ids[-1]}n"]
    swapped = [ids[1], ids[0], *ids[2:]]
    for names in (other, longer, swapped):
        assert not held(names, audio) and not held(names, audio, 40) and not held(ids, names)
    assert not held(ids[:-1], audio[:-1]) and not held(ids, [*audio[:-1], None])
    moved = [name[:-1] for name in ids[:1]] + [ids[0][-1] + ids[1], *ids[2:]]  # the same letters, cut elsewhere
    assert not held(moved, audio)
    data = bytearray(path.read_bytes())
    data[data.rfind(audio[-1].encode())] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamageError, match="bytes between"):
        held(ids, audio)


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="the system reads into one place at a time")
@pytest.mark.parametrize("short", [False, True], ids=["all", "less than asked for"])
def test_a_part_is_in_the_order_of_its_clips_so_that_a_compaction_reads_stretches(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    matrix = fill(store, 3000, 3, parts=2)
    for path in parts_of(store):
        ids = Part(path).texts()[0].to_pylist()
        assert len(ids) == 1500 and ids == sorted(ids)
    read, places = os.preadv, []

    def preadv(file: int, memories: list[memoryview], place: int) -> int:
        places.append(len(memories))
        return read(file, memories[: len(memories) // 2] if short and len(memories) > 1 else memories, place)

    monkeypatch.setattr(os, "preadv", preadv)
    store.compact("c", KEY)
    # Their rows come by turns, so that each goes to several hundred places.
    assert max(places) == 512 and (short or len(places) < 100)
    np.testing.assert_array_equal(store.load("c", KEY)[1], matrix)


def test_rows_are_gathered_where_the_system_reads_from_one_place_only(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = fill(store, 50, 3, parts=4)
    monkeypatch.delattr(os, "preadv", raising=False)
    store.compact("c", KEY)
    assert len(parts_of(store)) == 1
    np.testing.assert_array_equal(store.load("c", KEY)[1], matrix)


def test_what_the_disk_says_while_a_part_is_written_is_told(tmp_path: Path) -> None:
    reading, writing = os.pipe()  # which cannot be flushed
    with (
        open(reading, "rb"),
        open(writing, "wb", buffering=0) as file,
        pytest.raises(OSError),
        files.flushing(tmp_path, file, every=2) as written,
    ):
        written.write(b"a")
        written.write(b"bc")
    with open(tmp_path / "file", "wb") as file, files.flushing(tmp_path, file, every=2) as written:
        for piece in (b"abc", b"d", b"ef"):
            written.write(memoryview(piece))
    assert (tmp_path / "file").read_bytes() == b"abcdef"


# --- formats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["corpus.json", f"{KEY.folder}/key.json", f"{KEY.folder}/skipped.json"])
def test_a_format_that_is_not_known_is_refused_and_stays_as_it_is(store: EmbeddingStore, name: str) -> None:
    fill(store, 4, 2)
    path = store.root / "c" / name
    path.write_text('{"format": 3, "what": "nobody knows"}')
    corpus = corpus_of(*(f"k{number:06d}" for number in range(4)))
    for act in (
        lambda: (store.corpus_info("c"), store.keys("c"), store.skipped("c", KEY)),
        lambda: (
            store.write_corpus(corpus, facts_of(corpus)),
            store.append("c", KEY, ["k000000"], ["x"], np.zeros((1, 2))),
            store.record_skipped("c", KEY, []),
        ),
    ):
        with pytest.raises(StoreError, match="the format 3, which this version of serfuse does not know"):
            act()
    assert path.read_text() == '{"format": 3, "what": "nobody knows"}'


def test_rows_of_the_first_format_and_new_ones_stand_side_by_side(tmp_path: Path) -> None:
    store = EmbeddingStore(shutil.copytree(COMPATIBLE, tmp_path / "store"))
    key = store.find("synthetic", "prosody")
    ids, matrix = store.load("synthetic", key)
    audio = store.present("synthetic", key)
    store.append("synthetic", key, ids[:2], [audio[name] for name in ids[:2]], matrix[:2] + 1)
    again = store.load("synthetic", key)[1]
    np.testing.assert_array_equal(again[:2], matrix[:2] + 1)
    np.testing.assert_array_equal(again[2:], matrix[2:])
    store.compact("synthetic", key)
    assert store.load("synthetic", key)[1].tobytes() == again.tobytes()


def test_a_wrong_byte_in_the_first_format_is_an_error_or_harmless(tmp_path: Path) -> None:
    """Arrow 26 ends the process over some of them when it is asked about a column."""
    store = EmbeddingStore(shutil.copytree(COMPATIBLE, tmp_path / "store"))
    key = store.find("synthetic", "prosody")
    matrix = store.load("synthetic", key)[1]
    (part,) = parts_of(store, key, "synthetic")
    data = part.read_bytes()
    errors = 0
    for place in range(len(data) - 1, 0, -13):
        changed = bytearray(data)
        changed[place] ^= 0x04
        part.write_bytes(changed)
        try:
            np.testing.assert_array_equal(store.load("synthetic", key)[1], matrix)
        except StoreError as error:
            errors += 1
            assert part.name in str(error)
    assert errors > 100


# --- what others may put there ----------------------------------------------------------------------------------


def _first_format(path: Path, ids: pa.Array, audio: pa.Array, values: np.ndarray, size: int, **how: object) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values), size)
    table = pa.table({"id": ids, "audio": audio, "embedding": vectors})
    pq.write_table(table.replace_schema_metadata({"serfuse.key": KEY.digest}), path, compression="zstd", **how)


def test_a_small_part_that_claims_gigabytes_is_refused(store: EmbeddingStore) -> None:
    """Of constant rows, and of one long text for all rows; held back at the limit."""
    fill(store, 4, 2)
    (part,) = parts_of(store)
    part.unlink()
    rows = 1 << 12
    ids = pa.array([str(number) for number in range(rows)])
    _first_format(part, ids, ids, np.zeros(rows * 5000, np.float32), 5000)
    assert part.stat().st_size < 400_000
    with pytest.raises(DamageError, match=r"it claims [0-9]+ MB in"):
        store.load("c", KEY)
    long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * (1 << 15)]))
    _first_format(part, ids, long.cast(pa.string()), np.zeros(rows, np.float32), 1)
    assert part.stat().st_size < 400_000
    with pytest.raises(DamageError, match="takes more than"):
        store.load("c", KEY)


_MEMORY = """
import resource, sys
import numpy as np
from serfuse.store import EmbeddingKey, EmbeddingStore
store, key = EmbeddingStore(sys.argv[1]), EmbeddingKey("hubert", weights="hub:x@1")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.compact("c", key)
ids, matrix = store.load("c", key)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, matrix.nbytes / 2**20)
"""


@pytest.mark.slow
def test_compaction_and_loading_take_less_memory_than_the_rows(store: EmbeddingStore) -> None:
    """176 MB of rows: read whole and stacked, as it once was, they took three times as much."""
    matrix = fill(store, 60_000, 768, parts=4)
    done = subprocess.run(
        [sys.executable, "-P", "-c", _MEMORY, str(store.root)], capture_output=True, text=True, check=True
    )
    grown, rows = map(float, done.stdout.split())
    assert rows > 170 and grown < 170
    np.testing.assert_array_equal(store.load("c", KEY)[1], matrix)
