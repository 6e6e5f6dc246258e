"""CREMA-D's published split."""

import numpy as np
import pytest

from serfuse.errors import SplitError
from serfuse.splits import cremad_tfds, folds


def test_cremad_tfds_is_the_published_split(tables):
    # Worked out from the published rule with plain numpy, not with the code under test.
    order = np.random.RandomState(0).permutation(91)
    speakers = [str(1001 + i) for i in order]
    (fold,) = folds.split(tables["cremad"], "cremad-tfds", seed=9)
    speaker = tables["cremad"].set_index("id")["speaker"]
    assert set(speaker[fold.train]) == set(speakers[:63])
    assert set(speaker[fold.validation]) == set(speakers[63:72])
    assert set(speaker[fold.test]) == set(speakers[72:])
    assert len(fold.train) + len(fold.validation) + len(fold.test) == 7442
    assert [len(part) for part in cremad_tfds.speakers_of_parts().values()] == [63, 9, 19]


def test_cremad_tfds_keeps_a_speakers_part_when_others_are_missing(tables):
    clips = tables["cremad"]
    (whole,) = folds.split(clips, "cremad-tfds")
    some = clips[clips["speaker"].isin(sorted(set(clips["speaker"]))[::2])]
    (part,) = folds.split(some, "cremad-tfds")
    assert set(part.test) < set(whole.test) and set(part.train) < set(whole.train)


def test_cremad_tfds_refuses_other_corpora(tables):
    with pytest.raises(SplitError, match=r"speakers 1001 to 1091 only; the clips have 03"):
        folds.split(tables["emodb"], "cremad-tfds")
