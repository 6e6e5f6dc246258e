"""`serfuse store remove`: all embeddings of one kind, and only those."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from store_rows import KEY, fill, parts_of

from serfuse.cli import main
from serfuse.corpora.base import Corpus
from serfuse.errors import StoreError
from serfuse.extraction.extract import Extraction
from serfuse.progress import Observer
from serfuse.store import EmbeddingKey, EmbeddingStore, Skipped, maintenance, removal, verification

SIXTH = replace(KEY, layer="6")
OUTDATED = replace(KEY, layer="7", code=0)
_HOLD = """
import sys
from pathlib import Path
from serfuse.claims import Claims
claims = Claims(Path(sys.argv[1]))
print(claims.take(sys.argv[2]), flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddingStore:
    """Three kinds of embeddings, on a disk or in a storage of objects."""
    monkeypatch.setenv("SERFUSE_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "store" if request.param == "disk" else f"memory://removal-{tmp_path.name}"
    return filled(EmbeddingStore(place))


def filled(store: EmbeddingStore) -> EmbeddingStore:
    matrix = fill(store, 10, 3, parts=2)
    for key in (SIXTH, OUTDATED):
        store.append("c", key, ["k000001"], ["k000001-1"], matrix[:1])
    return store


def kinds(store: EmbeddingStore) -> set[str]:
    return {key.folder for key in store.keys("c", empty=True)}


def run(store: EmbeddingStore, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["store", "remove", *arguments, "--store", str(store.root)])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def test_one_kind_is_shown_and_removed_on_request(tmp_path: Path) -> None:
    store = filled(EmbeddingStore(tmp_path / "store"))
    store.record_skipped("c", KEY, [Skipped("k000001", "k000001-1", "silent")])
    folder = store.root / "c" / KEY.folder
    size = sum(path.stat().st_size for path in folder.iterdir())
    said = json.loads(run(store, "c", "hubert@layer=last", "--json"))
    assert said == {"removed": False, "corpus": "c", "name": KEY.folder, "rows": 10, "parts": 2, "bytes": size}
    assert "10 rows in 2 parts" in run(store, "c", KEY.folder) and folder.is_dir()
    assert "10 rows in 2 parts" in (done := run(store, "c", KEY.folder, "--yes")) and "Removed." in done
    assert kinds(store) == {SIXTH.folder, OUTDATED.folder}
    assert {path.name for path in (store.root / "c").iterdir() if path.is_dir()} == kinds(store)
    assert len(store.clips("c")) == 10 and len(store.load("c", SIXTH)[0]) == 1
    assert json.loads(run(store, "c", OUTDATED.folder, "--yes", "--json"))["removed"] is True
    assert kinds(store) == {SIXTH.folder} and not verification.verify(store).findings
    assert not store.skipped("c", KEY)


def test_a_kind_is_removed_wherever_it_lies_and_may_come_back(store: EmbeddingStore) -> None:
    gone = removal.remove(store, removal.find(store, "c", KEY.folder))
    assert (gone.rows, gone.parts) == (10, 2) and kinds(store) == {SIXTH.folder, OUTDATED.folder}
    with pytest.raises(StoreError, match=r"does not hold .* any more"):
        removal.remove(store, gone)
    assert not verification.verify(store).findings
    store.append("c", KEY, ["k000002"], ["k000002-1"], np.ones((1, 5)))
    assert store.load("c", KEY)[1].shape == (1, 5), "nothing is left of the one before, nor of its length"


@pytest.mark.parametrize("kind", ["hubert", "hubert@pooling=time", "nothing", "hubert@layer=9"])
def test_a_name_that_fits_none_or_several_shows_those_there_are(tmp_path: Path, kind: str) -> None:
    store = filled(EmbeddingStore(tmp_path / "store"))
    said = run(store, "c", kind, "--yes", code=1)
    assert all(f"{key.folder}: " in said for key in (KEY, SIXTH, OUTDATED))
    several = kind in ("hubert", "hubert@pooling=time")
    assert ("several" in said and "Name one in full" in said) == several and ("holds no" in said) != several
    assert len(kinds(store)) == 3


def test_of_several_a_name_shows_only_those_that_fit(tmp_path: Path) -> None:
    store = filled(EmbeddingStore(tmp_path / "store"))
    store.append("c", EmbeddingKey("wavlm", weights="hub:y@1"), ["k000001"], ["k000001-1"], np.ones((1, 2)))
    assert "wavlm" not in run(store, "c", "hubert", code=1)
    assert "wavlm" in run(store, "c", "wavlm", "--yes") and len(kinds(store)) == 3
    assert "holds no corpus 'd'" in run(store, "d", "hubert", code=1)


def test_nothing_is_removed_while_a_process_extracts(tmp_path: Path) -> None:
    store = filled(EmbeddingStore(tmp_path / "store"))
    unit = f"{KEY.digest}/k000003"
    command = [sys.executable, "-c", _HOLD, str(store.root / "c" / ".claims"), unit]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        assert "is extracting into corpus 'c'" in run(store, "c", KEY.folder, "--yes", code=1)
        assert len(store.load("c", KEY)[0]) == 10
        other.stdin.close()
    run(store, "c", KEY.folder, "--yes")
    assert len(kinds(store)) == 2


@pytest.mark.slow
def test_nothing_is_removed_while_an_extraction_has_no_clip_in_hand(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """Between two encoders, of which the second one may take minutes to load."""
    store = EmbeddingStore(tmp_path / "store")
    reports = Extraction(tiny_corpus, store, limit=8).each(["logmel", "nobody"])
    key = next(reports).key
    words = ["store", "remove", tiny_corpus.name, key.folder, "--yes", "--store", str(store.root)]
    command = [sys.executable, "-P", "-c", "from serfuse.cli import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "is extracting into corpus" in done.stderr, done.stderr
    assert next(reports).error and len(store.load(tiny_corpus.name, key)[0]) == 8
    assert list(reports) == []
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and not store.keys(tiny_corpus.name), done.stderr


def test_a_kind_whose_folder_is_elsewhere_is_removed_there(tmp_path: Path) -> None:
    store = filled(EmbeddingStore(tmp_path / "store"))
    folder, elsewhere = store.root / "c" / KEY.folder, tmp_path / "large disk" / KEY.folder
    elsewhere.parent.mkdir()
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    assert "10 rows" in run(store, "c", KEY.folder, "--yes")
    assert len(kinds(store)) == 2 and not os.path.lexists(folder) and not list(elsewhere.parent.iterdir())


def test_what_cannot_be_read_is_removed_by_its_full_name(store: EmbeddingStore) -> None:
    first = parts_of(store)[0]
    first.write_bytes(b"junk") if isinstance(first, Path) else first.put_bytes(b"junk")
    verification.repair(store)
    key_file = store.root / "c" / KEY.folder / "key.json"
    key_file.write_text("junk") if isinstance(key_file, Path) else key_file.put_bytes(b"junk")
    with pytest.raises(StoreError, match=f"{KEY.folder}: its key.json is missing or damaged"):
        removal.find(store, "c", "nothing")
    found = removal.remove(store, removal.find(store, "c", KEY.folder))
    assert (found.rows, found.parts) == (5, 1)
    assert not list((store.root / "c").glob("damaged/*")), "damaged parts of it go as well"
    assert kinds(store) == {SIXTH.folder, OUTDATED.folder}


class _Once(Observer):
    """Does something when rows are about to be copied."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action: Callable[[], object] | None = action

    def begin(self, what: str, total: int, unit: str = "clip") -> None:
        action, self._action = self._action, None
        if action is not None:
            action()


def test_a_compaction_beside_brings_nothing_back(store: EmbeddingStore) -> None:
    other = EmbeddingStore(store.root)
    observer = _Once(lambda: removal.remove(other, removal.find(other, "c", KEY.folder)))
    try:
        store.compact("c", KEY, observer)
    except StoreError:  # on a disk its folder has gone
        assert isinstance(store.root, Path)
    assert kinds(store) == {SIXTH.folder, OUTDATED.folder} and not parts_of(store)


def test_a_removal_that_was_killed_leaves_what_gc_takes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(EmbeddingStore(tmp_path / "store"))

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(removal, "remove_tree", killed)
    with pytest.raises(KeyboardInterrupt):
        removal.remove(store, removal.find(store, "c", KEY.folder))
    assert kinds(store) == {SIXTH.folder, OUTDATED.folder} and not verification.verify(store).findings
    (left,) = (store.root / "c").glob(".tmp-*")
    os.utime(left, (0, 0))
    (item,) = (item for item in maintenance.unused(store) if item.path == left)
    item.remove()
    assert not left.exists() and len(kinds(store)) == 2
