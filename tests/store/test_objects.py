"""Stores on object storage: in memory, and on a server that speaks S3."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from store_rows import KEY, corpus_of, facts_of, fill, parts_of

from serfuse.cli import main
from serfuse.errors import StoreError, WriteError
from serfuse.extraction.extract import Extraction
from serfuse.progress import Observer
from serfuse.store import DamageError, EmbeddingStore, files, maintenance, verification
from serfuse.store.objects import ObjectPath

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that speaks S3."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield f"http://127.0.0.1:{running.get_host_and_port()[1]}"
    running.stop()


@pytest.fixture(params=["memory", "s3"])
def address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An empty place in a storage, and an empty folder of copies."""
    monkeypatch.setenv("SERFUSE_CACHE", str(tmp_path / "copies"))
    if request.param == "memory":
        return f"memory://{tmp_path.name}"
    s3(monkeypatch, request.getfixturevalue("server"))
    system = fsspec.filesystem("s3")
    if not system.exists("bucket"):
        system.mkdir("bucket")
    return f"s3://bucket/{tmp_path.name}"


def s3(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def damage(path: ObjectPath, at: int) -> None:
    """Another byte at one place of an object."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.put_bytes(bytes(data))


class Once(Observer):
    """Does something when rows are about to be copied."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def begin(self, what: str, total: int, unit: str = "clip") -> None:
        if self.what is not None:
            action, self.what = self.what, None
            action()


def test_rows_are_kept_compacted_looked_up_and_joined(address: str) -> None:
    store = EmbeddingStore(address)
    assert store.corpora() == [] and str(store.root) == address
    matrix = fill(store, 40, 6, parts=3)
    assert EmbeddingStore(address).corpora() == ["c"] and store.keys("c") == [KEY]
    assert len(parts_of(store)) == 3 and maintenance.info(store)["corpora"][0]["embeddings"][0]["rows"] == 40
    np.testing.assert_array_equal(store.load("c", KEY)[1], matrix)
    store.compact("c", KEY)
    assert len(parts_of(store)) == 1 and store.size("c", KEY)[0] == 6
    np.testing.assert_array_equal(store.look_up("c", KEY, ["k000030", "k000002"]), matrix[[30, 2]])
    clips, joined = store.join("c", [KEY])
    assert len(clips) == 40 and np.array_equal(joined["hubert"], matrix)
    left = corpus_of(*(f"k{number:06d}" for number in range(30)))
    store.write_corpus(left, facts_of(left), source={"corpus": "table", "data": "/data/clips.csv"})
    (stale,) = maintenance.unused(store)
    assert stale.rows == 10 and stale.remove() == 10
    np.testing.assert_array_equal(store.load("c", KEY)[1], matrix[:30])
    assert not verification.verify(store).findings and not maintenance.unused(store)


def test_wrong_bytes_are_found_where_they_are_kept_and_mended(address: str) -> None:
    store = EmbeddingStore(address)
    matrix = fill(store, 6000, 16)
    (path,) = parts_of(store)
    for kept in (path, store.root / "c" / "clips.parquet", path.parent / "key.json"):
        files.local(kept).write_bytes(b"\0" * kept.stat().st_size)  # only the copy on this machine
        with pytest.raises(DamageError):
            store.load("c", store.keys("c")[0])
        np.testing.assert_array_equal(store.load("c", store.keys("c")[0])[1], matrix)  # fetched anew
    damage(path, path.stat().st_size - 100_000)
    damage(store.root / "c" / "corpus.json", 40)
    assert {item.path.name for item in verification.verify(store).findings} == {path.name, "corpus.json"}
    found = verification.repair(store)
    assert path.parent.name in {item.path.parent.name for item in found.findings} and not path.exists()
    assert [p.name.rpartition("+")[2] for p in (store.root / "c" / "damaged").iterdir()] == [path.name, "corpus.json"]
    (clips,) = found.lacking.values()
    kept, vectors = store.load("c", KEY)
    assert 0 < len(clips) < 6000 and len(kept) + len(clips) == 6000
    np.testing.assert_array_equal(vectors, matrix[[int(name[1:]) for name in kept]])
    assert not verification.verify(store).findings


def test_two_compactions_and_one_that_ends_between_its_steps_lose_no_row(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EmbeddingStore(address)
    matrix = fill(store, 30, 4, parts=4)
    store.compact("c", KEY, Once(lambda: EmbeddingStore(address).compact("c", KEY)))
    np.testing.assert_array_equal(store.load("c", KEY)[1], matrix)
    store.append("c", KEY, ["k000003"], ["k000003-1"], matrix[3:4])

    def ends(self: ObjectPath, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ObjectPath, "unlink", ends)
        store.compact("c", KEY)
    assert len(parts_of(store)) >= 3  # all that was there, and all of it once more
    np.testing.assert_array_equal(store.load("c", KEY)[1], matrix)
    store.compact("c", KEY)
    assert len(parts_of(store)) == 1 and np.array_equal(store.load("c", KEY)[1], matrix)


def test_small_files_are_changed_one_writer_after_the_other(address: str) -> None:
    folder = files.place(address)
    count = folder / "count"
    count.put_bytes(b"0")

    def add() -> None:
        for _ in range(5):
            with files.locked(folder):
                count.put_bytes(str(int(count.read_bytes()) + 1).encode())

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count.read_bytes() == b"10" and not (folder / ".lock").exists()
    (folder / ".lock").put_bytes(b"somebody who was killed")
    with files.locked(folder, lease=0.3):
        assert (folder / ".lock").read_bytes() != b"somebody who was killed"
    assert not (folder / ".lock").exists()


def test_the_lock_of_a_process_that_ended_here_is_taken_over_at_once(address: str) -> None:
    folder = files.place(address)
    with files.locked(folder):
        held = (folder / ".lock").read_text()
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    (folder / ".lock").put_bytes(held.replace(f"/{os.getpid()}-", f"/{ended.pid}-").encode())
    begun = time.monotonic()
    with files.locked(folder):  # not after a minute
        assert time.monotonic() - begun < 20
    assert not (folder / ".lock").exists()
    for owner in (held, held.replace(held.partition("/")[0], "another"), f"{os.getpid()}-of an earlier version 0"):
        (folder / ".lock").put_bytes(owner.encode())
        begun = time.monotonic()
        with files.locked(folder, lease=0.3):  # of one that may be at work
            assert time.monotonic() - begun > 0.3


def test_stretches_of_an_object_are_fetched_together(address: str) -> None:
    path = files.place(address) / "object"
    path.put_bytes(bytes(range(100)))
    some = files.fetched(path, [(50, 60), (0, 8), (60, 70)])
    assert some.begins == [0, 50] and some.pieces == [bytes(range(8)), bytes(range(50, 70))]
    memory = memoryview(bytearray(12))
    some.fill(55, memory)
    assert bytes(memory) == bytes(range(55, 67)) and not files.far(path, path.stat())
    assert files.fetched(path, [(50, 60), (0, 8), (61, 70)], gap=1).begins == [0, 50]
    assert files.fetched(path, [(50, 60), (0, 8)], gap=42).pieces == [bytes(range(60))]
    for _ in range(2):  # from the storage, then from what was kept of it
        kept = files.fetched(path, [(50, 60), (0, 8)], keep=path.stat())
        assert kept.begins == [0, 50] and kept.pieces == [bytes(range(8)), bytes(range(50, 60))]
    status = path.stat()
    path.put_bytes(bytes(range(100, 200)))
    assert path.stat().version != status.version
    assert files.fetched(path, [(0, 8)], keep=path.stat()).pieces == [bytes(range(100, 108))]
    assert files.fetched(path, [], gap=1).pieces == []
    for begin in (40, 62):
        with pytest.raises(ValueError, match="cut off"):
            some.fill(begin, memory)
    with pytest.raises(FileNotFoundError):
        files.fetched(path.with_name("absent"), [(0, 8), (9, 10)])


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that reach a storage in memory from now on, by the last part of the object's name."""
    system, requests = fsspec.get_filesystem_class("memory"), []

    def noting(ask: Any) -> Any:
        def asked(self: Any, path: str, *words: Any, **named: Any) -> Any:
            requests.append(path.rpartition("/")[2])
            return ask(self, path, *words, **named)

        return asked

    for name in ("info", "cat_file", "ls"):
        monkeypatch.setattr(system, name, noting(getattr(system, name)))
    return requests


@pytest.mark.slow
@pytest.mark.parametrize("address", ["memory"], indirect=True)
def test_a_few_clips_of_a_large_part_are_fetched_alone(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 80 MB, of which a twentieth is asked for, in few requests; a wrong byte there is told."""
    store = EmbeddingStore(address)
    ids = [f"k{number:06d}" for number in range(2600)]
    store.write_corpus(corpus_of(*ids), facts_of(corpus_of(*ids)))
    matrix = np.random.default_rng(0).normal(size=(2600, 8000)).astype(np.float32)
    store.append("c", KEY, ids, [f"{name}-1" for name in ids], matrix)
    (part,) = parts_of(store)
    size = part.stat().st_size
    assert size > files.FAR_BYTES

    def nothing_kept() -> None:
        for path in (tmp_path / "copies").iterdir():
            path.unlink()

    def kept() -> int:
        return sum(path.stat().st_size for path in (tmp_path / "copies").iterdir())

    nothing_kept()
    some = [2599, 3, 4, *range(100, 2500, 40)]
    requests = counted(monkeypatch)
    np.testing.assert_array_equal(store.look_up("c", KEY, [ids[n] for n in some]), matrix[some])
    assert kept() < 1e6
    assert requests.count(part.name) <= 1 + 1 + 3 + 62  # what it is, footer, texts, and each row but the neighbours
    del requests[:]
    close = range(100, 160, 6)  # 32 kB each
    np.testing.assert_array_equal(store.look_up("c", KEY, [ids[n] for n in close]), matrix[close])
    assert requests.count(part.name) == 1 + 1  # what it is, and all of them at once; the rest is kept here
    np.testing.assert_array_equal(store.load("c", KEY)[1], matrix)
    assert kept() > size
    np.testing.assert_array_equal(store.look_up("c", KEY, [ids[7]]), matrix[[7]])  # of the copy
    damage(part, part.read_bytes().rfind(matrix[100].tobytes()) + 50)
    nothing_kept()
    with pytest.raises(DamageError, match="bytes between"):
        store.look_up("c", KEY, [ids[100]])
    assert kept() < 1e6
    np.testing.assert_array_equal(store.look_up("c", KEY, [ids[7]]), matrix[[7]])


@pytest.mark.slow
@pytest.mark.parametrize("address", ["memory"], indirect=True)
def test_large_parts_are_mapped_from_copies_that_are_bounded(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SERFUSE_CACHE_GB", "0.1")
    store = EmbeddingStore(address)
    ids = [f"k{number:06d}" for number in range(9000)]
    corpus = corpus_of(*ids)
    store.write_corpus(corpus, facts_of(corpus))
    matrix = np.random.default_rng(0).normal(size=(9000, 2000)).astype(np.float32)
    store.append("c", KEY, ids, [f"{name}-1" for name in ids], matrix)
    assert parts_of(store)[0].stat().st_size > 70e6
    found = store.load("c", KEY)[1]
    assert isinstance(found.base, np.ndarray) and not found.flags.owndata  # over the file
    other = EmbeddingStore(f"{address}-other")
    other.write_corpus(corpus, facts_of(corpus))
    other.append("c", KEY, ids, [f"{name}-1" for name in ids], -matrix)
    assert sum(path.stat().st_size for path in (tmp_path / "copies").iterdir()) < 0.1e9
    np.testing.assert_array_equal(found, matrix)  # although its file has gone
    np.testing.assert_array_equal(store.load("c", KEY)[1], matrix)  # fetched again


@pytest.mark.slow
@pytest.mark.parametrize("address", ["s3"], indirect=True)
def test_the_commands_take_an_address(address: str, tiny_corpus_dir: Path, tmp_path: Path) -> None:
    def run(*words: str) -> Any:
        found = CliRunner().invoke(main, [*words, "--store", address])
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout) if "--json" in words else found.output

    extract = ("extract", "--corpus", "synthetic", "--data", str(tiny_corpus_dir), "--encoder", "logmel", "--json")
    first = run(*extract)
    assert first["store"] == address and first["encoders"][0]["done"] > 0
    assert run(*extract)["encoders"][0]["done"] == 0  # what is there is not computed again
    name, clips = first["encoders"][0]["name"], first["encoders"][0]["done"]
    (held,) = run("list", "store", "--json")["corpora"]
    assert held["embeddings"][0]["clips"] == clips
    assert run("store", "info", "--json")["corpora"][0]["embeddings"][0]["rows"] == clips
    assert not run("store", "verify", "--json")["damaged"]
    for command in ("repair", "compact", "convert", "gc"):
        run("store", command)
    out = tmp_path / "out.parquet"
    run("store", "export", "synthetic", name, str(out))
    run("store", "import", str(out), "--corpus", "synthetic", "--name", "elsewhere")
    run("store", "diff", "synthetic", name, "elsewhere")
    run("cv", "--head", "svm", "--a", "elsewhere", "--folds", "2", "--out", str(tmp_path / "run"), "--quiet")
    run("train", str(tmp_path / "run"), "--out", str(tmp_path / "model"), "--quiet")
    table = tmp_path / "table.yaml"
    table.write_text(
        "title: t\ncorpora: {synthetic: S}\nmodels: {svm: {heading: SVM}}\nmodels_as: columns\n"
        "encoders: {one: logmel, other: elsewhere}\nblocks: [{rows: [one, other]}]\nsettings: {split: {folds: 2}}\n"
    )
    planned = run("sweep", str(table), "--dry-run", "--out", str(tmp_path / "sweep"))
    assert "0 units are done, 4 would run, 0 wait for embeddings." in planned
    words = ("--split", "random", "--folds", "3", "--fusion", "late", "--out", str(tmp_path / "advice"), "--json")
    advice = run("recommend", "--corpus", "synthetic", "--input", name, "--input", "elsewhere", *words)
    assert len(advice["tried"]) == 3


# --- errors -----------------------------------------------------------------------------------------------------


def test_what_is_wrong_with_a_storage_is_said(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SERFUSE_CACHE", str(tmp_path))
    s3(monkeypatch, server)
    with pytest.raises(StoreError, match="s3://absent/x cannot be read: there is no such bucket"):
        EmbeddingStore("s3://absent/x").corpora()
    with pytest.raises(WriteError, match="Cannot write s3://absent/x/c: there is no such bucket"):
        EmbeddingStore("s3://absent/x").check_writable("c")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(StoreError, match="Could not connect"):
        EmbeddingStore("s3://bucket/x").corpora()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(StoreError, match=r"credentials.*the way the storage's own tools take them"):
        EmbeddingStore("s3://bucket/x").corpora()


def test_addresses_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Protocol not known: nowhere"):
        EmbeddingStore("nowhere://bucket")
    with pytest.raises(StoreError, match="Give it as text: s3://"):
        EmbeddingStore(Path("s3://bucket/x"))
    for address in (
        "ftp://me:hidden@host/x",
        "s3://key:hid/den@bucket/x",
        "s3://key:hid::den@bucket",
        "s3://k:hid/den@b/..",
    ):
        with pytest.raises(StoreError, match="must not hold a password or a secret key") as caught:
            EmbeddingStore(address)
        assert "hid" not in str(caught.value)
    with pytest.raises(StoreError, match=r"'\.\.'"):
        EmbeddingStore("memory://x/../y")
    assert EmbeddingStore(f"file://{tmp_path}").root == tmp_path
    with pytest.raises(StoreError, match="other processes do not see it"):
        Extraction(corpus_of("a"), EmbeddingStore("memory://x"), jobs=2)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(StoreError, match=r"needs another library: pip install 'serfuse\[remote\]'"):
        EmbeddingStore("s3a://bucket/x")  # another name of it, which fsspec has not looked up yet


def test_the_commands_refuse_a_store_that_ends_with_them(tiny_corpus_dir: Path) -> None:
    extract = ["extract", "--corpus", "synthetic", "--data", str(tiny_corpus_dir), "--encoder", "logmel"]
    done = CliRunner().invoke(main, [*extract, "--store", "memory://x"])
    assert done.exit_code == 2 and "gone when it ends" in done.output
    done = CliRunner(env={"SERFUSE_STORE": "memory://x"}).invoke(main, extract)
    assert done.exit_code == 1 and "gone when it ends" in done.output
