"""Properties of the splits, on the real Emo-DB and on CREMA-D's and MESD's published file names."""

import dataclasses
import pickle
import tracemalloc
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from clip_tables import small
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serfuse import splits
from serfuse.errors import SplitError, UnknownNameError
from serfuse.splits import folds, leakage

GROUPED = {"speaker": ["speaker"], "loso": ["speaker"], "text": ["text"], "speaker-text": ["speaker", "text"]}
CASES = [
    (corpus, method, 3 if corpus == "mesd" else 5)
    for corpus in ("emodb", "cremad", "mesd")
    for method in ("random", *GROUPED)
]


@pytest.mark.slow
@pytest.mark.parametrize(("corpus", "method", "number"), CASES)
def test_every_clip_is_tested_exactly_once_and_nothing_is_on_both_sides(tables, corpus, method, number):
    clips = tables[corpus]
    # Three voice types leave one speaker to train on when one is tested and one validates; that is allowed.
    found = folds.split(clips, method, folds=number, seed=3, repeats=2)
    # A dictionary: looking up a million ids in a table takes pandas most of the test.
    column = {name: dict(zip(clips["id"], clips[name], strict=True)) for name in ("emotion", "speaker", "text")}
    for repeat in (0, 1):
        tested = Counter(clip for fold in found if fold.repeat == repeat for clip in fold.test)
        assert set(tested) == set(clips["id"])
        assert set(tested.values()) == {1}
    for fold in found:
        train, validation, test = set(fold.train), set(fold.validation), set(fold.test)
        assert train and validation and test
        assert not train & validation and not train & test and not validation & test
        if method != "speaker-text":
            assert len(train | validation | test) == len(clips)
        for apart in GROUPED.get(method, []):
            parts = [{column[apart][clip] for clip in part} for part in (train, validation, test)]
            assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
        # Nothing is tested that training has never seen.
        emotions = column["emotion"]
        assert {emotions[clip] for clip in test} <= {emotions[clip] for clip in train}
    assert [f.index for f in found if f.repeat == 1] == list(range(len(found) // 2))


def test_folds_hold_each_id_once_and_read_as_arrays_of_ids() -> None:
    """A million ids of twenty characters take 80 MB as an array of fixed width, and ten folds held each ten times."""
    number = np.arange(20_000)
    clips = pd.DataFrame(
        {
            "id": [f"{n:060d}" for n in number],
            "emotion": np.array(["anger", "fear"])[number % 2],
            "speaker": number % 50,
        }
    )
    clips["speaker"] = clips["speaker"].astype(str)
    tracemalloc.start()
    found = folds.split(clips, "speaker", folds=10)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 3 * 240 * len(clips)
    for fold in [*found, pickle.loads(pickle.dumps(found[0])), dataclasses.replace(found[1], note="x")]:
        parts = np.concatenate([fold.train, fold.validation, fold.test])
        assert parts.dtype == np.dtype("<U60") and sorted(parts) == clips["id"].tolist()
        assert (fold.train[1:] > fold.train[:-1]).all()


@pytest.mark.slow
@pytest.mark.parametrize(("corpus", "method", "number"), CASES)
def test_the_order_of_the_rows_does_not_matter_and_seeds_repeat(tables, corpus, method, number):
    clips = tables[corpus]
    shuffled = clips.sample(frac=1, random_state=1).reset_index(drop=True)
    for one, other in zip(
        folds.split(clips, method, folds=number, seed=5),
        folds.split(shuffled, method, folds=number, seed=5),
        strict=True,
    ):
        for part in ("train", "validation", "test"):
            assert getattr(one, part).tolist() == getattr(other, part).tolist() == sorted(getattr(one, part))


@pytest.mark.parametrize("corpus", ["emodb", "cremad", "mesd"])
def test_random_folds_hold_every_class_evenly(tables, corpus):
    clips = tables[corpus].set_index("id")["emotion"]
    for fold in folds.split(tables[corpus], "random", folds=5, seed=1):
        for emotion, number in clips.value_counts().items():
            assert abs((clips[fold.test] == emotion).sum() - number / 5) < 1
            rest = number - (clips[fold.test] == emotion).sum()
            assert abs((clips[fold.validation] == emotion).sum() - rest / 10) <= 0.5


def test_random_is_scikit_learns_stratified_k_fold_on_clips_sorted_by_id(tables):
    from sklearn.model_selection import StratifiedKFold

    clips = tables["emodb"].sort_values("id")
    splitter = StratifiedKFold(5, shuffle=True, random_state=7)
    theirs = [clips["id"].to_numpy()[test].tolist() for _, test in splitter.split(clips, clips["emotion"])]
    assert [fold.test.tolist() for fold in folds.split(tables["emodb"], "random", seed=7)] == theirs


def test_loso_is_scikit_learns_leave_one_group_out(tables):
    from sklearn.model_selection import LeaveOneGroupOut

    clips = tables["emodb"].sort_values("id")
    theirs = [
        clips["id"].to_numpy()[test].tolist()
        for _, test in LeaveOneGroupOut().split(clips, clips["emotion"], clips["speaker"])
    ]
    assert [fold.test.tolist() for fold in folds.split(tables["emodb"], "loso")] == theirs
    assert len(theirs) == 10


def unevenness(clips, tests):
    """Root mean square deviation of the class counts of the folds from even ones, relative."""
    emotion = clips.set_index("id")["emotion"]
    counts = np.array([[(emotion[test] == e).sum() for e in sorted(set(emotion))] for test in tests])
    even = counts.sum(axis=0) / len(tests)
    return np.sqrt((((counts - even) / even) ** 2).mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("corpus", "method"), [("emodb", "speaker"), ("emodb", "text"), ("cremad", "speaker"), ("mesd", "text")]
)
def test_grouped_folds_are_stratified_as_well_as_scikit_learns(tables, corpus, method):
    from sklearn.model_selection import StratifiedGroupKFold

    clips = tables[corpus].sort_values("id")
    ours, theirs = [], []
    for seed in range(5):
        ours.append(unevenness(clips, [fold.test for fold in folds.split(clips, method, seed=seed)]))
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        tests = [clips["id"].to_numpy()[t] for _, t in splitter.split(clips, clips["emotion"], clips[method])]
        theirs.append(unevenness(clips, tests))
    assert np.mean(ours) <= np.mean(theirs) + 1e-9


def test_speaker_folds_differ_between_seeds_where_scikit_learns_do_not(tables):
    from sklearn.model_selection import StratifiedGroupKFold

    clips = tables["emodb"].sort_values("id")
    speaker = clips.set_index("id")["speaker"]

    def partition(tests):
        return frozenset(frozenset(speaker[test]) for test in tests)

    ours = {partition([f.test for f in folds.split(clips, "speaker", seed=seed)]) for seed in range(20)}
    theirs = {
        partition([clips["id"].to_numpy()[t] for _, t in splitter.split(clips, clips["emotion"], clips["speaker"])])
        for splitter in (StratifiedGroupKFold(5, shuffle=True, random_state=seed) for seed in range(20))
    }
    assert len(theirs) == 1  # the reason why the folds are not drawn by it
    assert len(ours) >= 8


def test_repeat_r_of_a_seed_is_repeat_0_of_the_seed_r_later(tables):
    for method in ("random", "speaker", "text", "speaker-text"):
        repeated = folds.split(tables["emodb"], method, seed=4, repeats=3)
        later = folds.split(tables["emodb"], method, seed=6)
        last = [fold for fold in repeated if fold.repeat == 2]
        for one, other in zip(last, later, strict=True):
            assert one.test.tolist() == other.test.tolist()
            assert one.validation.tolist() == other.validation.tolist()
        first = [fold for fold in repeated if fold.repeat == 0]
        assert any(one.test.tolist() != other.test.tolist() for one, other in zip(first, last, strict=True))


def test_repeats_of_loso_test_the_same_folds_and_validate_on_others(tables):
    found = folds.split(tables["emodb"], "loso", repeats=5)
    moved = 0
    for index in range(10):
        same = [fold for fold in found if fold.index == index]
        assert len({tuple(fold.test) for fold in same}) == 1
        moved += len({tuple(fold.validation) for fold in same}) > 1
    assert moved >= 8, "another speaker validates in another repeat"


def test_speaker_text_tests_each_pair_of_blocks_and_leaves_out_what_shares_one(tables):
    clips = tables["emodb"].set_index("id")
    found = folds.split(tables["emodb"], "speaker-text", folds=5, validation_fraction=0)
    assert len(found) == 25
    for fold in found:
        test = clips.loc[fold.test]
        free = ~clips["speaker"].isin(speaker_block(clips, found, fold)) & ~clips["text"].isin(
            text_block(clips, found, fold)
        )
        assert set(fold.train) == set(clips.index[free])
        assert len(fold.validation) == 0
        assert set(test["speaker"]).isdisjoint(clips.loc[fold.train, "speaker"])
        assert set(test["text"]).isdisjoint(clips.loc[fold.train, "text"])


def speaker_block(clips, found, fold):
    row = [f.test for f in found if f.index // 5 == fold.index // 5]
    return set(clips.loc[np.concatenate(row), "speaker"])


def text_block(clips, found, fold):
    column = [f.test for f in found if f.index % 5 == fold.index % 5]
    return set(clips.loc[np.concatenate(column), "text"])


def test_the_validation_part_has_about_the_share_asked_for(tables):
    # Whole speakers of Emo-DB hold 35 to 71 clips, about an eighth of a training part.
    bounds = {"random": (0.09, 0.11), "speaker": (0.05, 0.2), "loso": (0.05, 0.2), "text": (0.05, 0.2)}
    for method, (low, high) in bounds.items():
        for fold in folds.split(tables["emodb"], method, seed=2):
            share = len(fold.validation) / (len(fold.train) + len(fold.validation))
            assert low <= share <= high, (method, share)
    for fold in folds.split(tables["cremad"], "speaker", validation_fraction=0.2):
        assert 0.17 <= len(fold.validation) / (len(fold.train) + len(fold.validation)) <= 0.23
    # Blocks of speakers and of texts: what shares one of both is in neither part.
    for fraction, low, high in ((0.1, 0.08, 0.14), (0.2, 0.17, 0.3)):
        both = [folds.split(tables["cremad"], "speaker-text", folds=3, validation_fraction=f) for f in (fraction, 0)]
        for fold, whole in zip(*both, strict=True):
            assert low <= len(fold.validation) / len(whole.train) <= high
    for method in ("random", *GROUPED):
        for fold in folds.split(tables["emodb"], method, validation_fraction=0):
            assert len(fold.validation) == 0


def test_the_validation_part_never_touches_the_test_part_of_its_fold(tables):
    with_validation = folds.split(tables["emodb"], "speaker", seed=1)
    without = folds.split(tables["emodb"], "speaker", seed=1, validation_fraction=0)
    for one, other in zip(with_validation, without, strict=True):
        assert one.test.tolist() == other.test.tolist()
        assert sorted([*one.train, *one.validation]) == other.train.tolist()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**31),
    clips=st.integers(90, 200),
    number=st.integers(2, 5),
    method=st.sampled_from(["random", *GROUPED]),
    fraction=st.sampled_from([0.0, 0.1, 0.3]),
)
def test_any_table_is_split_into_disjoint_parts_whatever_its_order(seed, clips, number, method, fraction):
    data = small(clips, seed=seed % 1000)
    mixed = data.sample(frac=1, random_state=seed % 2**32)
    found = folds.split(mixed, method, folds=number, seed=seed, validation_fraction=fraction)
    tested = Counter(clip for fold in found for clip in fold.test)
    assert set(tested.values()) == {1} and len(tested) == len(data)
    again = folds.split(data, method, folds=number, seed=seed, validation_fraction=fraction)
    for one, other in zip(found, again, strict=True):
        assert one.train.tolist() == other.train.tolist()
        assert one.validation.tolist() == other.validation.tolist()
        assert not set(one.train) & set(one.test)
        assert bool(len(one.validation)) == (fraction > 0)


# --- what cannot be split ---------------------------------------------------------------------------------------


def test_unknown_names_list_the_choices():
    with pytest.raises(
        UnknownNameError, match="random, speaker, loso, loso-all, text, speaker-text, given, cremad-tfds"
    ):
        folds.split(small(), "kfold")
    assert all(splits.get(name).name == name and splits.get(name).summary for name in splits.names())


def test_a_class_with_fewer_clips_than_folds_is_named():
    data = small(90)
    data.loc[data.index[:3], "emotion"] = "rare"
    with pytest.raises(SplitError, match=r"at least 5 clips of every class.*rare \(3\).*--folds 3"):
        folds.split(data, "random")
    assert len(folds.split(data, "random", folds=3)) == 3


def test_a_class_with_two_clips_still_trains_and_validates():
    data = small(90)
    data.loc[data.index[:2], "emotion"] = "rare"
    for fold in folds.split(data, "random", folds=2):
        emotion = data.set_index("id")["emotion"]
        assert "rare" in set(emotion[fold.train])


@pytest.mark.parametrize("method", ["speaker", "loso"])
def test_one_speaker_cannot_be_split_by_speaker(method):
    data = small().assign(speaker="s0")
    with pytest.raises(SplitError, match=r"all 120 clips have one \('s0'\). Use the split 'random'"):
        folds.split(data, method)
    with pytest.raises(SplitError, match="voice type"):
        folds.split(data, method, speaker_kind="voice type")


def test_two_speakers_make_two_folds():
    data = small(speakers=2, texts=6)
    found = folds.split(data, "speaker", folds=2, validation_fraction=0)
    assert {frozenset(data.set_index("id").loc[fold.test, "speaker"]) for fold in found} == {
        frozenset({"s0"}),
        frozenset({"s1"}),
    }


def test_more_folds_than_voice_types(tables):
    with pytest.raises(
        SplitError, match=r"at least 5 voice types, but there are 3. Use --folds 3, or the split 'loso'"
    ):
        folds.split(tables["mesd"], "speaker", speaker_kind="voice type")


def test_two_speakers_leave_nobody_to_validate_on():
    data = small(speakers=2, texts=6)
    with pytest.raises(SplitError, match=r"one speaker only \('s1'\).*training.validation_fraction=0"):
        folds.split(data, "loso")
    assert len(folds.split(data, "loso", validation_fraction=0)) == 2


@pytest.mark.parametrize(
    ("method", "column"), [("speaker", "speaker"), ("loso", "speaker"), ("text", "text"), ("given", "fold")]
)
def test_unknown_speakers_texts_and_folds_are_counted(method, column):
    data = small()
    data["fold"] = "1"
    data.loc[[4, 7], column] = None
    with pytest.raises(
        SplitError, match=rf"{column} of every clip, but 2 of 120 have none \(the first is 'clip0004'\)"
    ):
        folds.split(data, method)
    with pytest.raises(SplitError, match="120 of 120 have none") as caught:
        folds.split(data.drop(columns=column), method)
    assert ("--set split.folder=DIR" in str(caught.value)) == (method == "given")


def test_a_class_of_one_speaker_cannot_be_tested_by_speaker():
    data = small()
    data.loc[data["speaker"] == "s2", "emotion"] = "alone"
    with pytest.raises(SplitError, match="tests alone but its training part has no clip"):
        folds.split(data, "loso")


def test_a_validation_part_never_takes_the_last_clips_of_a_class():
    # Each class is spoken by two speakers: one tested, the other must stay in training.
    data = pd.DataFrame(
        [
            {"id": f"{s}{e}{i}", "emotion": e, "speaker": s}
            for s, e in (("a", "x"), ("b", "x"), ("c", "y"), ("d", "y"))
            for i in range(5)
        ]
    )
    emotion = data.set_index("id")["emotion"]
    for fold in folds.split(data, "loso"):
        assert set(emotion[fold.train]) == {"x", "y"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"folds": 1}, "folds is 1; expected a whole number of at least 2"),
        ({"repeats": 0}, "repeats is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
    ],
)
def test_options_out_of_range(options, words):
    with pytest.raises(SplitError, match=words):
        folds.split(small(), "random", **options)


def test_tables_that_are_none():
    with pytest.raises(SplitError, match="no column 'emotion'"):
        folds.split(small().drop(columns="emotion"), "random")
    with pytest.raises(SplitError, match="no clips"):
        folds.split(small().iloc[:0], "random")
    with pytest.raises(SplitError, match="'clip0000' stands in the table more than once"):
        folds.split(pd.concat([small(), small().iloc[:1]]), "random")
    with pytest.raises(SplitError, match="1 of 120 clips have no emotion"):
        data = small()
        data.loc[0, "emotion"] = None
        folds.split(data, "random")


def test_one_emotion_or_one_clip_of_it_is_said_by_name():
    table = small()
    with pytest.raises(SplitError, match=r"All 120 clips are anger: there is nothing to tell apart"):
        folds.split(table.assign(emotion="anger"), "speaker")
    with pytest.raises(SplitError, match="nothing to tell apart"):
        folds.whole(table.assign(emotion="anger"), "random")
    lone = table.assign(emotion=["pain", *["anger", "fear"] * 59, "anger"])
    with pytest.raises(SplitError, match="one clip only of pain") as caught:
        folds.split(lone, "random", folds=2)
    assert "--folds" not in str(caught.value), "fewer folds would not help"


def test_a_training_part_of_one_emotion_is_refused():
    speakers = ["s1"] * 6 + ["s2"] * 6
    table = pd.DataFrame(
        {
            "id": [f"c{n:02d}" for n in range(12)],
            "emotion": ["anger"] * 6 + ["fear"] * 6,
            "speaker": speakers,
            "text": "t",
        }
    )
    with pytest.raises(SplitError, match=r"training part of fold 0 holds only (anger|fear): there is nothing"):
        folds.split(table, "speaker", folds=2)


@pytest.mark.parametrize(("asked", "groups"), [(5, 10), (12, 12)])
def test_of_very_many_speakers_groups_are_left_out_and_the_audit_says_so(asked, groups):
    table = small(clips=900, speakers=150, texts=2)
    found = folds.split(table, "loso", folds=asked)
    speaker = table.set_index("id")["speaker"]
    assert len(found) == groups
    assert sorted(clip for fold in found for clip in fold.test) == sorted(table["id"])
    for fold in found:
        tested = set(speaker[fold.test])
        assert len(tested) in (150 // groups, 150 // groups + 1)
        assert not tested & set(speaker[fold.train]) and not tested & set(speaker[fold.validation])
        assert not set(speaker[fold.train]) & set(speaker[fold.validation])
    said = [text for text in leakage.audit(table, found).sentences() if "There are 150 speakers" in text]
    assert len(said) == 1 and f"{groups} groups of them are left out" in said[0] and "--split loso-all" in said[0]
    drawn = {seed: [fold.test.tolist() for fold in folds.split(table, "loso", seed=seed)] for seed in (1, 2)}
    assert drawn[1] != drawn[2]


def test_one_speaker_at_a_time_where_there_are_few_or_it_is_asked_for():
    few = small(clips=700, speakers=100, texts=2)
    found = folds.split(few, "loso")
    assert len(found) == 100 and not any("groups" in text for text in leakage.audit(few, found).sentences())
    many = folds.split(small(clips=700, speakers=101, texts=2), "loso-all")
    assert len(many) == 101
