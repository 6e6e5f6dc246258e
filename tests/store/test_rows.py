"""Which rows belong to which clips, where there are many parts."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from store_rows import KEY, fill, parts_of

from serfuse.store import EmbeddingStore, maintenance, rows
from serfuse.store.part import Part


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(tmp_path / "store")


def test_ids_of_many_parts_are_looked_up_together(store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked up among the clips hashes all of them: once for each part, time grew with parts times clips."""
    matrix = fill(store, 90, 3, parts=30)
    again = [f"k{number:06d}" for number in (3, 50)]
    store.append("c", KEY, again, [f"{name}-1" for name in again], matrix[[3, 50]] + 1)
    store.append("c", KEY, ["k000003", "gone"], ["k000003-1", "gone-1"], matrix[:2] - 1)
    matrix[50] += 1
    matrix[3] = matrix[0] - 1
    asked, look_up = [], rows.numbers

    def numbers(texts: pa.Array, among: pa.Array) -> np.ndarray:
        asked.append(len(texts))
        return look_up(texts, among)

    monkeypatch.setattr(rows, "numbers", numbers)
    for action in (lambda: store.join("c", [KEY])[1]["hubert"], lambda: store.load("c", KEY)[1]):
        np.testing.assert_array_equal(action(), matrix)
        assert len(asked) <= 2 and sum(asked) == 94
        asked.clear()
    (stale,) = maintenance.unused(store)
    assert stale.rows == 1 and len(asked) <= 2
    asked.clear()
    assert stale.remove() == 1 and len(asked) == 1 and not maintenance.unused(store)
    np.testing.assert_array_equal(store.load("c", KEY)[1], matrix)
    assert [len(Part(path).texts()[0]) for path in parts_of(store)] == [3] * 30 + [2, 1]
