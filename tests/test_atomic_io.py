"""Files are wholly there or not there at all, also on a full disk and under a kill."""

import errno
import os
import pickle
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from serfuse import atomic_io
from serfuse.errors import FolderInUseError, StoreError, WriteError


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A real limit of the operating system on the size of files: writing beyond fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic_io.write_text(path, "one, and longer")
    atomic_io.write_text(path, "two ü")
    assert path.read_text("utf-8") == "two ü"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"], "no temporary file stays"


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    atomic_io.write_text(path, "before")
    with largest_file(4096), pytest.raises(StoreError, match="no space left") as caught:
        atomic_io.write_atomic(path, lambda file: file.write(b"x" * 100_000))
    assert str(path) in str(caught.value)
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_a_failed_flush_or_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    atomic_io.write_text(path, "before")
    for name, number in (("fsync", errno.EIO), ("replace", errno.EACCES)):

        def fails(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, name, fails)
            with pytest.raises(StoreError, match=os.strerror(number)):
                atomic_io.write_text(path, "after")
        assert path.read_text() == "before"
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_the_file_is_flushed_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename that reaches the disk before the content would leave an empty file after a power cut."""
    order: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda *names: (order.append("rename"), replace(*names))[1])
    atomic_io.write_text(tmp_path / "a.txt", "content")
    assert order == ["fsync", "rename", "fsync"], "the content, the name, the folder that holds the name"


def test_a_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    atomic_io.make_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteError) as caught:
        atomic_io.make_folder(tmp_path / "file" / "below")
    error = caught.value
    assert error.path == tmp_path / "file" / "below" and error.reason == os.strerror(errno.ENOTDIR) and not error.full
    assert "store" not in str(error), "who writes knows which setting names another place"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.path) == (WriteError, str(error), error.path)
    with pytest.raises(StoreError, match="Cannot write"), atomic_io.locked(tmp_path / "file"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_found_out_at_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(StoreError, match="Permission denied"):
            atomic_io.make_folder(tmp_path)
    finally:
        tmp_path.chmod(0o755)


def test_only_old_temporary_files_are_removed(tmp_path: Path) -> None:
    old, young, other = tmp_path / ".tmp-1-old", tmp_path / ".tmp-2-young", tmp_path / "part-1.parquet"
    for path in (old, young, other):
        path.write_text("x")
    for path in (old, other):
        os.utime(path, (time.time() - 7200,) * 2)
    atomic_io.remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp-2-young", "part-1.parquet"]


def test_whoever_holds_the_lock_may_remove_every_temporary_file(tmp_path: Path) -> None:
    for name in (".tmp-1-young", "part-1.parquet"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".tmp-folder").mkdir()
    (tmp_path / ".tmp-folder" / "half").write_text("x")
    atomic_io.remove_stale(tmp_path, alone=True)
    assert [path.name for path in tmp_path.iterdir()] == ["part-1.parquet"]


def test_who_waited_for_a_lock_file_that_was_removed_takes_the_one_that_is_there(tmp_path: Path) -> None:
    """Else it would hold the lock of a file without a name, and the next would get in beside it."""
    seen: list[bool] = []

    def second() -> None:
        with atomic_io.locked(tmp_path):
            seen.append(atomic_io.in_use(tmp_path))

    with atomic_io.locked(tmp_path, remove=True):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.1)
        assert not seen
    waiting.join(60)
    assert seen == [True]


def test_a_removed_lock_lets_in_one_at_a_time(tmp_path: Path) -> None:
    inside, most = [], []

    def work() -> None:
        for _ in range(100):
            with suppress(FolderInUseError), atomic_io.locked(tmp_path, remove=True):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most and max(most) == 1 and not list(tmp_path.iterdir())


def test_a_look_at_a_lock_does_not_keep_anybody_out(tmp_path: Path) -> None:
    end = threading.Event()

    def look() -> None:
        while not end.is_set():
            atomic_io.in_use(tmp_path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(200):
            with atomic_io.locked(tmp_path, wait=False):
                pass
    finally:
        end.set()
        looking.join(10)


def test_the_lock_keeps_another_process_out(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    code = (
        "import sys, pathlib\nfrom serfuse.atomic_io import locked\nfolder = pathlib.Path(sys.argv[1])\n"
        "for _ in range(200):\n    with locked(folder):\n"
        "        n = int((folder / 'count').read_text())\n        (folder / 'count').write_text(str(n + 1))"
    )
    both = [subprocess.Popen([sys.executable, "-P", "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert count.read_text() == "400", "no increment was lost"


def test_whether_a_folder_is_in_use_is_known_without_touching_it(tmp_path: Path) -> None:
    assert not atomic_io.in_use(tmp_path) and not list(tmp_path.iterdir())
    with atomic_io.locked(tmp_path):
        assert atomic_io.in_use(tmp_path)
        with pytest.raises(FolderInUseError, match="at work in"), atomic_io.locked(tmp_path, wait=False):
            pass
    assert not atomic_io.in_use(tmp_path)


def test_every_new_folder_on_the_way_is_flushed_with_its_name(tmp_path: Path, monkeypatch) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(atomic_io, "sync", flushed.append)
    atomic_io.make_durable_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert flushed == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    atomic_io.make_durable_folder(tmp_path / "a" / "b" / "c")
    assert len(flushed) == 3
