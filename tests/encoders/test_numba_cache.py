"""What librosa compiles is built by one process, and never taken over half-finished."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serfuse.encoders import numba_cache

ENCODE = """
import numpy as np, os, sys
from serfuse import encoders
clip = np.sin(np.arange(8000) * 0.05).astype("float32") * np.linspace(0.1, 1, 8000, dtype="float32")
print(os.getpid(), encoders.load("prosody").frames(clip).shape)
"""


def start(folder: Path) -> subprocess.Popen:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "NUMBA_OPT": "0"}  # which compiles sooner
    command = [sys.executable, "-P", "-c", ENCODE]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen) -> int:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    number, shape = output.split(" ", 1)
    assert shape.strip() == "(51, 26)"
    return int(number)


def parts(folder: Path) -> dict[Path, int]:
    """When each file of a pair was written: those that must come from one process."""
    files = {path.name: path for path in folder.rglob("*.nb?")}
    pairs = {name.removeprefix("guf-") for name in files if name.startswith("guf-")}
    paired = [path for name, path in files.items() if name.removeprefix("guf-") in pairs]
    return {path: path.stat().st_mtime_ns for path in paired}


@pytest.mark.slow
def test_of_two_processes_one_compiles(tmp_path: Path) -> None:
    numbers = [end(process) for process in [start(tmp_path), start(tmp_path)]]
    (note,) = tmp_path.glob(f"*/{numba_cache.FINISHED}")
    assert int(note.read_text()) in numbers
    built = parts(note.parent)
    assert len(built) > 20
    assert max(built.values()) <= note.stat().st_mtime_ns, "nobody compiles once it is finished"
    end(start(tmp_path))
    assert parts(note.parent) == built


def test_what_a_killed_process_left_is_not_used(tmp_path: Path) -> None:
    half = tmp_path / "util" / "utils.peak_pick.1.nbc"
    half.parent.mkdir()
    half.write_text("compiled")
    with pytest.raises(KeyboardInterrupt), numba_cache.built_once(tmp_path):
        assert not half.exists()
        half.parent.mkdir()
        half.write_text("half of it")
        raise KeyboardInterrupt
    assert not (tmp_path / numba_cache.FINISHED).exists()
    with numba_cache.built_once(tmp_path):
        assert not half.exists()
        half.parent.mkdir()
        half.write_text("compiled")
    assert int((tmp_path / numba_cache.FINISHED).read_text()) == os.getpid()
    with numba_cache.built_once(tmp_path):
        assert half.exists(), "what was finished stays"


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(taken))
    folder = numba_cache.cache_folder()
    assert folder.is_dir() and taken not in folder.parents
    assert folder != numba_cache.cache_folder(), "it is this process's own"
