"""The audit finds what was put there, and says it in words."""

import json

import numpy as np
import pandas as pd
import pytest

from serfuse.errors import SplitError
from serfuse.splits import folds, leakage
from serfuse.splits.folds import Fold


def clips(**columns: list) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    base = {"id": [f"c{n}" for n in range(count)], "emotion": ["anger", "fear"] * (count // 2)}
    return pd.DataFrame({**base, **columns})


def fold(train: str, test: str, validation: str = "") -> Fold:
    parts = [np.array([f"c{n}" for n in part.split()], dtype=str) for part in (train, validation, test)]
    return Fold(0, 0, parts[0], parts[1], parts[2])


def test_speakers_on_both_sides_are_counted() -> None:
    table = clips(speaker=["s0", "s0", "s1", "s1", "s2", "s2"], text=["t"] * 6, audio=list("abcdef"))
    audit = leakage.audit(table, [fold("c 0 2 3".replace("c ", ""), "1 4 5")])
    assert (audit.speakers, audit.shared_speakers) == (2, 1)
    assert "1 of 2 test speakers is also in training: this estimates a mixture" in audit.sentences()[0]


@pytest.mark.parametrize(
    ("test", "says"),
    [
        ("1 3", "2 of 2 test speakers are also in training: this estimates new utterances of known speakers"),
        ("4 5", "0 of 1 test speakers are also in training: this estimates speakers never heard"),
    ],
)
def test_all_or_none(test: str, says: str) -> None:
    table = clips(speaker=["s0", "s0", "s1", "s1", "s2", "s2"])
    assert says in leakage.audit(table, [fold("0 2", test)]).sentences()[0]


def test_the_validation_part_counts_as_training_and_is_checked_itself() -> None:
    table = clips(speaker=["s0", "s0", "s1", "s1"], text=["x", "y", "x", "y"])
    audit = leakage.audit(table, [fold("0", "3", validation="2 1")])
    assert audit.shared_speakers == 1
    assert audit.folds[0].validation_shared_speakers == 1 and audit.folds[0].validation_shared_texts == 1


def test_a_validation_part_that_is_not_kept_apart_as_the_test_part_is_is_said() -> None:
    table = clips(speaker=["s0", "s0", "s1", "s1"], text=["x", "x", "y", "y"])
    words = leakage.audit(table, [fold("0", "2 3", validation="1"), fold("2", "0 1")]).sentences()
    for kind in ("speaker", "text"):
        assert (
            f"In 1 of 2 folds the inner validation part shares {kind}s with the rest of training: early stopping looks "
            f"at known {kind}s."
        ) in words
    apart = leakage.audit(table, [fold("0", "3", validation="2")]).sentences()
    assert not any("early stopping" in sentence for sentence in apart), "what the test part shares is said already"


def test_identical_audio_and_other_takes() -> None:
    table = clips(
        speaker=["s0"] * 4, text=["x", "x", "x", "y"], audio=["same", "same", "b", "c"], emotion=["anger"] * 4
    )
    audit = leakage.audit(table, [fold("0 3", "1 2")])
    assert (audit.identical, audit.repeated) == (1, 2)
    words = " ".join(audit.sentences())
    assert "1 test clip has the very same audio" in words and "2 of 2 test clips have another take" in words


def test_copies_in_another_container_are_found_by_their_samples() -> None:
    table = clips(speaker=["s0"] * 4, text=["x"] * 4, audio=list("abcd"))
    by_bytes = leakage.audit(table, [fold("0 1", "2 3")])
    assert by_bytes.identical == 0 and "by samples in 0 of 4 clips" in by_bytes.sentences()[-1]
    table["sound"] = ["same", "one", "same", None]
    some = leakage.audit(table, [fold("0 1", "2 3")])
    assert some.identical == 1 and "by samples in 3 of 4 clips" in some.sentences()[-1]


def test_words_that_give_the_emotion_away() -> None:
    table = clips(
        speaker=["s0", "s1", "s0", "s1"], text=["hurrah", "hurrah", "t", "t"], emotion=["joy", "joy", "fear", "joy"]
    )
    audit = leakage.audit(table, [fold("0 2", "1 3")])
    assert (audit.emotion_only_texts, audit.giveaway) == (1, 1)
    assert "words alone give their emotion away" in " ".join(audit.sentences())


def test_what_is_unknown_is_said_rather_than_counted_as_zero() -> None:
    audit = leakage.audit(clips(speaker=["s0", None, "s1", "s1"]), [fold("0 1", "2 3")])
    assert audit.speakers is None and audit.texts is None and audit.identical is None
    words = " ".join(audit.sentences())
    assert "speakers are unknown" in words and "texts are unknown" in words and "hashes are unknown" in words


def test_a_clean_split_is_said_to_be_clean_and_nothing_else() -> None:
    table = clips(speaker=["s0", "s0", "s1", "s1"], text=["x", "x", "y", "y"], audio=list("abcd"))
    table["sound"] = list("efgh")
    audit = leakage.audit(table, [fold("0 1", "2 3")], fitted={"input normalisation": [["c0", "c1"]]})
    assert audit.sentences() == [
        "0 of 1 test speakers are also in training: this estimates speakers never heard in training.",
        "0 of 1 test texts are also in training: this estimates texts never heard in training.",
        "No test clip has identical audio in training.",
        "2 of 4 clips are tested.",
        "The input normalisation is fitted on the training part only, in every fold.",
    ]
    assert (audit.repeated, audit.identical, audit.giveaway) == (0, 0, 0)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ("x x x x", "1 of 1 test texts is also in training: this says nothing about new words."),
        ("x y x y", "2 of 2 test texts are also in training: this says nothing about new words."),
        ("x y y z", "1 of 2 test texts is also in training: this estimates a mixture of known and new texts."),
    ],
)
def test_texts_on_both_sides(texts: str, says: str) -> None:
    assert leakage.audit(clips(text=texts.split()), [fold("0 1", "2 3")]).sentences()[1] == says


def test_words_of_one_emotion_that_no_fold_shares_give_nothing_away() -> None:
    table = clips(text=["hurrah", "hurrah", "t", "t"], emotion=["joy", "joy", "fear", "joy"])
    audit = leakage.audit(table, [fold("2 3", "0 1")])
    assert (audit.emotion_only_texts, audit.giveaway) == (1, 0)
    said = (
        "1 of 2 texts are only ever said with one emotion, but no test clip has such a text that is also in training."
    )
    assert said in audit.sentences()
    once = leakage.audit(clips(text=["x", "y", "z", "z"]), [fold("2 3", "0 1")])
    assert once.emotion_only_texts == 0, "what is said once is not only ever said with one emotion"


def test_over_folds_a_speaker_or_clip_counts_once() -> None:
    table = clips(speaker=["s0", "s0", "s1", "s1"], text=["t"] * 4, audio=["a", "a", "b", "c"], emotion=["joy"] * 4)
    audit = leakage.audit(table, [fold("0 2", "1 3"), fold("1 3", "0 2"), fold("0 2", "1 3")])
    assert (audit.speakers, audit.shared_speakers, audit.texts, audit.shared_texts) == (2, 2, 1, 1)
    assert (audit.tested, audit.repeated, audit.identical) == (4, 4, 2)
    assert "2 test clips have the very same audio in training: remove the copies." in audit.sentences()
    assert not any("are tested" in sentence for sentence in audit.sentences()), "all of them are"


def test_clips_in_no_part_are_counted() -> None:
    table = clips(speaker=[f"s{n}" for n in range(10)])
    assert (
        "20 % of the clips are in no part of a fold." in leakage.audit(table, [fold("0 1 2 3", "4 5 6 7")]).sentences()
    )
    parts = [fold("0 1 2 3 4", "5 6 7", validation="8"), fold("0 1", "8 9", validation="2")]
    audit = leakage.audit(table, parts)
    assert [found.left_out for found in audit.folds] == [1, 5]
    assert "10 to 50 % of the clips are in no part of a fold." in audit.sentences()
    assert [(found.train, found.validation, found.test) for found in audit.folds] == [(5, 1, 3), (2, 1, 2)]


def test_a_voice_type_is_called_that() -> None:
    audit = leakage.audit(clips(speaker=["male", "female"] * 2), [fold("0 1", "2 3")], speaker_kind="voice type")
    assert "2 of 2 test voice types are also in training" in audit.sentences()[0]


def test_statistics_fitted_on_test_clips_are_a_leak() -> None:
    table = clips(speaker=["s0"] * 4)
    parts = [fold("0 1", "2 3")]
    good = leakage.audit(table, parts, fitted={"normalisation": [["c0", "c1"]]})
    bad = leakage.audit(table, parts, fitted={"normalisation": [["c0", "c1", "c2"]]})
    assert good.fitted == {"normalisation": 0} and "training part only" in " ".join(good.sentences())
    assert bad.fitted == {"normalisation": 1} and "this leaks" in " ".join(bad.sentences())
    with pytest.raises(SplitError, match="1 folds"):
        leakage.audit(table, parts, fitted={"normalisation": []})


def test_a_fold_of_other_clips_is_refused() -> None:
    with pytest.raises(SplitError, match="c9"):
        leakage.audit(clips(speaker=["s0"] * 4), [fold("0 9", "1")])


def test_an_emotion_that_a_fold_does_not_test_is_named() -> None:
    audit = leakage.audit(clips(speaker=["s0"] * 4), [fold("0 1 3", "2")])
    assert audit.folds[0].absent == ("fear",)
    assert "1 of 1 fold tests no clip of some emotion (fear)" in " ".join(audit.sentences())
    two = leakage.audit(clips(speaker=["s0"] * 4), [fold("0 1 3", "2"), fold("0 2", "1 3"), fold("0 1", "2 3")])
    assert "2 of 3 folds test no clip of some emotion (anger, fear)" in " ".join(two.sentences())


def test_it_goes_into_json(emodb_dir) -> None:
    from serfuse import corpora

    corpus = corpora.get("emodb")(emodb_dir)
    table = pd.DataFrame(
        [{"id": c.id, "emotion": c.emotion, "speaker": c.speaker, "text": c.text, "audio": c.id} for c in corpus.clips]
    )
    for method, shared in (("random", 10), ("loso", 0), ("speaker", 0)):
        audit = leakage.audit(table, folds.split(table, method, folds=5, seed=0))
        assert (audit.speakers, audit.shared_speakers) == (10, shared), method
        again = json.loads(json.dumps(audit.to_dict()))
        assert again["sentences"] == audit.sentences()
