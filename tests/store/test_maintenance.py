"""What `serfuse store` does, through the command and the library."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner
from store_rows import COMPATIBLE, KEY, corpus_of, facts_of, fill, parts_of

from serfuse.cli import main
from serfuse.errors import StoreError
from serfuse.store import (
    DamageError,
    EmbeddingStore,
    exchange,
    maintenance,
    verification,
)


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(tmp_path / "store")


def run(store: EmbeddingStore, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["store", *arguments, "--store", str(store.root)])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


# --- verify and repair ------------------------------------------------------------------------------------------


def test_a_whole_store_is_verified(store: EmbeddingStore) -> None:
    fill(store, 20, 3, parts=2)
    found = json.loads(run(store, "verify", "--json"))
    assert found["files"] == 5 and found["damaged"] == found["unsealed"] == []
    assert "5 files" in run(store, "verify") and "all as they were written" in run(store, "verify")


def test_repair_keeps_the_rows_that_are_whole_and_names_the_others(store: EmbeddingStore) -> None:
    """A wrong byte among the vectors costs those of its block: 21 or 22 of 768 values."""
    matrix = fill(store, 300, 768)
    (part,) = parts_of(store)
    flip(part, part.read_bytes().rfind(matrix[40].tobytes()) + 5)
    said = json.loads(run(store, "verify", "--json", code=1))
    assert [item["path"] for item in said["damaged"]] == [str(part)]
    with pytest.raises(DamageError, match="serfuse store repair"):
        store.load("c", KEY)
    done = json.loads(run(store, "repair", "--json"))
    ((command, lost),) = done["extract_again"].items()
    assert "k000040" in lost and 2 <= len(lost) <= 23 and "--encoder hubert" in command
    ids, kept = store.load("c", KEY)
    assert sorted([*ids, *lost]) == [f"k{n:06d}" for n in range(300)]
    np.testing.assert_array_equal(kept, matrix[[int(name[1:]) for name in ids]])
    assert not json.loads(run(store, "verify", "--json"))["damaged"]
    assert len(list((store.root / "c" / "damaged").iterdir())) == 1
    # What is extracted anew fills the gap.
    store.append("c", KEY, lost, [f"{name}-1" for name in lost], matrix[[int(name[1:]) for name in lost]])
    assert store.load("c", KEY)[1].tobytes() == matrix.tobytes()


def test_salvaged_rows_do_not_take_the_place_of_later_ones(store: EmbeddingStore) -> None:
    matrix = fill(store, 100, 768)
    store.append("c", KEY, ["k000003"], ["k000003-1"], np.ones((1, 768)))
    flip(parts_of(store)[0], parts_of(store)[0].read_bytes().rfind(matrix[99].tobytes()))
    verification.repair(store)
    ids, rows = store.load("c", KEY)
    np.testing.assert_array_equal(rows[ids.index("k000003")], np.ones(768))


@pytest.mark.parametrize("place", ["ids", "footer", "end", "gone"])
def test_a_part_whose_ids_cannot_be_trusted_is_set_aside_whole(store: EmbeddingStore, place: str) -> None:
    matrix = fill(store, 10, 3, parts=2)
    part = parts_of(store)[0]
    size = part.stat().st_size
    if place == "gone":
        part.write_bytes(b"")
    else:
        flip(part, {"ids": 60, "footer": size - 200, "end": size - 1}[place])
    done = verification.repair(store)
    assert [item.path for item in done.findings] == [part] and not part.exists()
    ((_, lost),) = done.lacking.items()
    ids, rows = store.load("c", KEY)
    assert len(ids) == len(lost) == 5
    np.testing.assert_array_equal(rows, matrix[[int(name[1:]) for name in ids]])


@pytest.mark.parametrize("name", [f"{KEY.folder}/key.json", "corpus.json"])
def test_what_describes_the_rows_is_written_anew(store: EmbeddingStore, name: str) -> None:
    fill(store, 10, 3)
    path = store.root / "c" / name
    before = json.loads(path.read_text())
    for harm in (lambda: flip(path, 50), lambda: path.write_bytes(b"junk"), path.unlink):
        harm()
        assert "written anew" in run(store, "repair")
        after = json.loads(path.read_text())
        for part in (before, after):
            part.pop("made_with", None), part.pop("serfuse.seal")
        assert after == before
        before = json.loads(path.read_text())
        assert len(store.join("c", [store.find("c", "hubert")])[0]) == 10


def test_a_damaged_table_of_clips_goes_and_extracting_brings_it_back(store: EmbeddingStore) -> None:
    matrix = fill(store, 10, 3)
    flip(store.root / "c" / "clips.parquet", 100)
    said = run(store, "repair")
    assert "/data/clips.csv" in said and "clips.parquet" in said
    corpus = corpus_of(*(f"k{number:06d}" for number in range(10)))
    store.write_corpus(corpus, facts_of(corpus), source={"corpus": "table", "data": "/data/clips.csv"})
    np.testing.assert_array_equal(store.load("c", KEY)[1], matrix)


# --- older formats ----------------------------------------------------------------------------------------------


@pytest.fixture
def first(tmp_path: Path) -> EmbeddingStore:
    """A store that serfuse 0.1.0 wrote."""
    return EmbeddingStore(shutil.copytree(COMPATIBLE, tmp_path / "store"))


def test_the_first_format_is_converted_on_request(first: EmbeddingStore) -> None:
    key = first.find("synthetic", "prosody")
    clips, arrays = first.join("synthetic", [key])
    assert len(json.loads(run(first, "verify", "--json"))["unsealed"]) == 4
    assert run(first, "convert").startswith("synthetic: corpus.json, clips.parquet, ")
    assert json.loads(run(first, "verify", "--json"))["unsealed"] == []
    assert first.find("synthetic", "prosody") == key
    after, converted = first.join("synthetic", [key])
    assert after.equals(clips) and converted["prosody"].tobytes() == arrays["prosody"].tobytes()
    assert "everything is of the present format" in run(first, "convert")
    (kind,) = json.loads(run(first, "info", "--json"))["corpora"][0]["embeddings"]
    assert (kind["formats"], kind["rows"], kind["clips"], kind["parts"]) == ([2], 12, 12, 1)


_KILLED = """
import hashlib, os, random, shutil, signal, sys, time
from pathlib import Path
from serfuse.store import EmbeddingStore, maintenance

begin, folder, what, corpus, encoder = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]

def work(store):
    if what == "convert":
        maintenance.convert(store, corpus)
    else:
        store.compact(corpus, store.find(corpus, encoder))

def rows(store):
    clips, matrices = store.join(corpus, [store.find(corpus, encoder)])
    found = hashlib.sha256(clips.to_csv().encode())
    found.update(matrices[encoder].tobytes())
    return found.hexdigest()

def child(store):
    number = os.fork()
    if not number:
        work(store)
        os._exit(0)
    return number

# As long as one takes in a process of its own.
shutil.copytree(begin, folder / "timed")
since = time.monotonic()
os.waitpid(child(EmbeddingStore(folder / "timed")), 0)
seconds, expected = time.monotonic() - since, rows(EmbeddingStore(begin))
chance, attempt, cut = random.Random(5), 0, 0
while cut < 20:
    store = EmbeddingStore(shutil.copytree(begin, folder / str(attempt)))
    for _ in range(1 + attempt % 2):  # also one that takes up what another left
        number = child(store)
        time.sleep(chance.uniform(0, seconds))
        os.kill(number, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(number, 0)[1]):
            cut += 1
        else:  # over before: the one that was timed met a busier moment
            seconds *= 0.9
        assert rows(store) == expected, attempt
    work(store)
    assert rows(store) == expected, attempt
    assert len(list(store.root.glob(f"{corpus}/{encoder}-*/part-*.parquet"))) == 1
    shutil.rmtree(store.root)
    attempt += 1
    assert attempt < 200, f"{cut} were killed at work"
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["compact", "convert"])
def test_killed_at_twenty_random_moments_no_row_is_lost(
    store: EmbeddingStore, first: EmbeddingStore, tmp_path: Path, what: str
) -> None:
    begin, corpus, encoder = first.root, "synthetic", "prosody"
    if what == "compact":
        fill(store, 3000, 256, parts=5)
        begin, corpus, encoder = store.root, "c", "hubert"
    (tmp_path / "killed").mkdir()
    arguments = [str(begin), str(tmp_path / "killed"), what, corpus, encoder]
    done = subprocess.run([sys.executable, "-P", "-c", _KILLED, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("largest", [0, 100_000])
@pytest.mark.parametrize("what", ["compact", "out.parquet", "out.npz", "out"])
def test_a_full_disk_leaves_the_rows_as_they_were(
    store: EmbeddingStore, tmp_path: Path, what: str, largest: int
) -> None:
    """Of 390 kB of vectors, which go into one file."""
    import resource

    matrix = fill(store, 1500, 65, parts=3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        with pytest.raises(StoreError, match=r"no space left|File too large"):
            store.compact("c", KEY) if what == "compact" else exchange.export(store, "c", KEY, tmp_path / what)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(parts_of(store)) == 3 and store.load("c", KEY)[1].tobytes() == matrix.tobytes()
    assert not list(tmp_path.rglob(".tmp-*")) and not [path for path in tmp_path.glob("out*") if path.is_file()]
    store.compact("c", KEY)
    assert len(parts_of(store)) == 1 and store.load("c", KEY)[1].tobytes() == matrix.tobytes()


@pytest.mark.parametrize("largest", [0, 100, 600, 2000, 20_000])
def test_a_full_disk_leaves_a_conversion_to_be_done_again(first: EmbeddingStore, largest: int) -> None:
    import resource

    key = first.find("synthetic", "prosody")
    before = first.load("synthetic", key)[1].tobytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        maintenance.convert(first, "synthetic")
    except StoreError as error:
        assert "no space left" in str(error)
        assert largest < 20_000
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert first.load("synthetic", key)[1].tobytes() == before
    assert not list(first.root.rglob(".tmp-*"))
    maintenance.convert(first, "synthetic")
    assert verification.verify(first).unsealed == []


# --- in and out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["rows.parquet", "rows.npz", "folder"])
def test_what_is_exported_is_imported_again_to_the_last_bit(store: EmbeddingStore, tmp_path: Path, out: str) -> None:
    matrix = fill(store, 30, 4, parts=2)
    said = json.loads(run(store, "export", "c", "hubert", str(tmp_path / out), "--json"))
    assert said["clips"] == 30
    taken = json.loads(
        run(store, "import", str(tmp_path / out), "--corpus", "c", "--name", "mine", "--pool", "time", "--json")
    )
    assert taken["clips"] == 30 and taken["lacking"] == []
    key = store.find("c", "mine")
    assert key.weights.startswith("imported:") and (key.pooling, key.sample_rate) == ("time", 0)
    np.testing.assert_array_equal(store.load("c", key)[1], matrix)
    _, arrays = store.join("c", [KEY, key])
    np.testing.assert_array_equal(arrays["hubert"], arrays["mine"])
    assert "is there already" in run(store, "export", "c", "hubert", str(tmp_path / out), code=1)


def test_exports_open_with_other_tools(store: EmbeddingStore, tmp_path: Path) -> None:
    matrix = fill(store, 30, 4)
    for name in ("rows.parquet", "rows.npz", "folder"):
        exchange.export(store, "c", KEY, tmp_path / name)
    for path in (tmp_path / "rows.parquet", tmp_path / "folder" / "data" / "train-00000-of-00001.parquet"):
        frame = pd.read_parquet(path)
        assert list(frame["emotion"]) == ["anger"] * 30 and frame["id"].is_monotonic_increasing
        np.testing.assert_array_equal(np.stack(frame["embedding"]), matrix)
    with np.load(tmp_path / "rows.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["embedding"], matrix)
        assert arrays["id"][3] == "k000003"
    assert "data/train-*.parquet" in (tmp_path / "folder" / "README.md").read_text()


def test_rows_made_elsewhere_are_taken_under_an_honest_key(store: EmbeddingStore, tmp_path: Path) -> None:
    fill(store, 6, 2)
    ids = [f"k{number:06d}" for number in (4, 1, 0)]
    rows = np.random.default_rng(0).normal(size=(3, 7))
    np.save(tmp_path / "rows.npy", rows)
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    said = run(
        *(store, "import", str(tmp_path / "rows.npy"), "--ids", str(tmp_path / "ids.txt"), "--corpus", "c"),
        *("--name", "xlsr-mine", "--layer", "9", "--rate", "16000", "--note", "model=facebook/xls-r"),
    )
    assert "3 clips of c" in said and "3 clips have none (k000002" in said
    key = store.find("c", "xlsr-mine")
    assert (key.layer, key.sample_rate, key.options, key.pooling) == (
        "9",
        16000,
        {"model": "facebook/xls-r"},
        "unknown",
    )
    np.testing.assert_array_equal(store.look_up("c", key, ids), rows.astype(np.float32))
    with pytest.raises(StoreError, match="serfuse store import FILE --corpus c --name xlsr-mine"):
        store.join("c", [key])
    np.save(tmp_path / "rows.npy", rows + 1)
    exchange.import_embeddings(store, "c", tmp_path / "rows.npy", "xlsr-mine", ids=tmp_path / "ids.txt")
    assert sum(one.encoder == "xlsr-mine" for one in store.keys("c")) == 2, "other numbers are another kind"


@pytest.mark.parametrize(
    ("ids", "rows", "says"),
    [
        (["k000000", "other"], np.zeros((2, 2)), r"1 of the 2 ids .* are not clips of corpus 'c': 'other'"),
        (["k000000", "k000000"], np.zeros((2, 2)), "several rows for one clip"),
        (["k000000"], np.zeros((2, 2)), "a row for each of the 1 ids"),
        (["k000000"], np.full((1, 2), np.nan), "'k000000' holds values that are not finite"),
        (["k000000"], np.zeros((1, 2), int), "received int64"),
        ([1, 2], np.zeros((2, 2)), "expected ids as text"),
        (["k000000"], np.array([{"a": 1}], object), "allow_pickle"),
    ],
)
def test_rows_that_do_not_fit_are_refused(store: EmbeddingStore, tmp_path: Path, ids, rows, says) -> None:
    fill(store, 3, 2)
    np.savez(tmp_path / "rows.npz", id=np.array(ids), embedding=rows)
    with pytest.raises(StoreError, match=says):
        exchange.import_embeddings(store, "c", tmp_path / "rows.npz", "mine")
    assert [key.encoder for key in store.keys("c")] == ["hubert"]


def test_names_of_encoders_and_files_of_no_known_kind_are_refused(store: EmbeddingStore, tmp_path: Path) -> None:
    fill(store, 3, 2)
    (tmp_path / "rows.txt").write_text("1 2 3")
    (tmp_path / "empty").mkdir()
    for source, name, says in (
        ("rows.txt", "hubert", "is an encoder of serfuse"),
        ("rows.txt", "a/b", "cannot name embeddings"),
        ("rows.txt", "mine", "its kind is unknown"),
        ("empty", "mine", "neither Parquet nor Arrow files"),
    ):
        with pytest.raises(StoreError, match=says):
            exchange.import_embeddings(store, "c", tmp_path / source, name)


def test_a_small_file_to_import_that_claims_gigabytes_is_refused(store: EmbeddingStore, tmp_path: Path) -> None:
    fill(store, 3, 2)
    np.savez_compressed(tmp_path / "rows.npz", id=np.array(["k000000"]), embedding=np.zeros((1, 1 << 25), np.float32))
    with pytest.raises(StoreError, match="it claims 128 MB"):
        exchange.import_embeddings(store, "c", tmp_path / "rows.npz", "mine")


def test_arrow_files_of_a_saved_dataset_are_read(store: EmbeddingStore, tmp_path: Path) -> None:
    fill(store, 5, 2)
    (tmp_path / "saved").mkdir()
    table = pa.table({"id": ["k000001", "k000000"], "embedding": [[1.0, 2.0], [3.0, 4.0]]})
    path = str(tmp_path / "saved" / "data-00000-of-00001.arrow")
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    key, count, lacking = exchange.import_embeddings(store, "c", tmp_path / "saved", "mine")
    assert count == 2 and len(lacking) == 3
    np.testing.assert_array_equal(store.look_up("c", key, ["k000000", "k000001"]), [[3, 4], [1, 2]])


# --- diff and gc ------------------------------------------------------------------------------------------------


def test_diff_says_which_settings_differ_and_how_far_the_vectors_are(store: EmbeddingStore) -> None:
    matrix = fill(store, 10, 3)
    other = replace(KEY, layer="6", dtype="float16")
    store.append("c", other, ["k000001", "k000002"], ["k000001-1", "k000002-1"], 1.5 * matrix[1:3])
    found = json.loads(run(store, "diff", "c", KEY.folder, "hubert@layer=6", "--json"))
    assert found["fields"] == {"layer": ["last", "6"], "dtype": ["float32", "float16"]}
    assert found["clips"] == [8, 0, 2] and found["relative_difference"] == pytest.approx(0.5, rel=1e-6)
    assert "layer: last and 6" in run(store, "diff", "c", KEY.folder, "hubert@layer=6")


def test_gc_lists_and_removes_what_nothing_uses_and_only_that(store: EmbeddingStore) -> None:
    matrix = fill(store, 10, 3)
    outdated = replace(KEY, code=0)
    padded = replace(KEY, pad="max:9.000")
    for key in (outdated, padded):
        store.append("c", key, ["k000001"], ["k000001-1"], matrix[:1])
    store.append("c", KEY, ["gone", "k000002"], ["gone-1", "k000002-0"], matrix[:2])
    left = store.root / "c" / KEY.folder / ".tmp-1-abc-part"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    found = {Path(item["path"]).name: item for item in json.loads(run(store, "gc", "--json"))["unused"]}
    assert set(found) == {outdated.folder, padded.folder, KEY.folder, left.name} and found[KEY.folder]["rows"] == 2
    assert left.exists() and len(store.keys("c")) == 3, "it only lists"
    assert "Removed" in run(store, "gc", "--remove")
    assert store.keys("c") == [KEY] and not left.exists()
    assert set(store.present("c", KEY)) == {f"k{n:06d}" for n in range(10)}
    np.testing.assert_array_equal(store.load("c", KEY)[1], matrix)
    assert "Everything in the store is in use" in run(store, "gc")


def test_compact_through_the_command(store: EmbeddingStore) -> None:
    matrix = fill(store, 10, 3, parts=3)
    assert len(json.loads(run(store, "compact", "--json"))) == 1
    assert len(parts_of(store)) == 1
    np.testing.assert_array_equal(store.load("c", KEY)[1], matrix)
    assert "10 clips, 10 rows of 3 values in 1 part" in run(store, "info")


def test_a_store_that_is_not_there_is_said(tmp_path: Path) -> None:
    nowhere = EmbeddingStore(tmp_path / "nowhere")
    for name in ("info", "verify", "gc"):
        assert "There is no store" in run(nowhere, name, code=1)


def test_a_kind_that_lost_all_rows_is_named_listed_and_kept(store: EmbeddingStore) -> None:
    """A part of one block holds ids and vectors together: any wrong byte in it costs all of them."""
    matrix = fill(store, 10, 3)
    (part,) = parts_of(store)
    flip(part, 60)
    said = run(store, "repair")
    assert "rows can be kept" in said
    assert "10 clips have no row now" in said and "--encoder hubert" in said
    assert f"{KEY.folder}: 0 rows" in run(store, "info")
    (kind,) = json.loads(run(store, "info", "--json"))["corpora"][0]["embeddings"]
    assert (kind["name"], kind["rows"], kind["clips"], kind["vector_size"]) == (KEY.folder, 0, 0, 3)
    aside = store.root / "c" / "damaged"
    assert "kept unless --damaged" in run(store, "gc", "--remove")
    assert len(list(aside.iterdir())) == 1 and (store.root / "c" / KEY.folder / "key.json").exists()
    store.append("c", KEY, [f"k{n:06d}" for n in range(10)], [f"k{n:06d}-1" for n in range(10)], matrix)
    run(store, "gc", "--remove")
    assert not aside.exists() and len(store.load("c", KEY)[0]) == 10, "what came in its place makes it useless"


def test_damaged_parts_go_when_they_are_asked_for(store: EmbeddingStore) -> None:
    fill(store, 10, 3)
    flip(parts_of(store)[0], 60)
    flip(store.root / "c" / KEY.folder / "key.json", 50)
    said = json.loads(run(store, "repair", "--json"))
    ((command, lost),) = said["extract_again"].items()
    assert "--encoder hubert" in command and len(lost) == 10, "neither key nor rows are left"
    run(store, "gc", "--remove", "--damaged")
    assert not (store.root / "c" / "damaged").exists()


@pytest.mark.parametrize("poolings", [["mean-std"], ["mean-std", "time"]])
def test_advice_takes_the_pooling_of_all_other_embeddings(store: EmbeddingStore, poolings: list[str]) -> None:
    matrix = fill(store, 1, 3, key=replace(KEY, pooling=poolings[0]))
    for pooling in poolings[1:]:
        store.append("c", replace(KEY, pooling=pooling), ["k000000"], ["k000000-1"], matrix)
    with pytest.raises(StoreError, match="Make them with") as caught:
        store.find("c", "prosody")
    assert ("--pool mean-std" in str(caught.value)) == (poolings == ["mean-std"])


def test_an_array_that_claims_more_than_it_has_is_refused(store: EmbeddingStore, tmp_path: Path) -> None:
    fill(store, 5, 2)
    np.savez(tmp_path / "rows.npz", id=np.array(["k000000"]), embedding=np.zeros((1, 2)))
    with zipfile.ZipFile(tmp_path / "rows.npz") as members:
        content = {name: members.read(name) for name in members.namelist()}
    shape = b"(1, 2), }"
    content["embedding.npy"] = content["embedding.npy"].replace(shape + b" " * 13, b"(10000000000000, 1), }")
    assert b"10000000000000" in content["embedding.npy"]
    with zipfile.ZipFile(tmp_path / "rows.npz", "w") as members:
        for name, data in content.items():
            members.writestr(name, data)
    with pytest.raises(StoreError, match=r"'embedding' claims 80000000000000 bytes .* and has 16"):
        exchange.import_embeddings(store, "c", tmp_path / "rows.npz", "mine")


@pytest.mark.filterwarnings("error")
def test_a_number_too_large_for_float32_is_refused_without_a_warning(store: EmbeddingStore, tmp_path: Path) -> None:
    fill(store, 5, 2)
    np.savez(tmp_path / "rows.npz", id=np.array(["k000000"]), embedding=np.array([[1e300, 1.0]]))
    with pytest.raises(StoreError, match="not finite"):
        exchange.import_embeddings(store, "c", tmp_path / "rows.npz", "mine")
