"""Paired comparison of runs: right statistics, honest level, and no comparison of what cannot be paired."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from serfuse import compare
from serfuse.errors import RunError

CLASSES = ("a", "b", "c")


def run(accuracy: float, seed: int = 0, *, clips: int = 200, speakers: int = 10, spread: float = 0.0) -> pd.DataFrame:
    """Predictions that are right with this probability, which differs between speakers by `spread`."""
    base = np.random.default_rng(99)
    labels = base.choice(CLASSES, clips)
    rng = np.random.default_rng(seed)
    speaker = np.arange(clips) % speakers
    chance = np.clip(accuracy + spread * rng.normal(size=speakers)[speaker], 0, 1)
    right = rng.random(clips) < chance
    wrong = np.array([rng.choice([c for c in CLASSES if c != label]) for label in labels])
    return pd.DataFrame(
        {
            "clip": [f"c{n:04}" for n in range(clips)],
            "speaker": [f"s{n}" for n in speaker],
            "repeat": 0,
            "fold": np.arange(clips) % 5,
            "label": labels,
            "predicted": np.where(right, labels, wrong),
        }
    )


def test_a_clear_difference_is_found_and_put_into_words() -> None:
    found = compare.compare([run(0.9, 1), run(0.5, 2)], names=["good", "bad"])
    (pair,) = found.pairs
    assert pair.difference > 0.2 and pair.low > 0 and pair.p < 0.001 and pair.p_mcnemar < 0.001 and pair.p_t < 0.05
    (sentence,) = found.sentences()
    assert sentence.startswith("good is above bad by") and "distinguishable at 5 %" in sentence


def test_the_other_way_round_is_the_same_with_the_other_sign() -> None:
    one, two = run(0.8, 1), run(0.7, 2)
    (there,) = compare.compare([one, two]).pairs
    (back,) = compare.compare([two, one]).pairs
    assert back.difference == -there.difference and back.low == pytest.approx(-there.high)
    assert (back.only_a, back.only_b) == (there.only_b, there.only_a)
    assert back.p == pytest.approx(there.p) and back.p_mcnemar == there.p_mcnemar
    assert back.t == pytest.approx(-there.t)


def test_equal_predictions_are_called_equal() -> None:
    found = compare.compare([run(0.8, 1), run(0.8, 1)])
    assert "the same predictions" in found.sentences()[0]
    assert found.pairs[0].p == 1.0 and found.pairs[0].p_mcnemar == 1.0


def test_holm_over_all_pairs() -> None:
    found = compare.compare([run(0.8, 1), run(0.75, 2), run(0.6, 3)])
    assert len(found.pairs) == 3
    raw = [pair.p for pair in found.pairs]
    order = np.argsort(raw)
    expected, worst = [0.0] * 3, 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, (3 - rank) * raw[place]))
        expected[place] = worst
    assert [pair.holm["p"] for pair in found.pairs] == pytest.approx(expected)


@pytest.mark.slow
def test_the_test_keeps_its_level_under_the_null() -> None:
    """Two models as good as each other whose speakers differ: 5 % of the verdicts may be wrong, no more."""
    verdicts, mcnemar, runs = 0, 0, 600
    for seed in range(runs):
        one = run(0.75, 10_000 + seed, spread=0.12)
        two = run(0.75, 20_000 + seed, spread=0.12)
        (pair,) = compare.compare([one, two], draws=300).pairs
        verdicts += pair.p < 0.05
        mcnemar += pair.p_mcnemar < 0.05
    # 600 rounds at a true level of 5 % give 3.2 to 6.8 % (two standard errors).
    assert 0.032 <= verdicts / runs <= 0.068
    assert mcnemar > verdicts, "clips are not independent, and the test that says so finds differences too often"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.assign(fold=(t["fold"] + 1) % 5), "fold"),
        (lambda t: t.iloc[1:], "c0000"),
        (lambda t: t.assign(label=t["label"].replace("a", "b")), "label"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "c0000"),
    ],
)
def test_runs_that_cannot_be_paired_are_refused_saying_where(change, says: str) -> None:
    with pytest.raises(RunError, match=says):
        compare.compare([run(0.8, 1), change(run(0.8, 2))])


def test_one_run_an_unknown_metric_and_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="at least two"):
        compare.compare([run(0.8)])
    with pytest.raises(RunError, match="accuracy, macro_f1, uar"):
        compare.compare([run(0.8), run(0.7)], metric="beauty")
    with pytest.raises(RunError, match="confidence"):
        compare.compare([run(0.8), run(0.7)], confidence=95)
    with pytest.raises(RunError):
        compare.compare([tmp_path, tmp_path])


def test_repeats_over_the_same_folds_are_averaged_and_others_are_rounds() -> None:
    one, two = run(0.8, 1), run(0.7, 2)
    again = [pd.concat([t, t.assign(repeat=1)]) for t in (one, two)]
    assert compare.compare(again).pairs[0].rounds == 5, "leave one speaker out again is no new evidence"
    moved = [pd.concat([t, t.assign(repeat=1, fold=(np.arange(len(t)) * 7 // 3) % 5)]) for t in (one, two)]
    assert compare.compare(moved).pairs[0].rounds == 10
