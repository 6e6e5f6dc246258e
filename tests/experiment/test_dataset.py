"""Parts of data that is larger than what is copied: rows are read from the mapped array when they are looked at."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from serfuse.experiment.dataset import Dataset
from serfuse.experiment.rows import COPIED_BYTES, Rows
from serfuse.models import branch
from serfuse.store import EmbeddingKey

SIZE = 1 << 18


@pytest.fixture
def large(tmp_path: Path) -> Dataset:
    """More than is copied, of which the disk holds a few values only."""
    count = COPIED_BYTES // (4 * SIZE) + 8
    array = np.memmap(tmp_path / "rows", np.float32, "w+", shape=(count, SIZE))
    array[:, 0] = np.arange(count)
    return Dataset("c", {}, _clips(count), {"a": array}, {"a": EmbeddingKey("hubert")})


def _clips(count: int) -> pd.DataFrame:
    ids = [f"clip{number:05d}" for number in range(count)]
    emotions = np.resize(["anger", "fear", "joy"], count)
    frame = pd.DataFrame({"id": ids, "emotion": emotions, "speaker": [f"s{number % 7}" for number in range(count)]})
    return frame.set_index("id", drop=False)


def test_a_part_of_large_data_copies_nothing(large: Dataset) -> None:
    ids = large.clips["id"].to_numpy()[::-2]
    part = large.part(ids, ["speaker"])
    numbers = np.arange(len(large.clips))[::-2]
    rows = part.arrays["a"]
    assert isinstance(rows, Rows) and len(part) == len(rows) == len(numbers)
    assert (rows.shape, rows.dtype, rows.ndim) == ((len(numbers), SIZE), np.float32, 2)
    assert rows.nbytes == 4 * SIZE * len(numbers)
    assert (rows[:5, 0] == numbers[:5]).all() and (rows[[4, 1]][:, 0] == numbers[[4, 1]]).all()
    assert rows[2][0] == numbers[2] and (rows[-3:][:, 0] == numbers[-3:]).all()
    assert (rows[numbers > 300][:, 0] == numbers[numbers > 300]).all()
    few = part.take(np.array([7, 3, 5]))
    assert isinstance(few.arrays["a"], Rows) and few.arrays["a"].source is large.arrays["a"]
    assert np.asarray(few.arrays["a"])[:, 0].tolist() == numbers[[7, 3, 5]].tolist()
    assert few.ids.tolist() == ids[[7, 3, 5]].tolist() and len(few.groups["speaker"]) == 3
    both = few.joined(part.take(np.array([0])))
    assert isinstance(both.arrays["a"], Rows)
    assert np.asarray(both.only("a").arrays["a"])[:, 0].tolist() == numbers[[7, 3, 5, 0]].tolist()


def test_a_part_of_small_data_is_a_copy() -> None:
    array = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    small = Dataset("c", {}, _clips(30), {"a": array}, {"a": EmbeddingKey("hubert")})
    part = small.part(small.clips["id"].iloc[[5, 2]])
    assert type(part.arrays["a"]) is np.ndarray and (part.arrays["a"] == array[[5, 2]]).all()
    part.arrays["a"][:] = 0
    assert array[[5, 2]].all()


def test_statistics_block_by_block_are_those_of_all_at_once() -> None:
    generator = np.random.default_rng(1)
    array = (generator.normal(size=(30_000, 256)) * np.linspace(0.01, 9, 256) + 300).astype(np.float32)
    rows = np.arange(len(array))[::2]
    mean, std = branch.statistics(Rows(array, rows))
    expected = array[rows].astype("float64")
    np.testing.assert_allclose(mean, expected.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, expected.std(axis=0), rtol=1e-9)
    exactly = branch.statistics(array[rows])
    assert (exactly[0] == expected.mean(axis=0)).all() and (exactly[1] == expected.std(axis=0)).all()
