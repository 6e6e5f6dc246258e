"""Paired comparison of runs: right statistics, honest level, and no comparison of what cannot be paired."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from serfuse import metrics
from serfuse.errors import RunError, UnknownNameError
from serfuse.metrics import paired_tests
from serfuse.runs import compare
from serfuse.runs.compare import Comparison, Pair

CLASSES = ("a", "b", "c")


def run(accuracy: float, seed: int = 0, *, clips: int = 200, speakers: int = 10, spread: float = 0.0) -> pd.DataFrame:
    """Predictions that are right with this probability, which differs between speakers by `spread`."""
    base = np.random.default_rng(99)
    labels = base.choice(CLASSES, clips)
    rng = np.random.default_rng(seed)
    speaker = np.arange(clips) % speakers
    chance = np.clip(accuracy + spread * rng.normal(size=speakers)[speaker], 0, 1)
    right = rng.random(clips) < chance
    others = np.array([[c for c in CLASSES if c != label] for label in labels])
    wrong = others[np.arange(clips), rng.integers(0, len(CLASSES) - 1, size=clips)]
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


def test_the_best_run_and_its_pairs() -> None:
    found = compare.compare([run(0.7, 1), run(0.9, 2), run(0.6, 3)], names=["one", "two", "three"])
    assert found.best == "two"
    assert [(pair.a, pair.b) for pair in found.pairs_of("two")] == [("one", "two"), ("two", "three")]
    assert len(found.sentences()) == 3 and len(found.sentences(found.pairs_of("two"))) == 2


def test_equal_predictions_are_called_equal() -> None:
    found = compare.compare([run(0.8, 1), run(0.8, 1)])
    assert "the same predictions" in found.sentences()[0]
    assert found.pairs[0].p == 1.0 and found.pairs[0].p_mcnemar == 1.0


@pytest.mark.slow
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


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "uar", "weighted_f1"])
def test_each_run_has_the_figure_and_the_interval_that_it_has_alone(metric: str) -> None:
    tables = [run(0.8, 1), run(0.7, 2)]
    found = compare.compare(tables, names=["one", "two"], metric=metric)
    assert [score.name for score in found.runs] == ["one", "two"]
    for score, table in zip(found.runs, tables, strict=True):
        alone = metrics.summarize(table, CLASSES)
        assert score.value == pytest.approx(alone["pooled"][metric])
        assert score.low == pytest.approx(alone["intervals"][metric]["low"])
        assert score.high == pytest.approx(alone["intervals"][metric]["high"])
        assert score.low < score.value < score.high
    assert found.pairs[0].difference == pytest.approx(found.runs[0].value - found.runs[1].value)


def test_runs_are_compared_by_what_needs_probabilities_and_is_better_when_lower() -> None:
    tables = [run(0.8, 1), run(0.7, 2)]
    for table, sure in zip(tables, (0.9, 0.7), strict=True):
        for name in CLASSES:
            table[f"p_{name}"] = np.where(table["predicted"] == name, sure, (1 - sure) / 2)
    found = compare.compare(tables, names=["one", "two"], metric="log_loss")
    for score, table in zip(found.runs, tables, strict=True):
        alone = metrics.summarize(table, CLASSES)
        assert score.value == pytest.approx(alone["pooled"]["log_loss"])
        assert (score.low, score.high) == pytest.approx(tuple(alone["intervals"]["log_loss"].values()))
    (pair,) = found.pairs
    better, worse = ("one", "two") if pair.difference < 0 else ("two", "one")
    assert found.sentences()[0].startswith(f"{better} is below {worse} by {abs(pair.difference):.3f} (95 % interval ")
    with pytest.raises(RunError, match="log loss needs probabilities, and the predictions of run 1 hold none"):
        compare.compare([run(0.8, 1), run(0.7, 2)], metric="log_loss")
    with pytest.raises(RunError, match="calibration error has no interval"):
        compare.compare(tables, metric="ece")


def test_counts_and_the_t_test_by_hand() -> None:
    one, two = run(0.8, 1), run(0.7, 2)
    right = [(table["label"] == table["predicted"]).to_numpy() for table in (one, two)]
    (pair,) = compare.compare([one, two]).pairs
    assert pair.only_a == (right[0] & ~right[1]).sum() and pair.only_b == (~right[0] & right[1]).sum()
    assert pair.same == (one["predicted"] == two["predicted"]).mean()
    folds = [right[0][one["fold"] == k].mean() - right[1][one["fold"] == k].mean() for k in range(5)]
    assert (pair.t, pair.p_t) == pytest.approx(paired_tests.corrected_resampled_t(folds, 40 / 160))
    again = [pd.concat([table, table.assign(repeat=1, predicted=table["label"])]) for table in (one, two)]
    (first,) = compare.compare(again).pairs
    assert (first.only_a, first.only_b) == (pair.only_a, pair.only_b), "McNemar's test is about one repeat"


def test_the_confidence_decides_the_intervals_and_the_level() -> None:
    usual, loose = (compare.compare([run(0.8, 1), run(0.72, 2)], confidence=level) for level in (0.95, 0.9))
    assert loose.pairs[0].high - loose.pairs[0].low < usual.pairs[0].high - usual.pairs[0].low
    assert loose.pairs[0].p == pytest.approx(usual.pairs[0].p)
    assert "(90 % interval" in loose.sentences()[0] and "at 10 %" in loose.sentences()[0]


@pytest.mark.parametrize(
    ("changes", "pairs", "says"),
    [
        ({}, 1, "x is above y by 5.0 points (95 % interval 1.0 to 9.0): distinguishable at 5 %."),
        ({}, 3, "distinguishable at 5 %, also after Holm's correction for 3 pairs."),
        ({"holm": 0.06}, 3, "distinguishable at 5 % alone, but not after Holm's correction for 3 pairs."),
        ({"p": 0.2, "holm": 0.2}, 1, "not distinguishable at 5 %."),
        ({"p_t": 0.3}, 1, "distinguishable at 5 %; the corrected t-test, which knows"),
        ({"p_t": None}, 1, "distinguishable at 5 %; the corrected t-test, which knows"),
        ({"p": 0.2, "holm": 0.2, "p_t": 0.01}, 1, "not distinguishable at 5 %."),
        (
            {"difference": -0.05, "low": -0.09, "high": -0.01},
            1,
            "y is above x by 5.0 points (95 % interval 1.0 to 9.0)",
        ),
        ({"difference": 0.0, "low": -0.03, "high": 0.02, "p": 1.0, "holm": 1.0}, 1, "x is level with y (95 % int"),
        (
            {"low": None, "high": None, "p": None, "holm": None},
            1,
            "by 5.0 points of accuracy; one cluster gives no int",
        ),
        ({"same": 1.0}, 1, "x and y give the same predictions for all 100 clips."),
    ],
)
def test_the_verdict_says_what_the_figures_say(changes: dict, pairs: int, says: str) -> None:
    figures = {
        "difference": 0.05,
        "low": 0.01,
        "high": 0.09,
        "p": 0.02,
        "holm": 0.02,
        "same": 0.8,
        "p_t": 0.03,
        **changes,
    }
    holm = {"p": figures.pop("holm"), "p_mcnemar": 0.5, "p_t": 0.5}
    pair = Pair(a="x", b="y", only_a=9, only_b=4, p_mcnemar=0.3, t=1.0, rounds=5, holm=holm, **figures)
    whole = Comparison("accuracy", 0.95, (), (pair,) * pairs, 100, 1, 10, "speaker", ())
    assert says in whole.sentences()[0]


def test_the_notes_say_what_the_figures_rest_on() -> None:
    def notes(*tables: pd.DataFrame) -> str:
        return " ".join(compare.compare(tables).notes)

    one, two = run(0.8, 1), run(0.7, 2)
    usual = notes(one, two)
    assert "bootstrap over 10 speakers" in usual and "McNemar's test counts clips as independent" in usual
    assert "first of" not in usual and "No folds.csv" in usual
    nobody = notes(one.assign(speaker=None), two.drop(columns="speaker"))
    assert "bootstrap over 200 clips" in nobody and "McNemar" not in nobody, "clips are what is drawn"
    twice = notes(*(pd.concat([table, table.assign(repeat=1)]) for table in (one, two)))
    assert "first of 2 repeats" in twice
    assert "needs at least two folds" in notes(one.assign(fold=0), two.assign(fold=0))


def test_other_validation_parts_give_the_same_t_test_both_ways(write_run, tmp_path: Path) -> None:
    """What early stopping looks at is the model's affair; the ratio of the t-test is that of the smaller training."""
    for name, table, validates in (("one", run(0.8, 1), 0), ("two", run(0.7, 2), 40)):
        parts = [table.assign(part="test")]
        for fold in range(5):
            rest = table[table["fold"] != fold].assign(fold=fold, part="train")
            rest.iloc[:validates, rest.columns.get_loc("part")] = "validation"
            parts.append(rest)
        write_run(tmp_path / name, table, parts=pd.concat(parts)[["repeat", "fold", "clip", "part"]])
    (there,) = compare.compare([tmp_path / "one", tmp_path / "two"]).pairs
    (back,) = compare.compare([tmp_path / "two", tmp_path / "one"]).pairs
    assert there.p_t == pytest.approx(back.p_t)
    folds = [a - b for a, b in zip(*(by_fold(run(*model)) for model in ((0.8, 1), (0.7, 2))), strict=True)]
    assert there.t == pytest.approx(paired_tests.corrected_resampled_t(folds, 40 / 120)[0])


@pytest.mark.slow
def test_what_a_run_warns_of_is_said_once_where_it_holds_for_all(write_run, tmp_path: Path) -> None:
    drawn = "hubert has random weights: the figures say nothing about the published model."
    one = write_run(tmp_path / "one", run(0.8, 1), weights="random:0")
    two = write_run(tmp_path / "two", run(0.7, 2), weights="random:1")
    other = write_run(tmp_path / "other", run(0.6, 3))
    assert f"WARNING: {drawn}" in compare.compare([one, two]).notes
    assert f"WARNING: one, two: {drawn}" in compare.compare([one, other, two]).notes
    assert not any("random weights" in note for note in compare.compare([other, run(0.7)]).notes)


def by_fold(table: pd.DataFrame) -> list[float]:
    return (table["label"] == table["predicted"]).groupby(table["fold"]).mean().tolist()


@pytest.mark.slow
def test_the_test_keeps_its_level_under_the_null() -> None:
    """Two models as good as each other whose speakers differ: 5 % of the verdicts may be wrong, no more."""
    verdicts, mcnemar, resampled, runs = 0, 0, 0, 400
    for seed in range(runs):
        one = run(0.75, 10_000 + seed, spread=0.12)
        two = run(0.75, 20_000 + seed, spread=0.12)
        (pair,) = compare.compare([one, two], draws=300).pairs
        verdicts += pair.p < 0.05
        mcnemar += pair.p_mcnemar < 0.05
        resampled += pair.p_t < 0.05
    # 400 rounds at a true level of 5 % give 2.8 to 7.2 % (two standard errors).
    assert 0.028 <= verdicts / runs <= 0.072
    assert resampled / runs <= 0.072
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
    with pytest.raises(UnknownNameError, match="accuracy, macro_f1, uar"):
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
