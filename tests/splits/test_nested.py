"""Folds within a training part: every clip is held out once, and no group stands on both sides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serfuse.errors import SplitError
from serfuse.splits.nested import inner_folds


@given(st.integers(0, 2**31 - 1), st.integers(2, 6), st.sampled_from([(), ("speaker",), ("speaker", "text")]))
@settings(max_examples=30, deadline=None)
def test_inner_folds(seed: int, folds: int, apart: tuple[str, ...]) -> None:
    rng = np.random.default_rng(seed)
    columns = {"speaker": np.repeat(list("uvwxyz"), 20), "text": np.tile(list("klmno"), 24)}
    labels = rng.permutation(np.arange(120) % 3)
    groups = {name: columns[name] for name in apart}
    found = inner_folds(labels, groups, folds, seed)
    assert sorted(np.concatenate([out for _, out in found])) == list(range(120))
    for learned, out in found:
        assert not set(learned) & set(out)
        assert (np.bincount(labels[learned], minlength=3) >= 2).all()
        for values in groups.values():
            assert not set(values[learned]) & set(values[out])
    if len(apart) < 2:
        assert len(found) == folds
        assert all(len(learned) + len(out) == 120 for learned, out in found)
    again = inner_folds(labels, groups, folds, seed)
    assert all((a[1] == b[1]).all() for a, b in zip(found, again, strict=True))


def test_fewer_folds_where_there_are_fewer_groups_or_clips() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1] * 2)
    assert len(inner_folds(labels, {"speaker": np.repeat(["u", "v"], 6)}, 5, 0)) == 2
    assert len(inner_folds(np.array([0] * 9 + [1] * 3), {}, 5, 0)) == 3


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        ([0, 0, 1], {}),
        ([0, 0, 1, 1], {"speaker": np.array(["u"] * 4)}),
        ([0, 0, 1, 1, 1, 1], {"speaker": np.array(["u", "u", "v", "v", "w", "w"])}),
    ],
)
def test_what_cannot_be_held_out_is_refused(labels: list[int], groups: dict) -> None:
    with pytest.raises(SplitError, match="fewer than 2 clips of some emotion"):
        inner_folds(np.array(labels), groups, 3, 0)
