"""Figures of merit against scikit-learn, and what happens where they are not defined."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from serfuse import metrics
from serfuse.errors import RunError
from serfuse.metrics.base import Counts, Metric

SCORES = ("accuracy", "macro_f1", "uar", "weighted_f1")
CLASSES = ["anger", "fear", "neutral"]


def draw(clips: int = 60, seed: int = 0, skill: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, clips)
    logits = rng.normal(size=(clips, 3)) + skill * np.eye(3)[truth]
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = np.asarray(CLASSES)
    return names[truth], names[rows.argmax(axis=1)], rows


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_evaluate_equals_scikit_learn(seed: int) -> None:
    labels, predicted, rows = draw(seed=seed)
    found = metrics.evaluate(labels, predicted, rows, CLASSES)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert found["uar"] == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    assert found["weighted_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="weighted"))
    assert found["log_loss"] == pytest.approx(sk.log_loss(labels, rows, labels=CLASSES))
    np.testing.assert_array_equal(found["confusion"], sk.confusion_matrix(labels, predicted, labels=CLASSES))
    for number, name in enumerate(CLASSES):
        assert found["per_class"][name]["support"] == (labels == name).sum()
        recall = sk.recall_score(labels, predicted, labels=CLASSES, average=None)[number]
        assert found["per_class"][name]["recall"] == pytest.approx(recall)


def counted(confusion: np.ndarray) -> Counts:
    diagonal = np.diagonal(confusion, axis1=-2, axis2=-1)
    return Counts.of_sums(np.concatenate([diagonal, confusion.sum(axis=-1), confusion.sum(axis=-2)], axis=-1))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_bootstraps_scores_are_the_same_figures(seed: int) -> None:
    labels, predicted, _ = draw(seed=seed)
    matrix = sk.confusion_matrix(labels, predicted, labels=CLASSES).astype(float)
    counts = counted(np.stack([matrix, 2 * matrix]))
    slow = metrics.evaluate(labels, predicted, None, CLASSES)
    for name in SCORES:
        np.testing.assert_allclose(metrics.METRICS.get(name).of_counts(counts), slow[name])


def test_a_class_that_is_not_there_is_left_out_rather_than_zero() -> None:
    labels, predicted = ["anger", "anger", "fear"], ["anger", "neutral", "fear"]
    found = metrics.evaluate(labels, predicted, None, CLASSES)
    assert found["absent"] == ["neutral"]
    assert found["uar"] == pytest.approx((0.5 + 1.0) / 2)
    assert found["per_class"]["neutral"]["recall"] is None
    assert found["log_loss"] is None and found["ece"] is None
    counts = counted(np.array(found["confusion"], float))
    for name in ("uar", "macro_f1"):
        assert metrics.METRICS.get(name).of_counts(counts) == pytest.approx(found[name])


def test_columns_may_stand_in_any_order() -> None:
    """scikit-learn's log loss takes them to be sorted."""
    labels, predicted, rows = draw()
    turned = metrics.evaluate(labels, predicted, rows[:, ::-1], CLASSES[::-1])
    sorted_ = metrics.evaluate(labels, predicted, rows, CLASSES)
    for name in metrics.METRICS.own_names():
        assert turned[name] == pytest.approx(sorted_[name])
    frame = table()
    found = metrics.summarize(frame, CLASSES[::-1])
    assert found["intervals"]["log_loss"] == pytest.approx(metrics.summarize(frame, CLASSES)["intervals"]["log_loss"])


def test_calibration_error_by_hand() -> None:
    """Two clips at 0.9, one wrong: |0.5 - 0.9|; two at 0.6, both right: |1 - 0.6|; each bin holds half of them."""
    rows = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    found = metrics.calibration_error(["a", "b", "a", "a"], rows, ["a", "b"])
    assert found == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


def test_a_perfectly_calibrated_forecast_has_little_error() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(3), 20000)
    labels = np.asarray(CLASSES)[(rows.cumsum(axis=1) > rng.random((20000, 1))).argmax(axis=1)]
    assert metrics.calibration_error(labels, rows, CLASSES) < 0.015


@pytest.mark.parametrize(
    ("labels", "predicted", "rows", "says"),
    [
        ([], [], None, "no predictions"),
        (["anger"], [], None, "expected one for each"),
        (["joy"], ["anger"], None, "joy"),
        (["anger"], ["anger"], [[0.5, 0.5]], "shape"),
        (["anger"], ["anger"], [[0.2, 0.2, 0.2]], "expected 1"),
        (["anger"], ["anger"], [[np.nan, 0.5, 0.5]], "1 of 1 rows of probabilities hold values that are not finite"),
        (["anger"], ["anger"], [[-0.5, 1.0, 0.5]], "1 of 1 rows .* are negative"),
    ],
)
def test_nonsense_is_refused(labels, predicted, rows, says: str) -> None:
    with pytest.raises(RunError, match=says):
        metrics.evaluate(labels, predicted, None if rows is None else np.array(rows), CLASSES)


def table(seed: int = 0, speakers: int = 6, folds: int = 5, clips: int = 120) -> pd.DataFrame:
    labels, predicted, rows = draw(clips, seed)
    number = np.arange(clips)
    frame = pd.DataFrame(
        {"clip": [f"c{n:03}" for n in number], "speaker": [f"s{n % speakers}" for n in number], "fold": number % folds}
    )
    frame["repeat"], frame["label"], frame["predicted"] = 0, labels, predicted
    frame[[f"p_{name}" for name in CLASSES]] = rows
    return frame


def test_summary_over_folds_and_pooled() -> None:
    frame = table()
    found = metrics.summarize(frame, CLASSES)
    by_fold = [(part["label"] == part["predicted"]).mean() for _, part in frame.groupby("fold")]
    assert found["mean"]["accuracy"] == pytest.approx(np.mean(by_fold))
    assert found["std"]["accuracy"] == pytest.approx(np.std(by_fold, ddof=1))
    assert found["pooled"]["accuracy"] == pytest.approx((frame["label"] == frame["predicted"]).mean())
    assert [fold["fold"] for fold in found["folds"]] == list(range(5))
    assert found["interval"]["unit"] == "speaker" and found["interval"]["clusters"] == 6
    for name in (*SCORES, "log_loss"):
        bounds = found["intervals"][name]
        assert bounds["low"] < found["pooled"][name] < bounds["high"], name
    assert found["intervals"]["ece"] == {"low": None, "high": None}, "its bootstrap does not cover"


def test_the_order_of_rows_does_not_matter_and_the_seed_repeats() -> None:
    frame = table()
    one = metrics.summarize(frame, CLASSES, seed=1)
    two = metrics.summarize(frame.sample(frac=1, random_state=3), CLASSES, seed=1)
    for name in SCORES:
        assert one["intervals"][name]["low"] == pytest.approx(two["intervals"][name]["low"], abs=1e-12)
    assert metrics.summarize(frame, CLASSES, seed=2)["intervals"]["uar"] != one["intervals"]["uar"]


def test_speakers_unknown_or_only_one_fall_back_to_clips_and_say_so() -> None:
    unknown = table()
    unknown.loc[3, "speaker"] = ""  # as a table read from CSV without missing values has it
    for frame in (table().drop(columns="speaker"), table(speakers=1), table().assign(speaker=None), unknown):
        found = metrics.summarize(frame, CLASSES)["interval"]
        assert found["unit"] == "clip" and "too narrow" in found["note"]


def test_the_note_says_what_was_drawn_and_when_that_is_little() -> None:
    def note(speakers: int, **settings) -> str:
        return metrics.summarize(table(speakers=speakers), CLASSES, **settings)["interval"]["note"]

    assert note(6) == "95 % intervals: bootstrap over 6 speakers."
    assert note(5, speaker_kind="voice type", confidence=0.9) == (
        "90 % intervals: bootstrap over 5 voice types. With so few voice types they are wide."
    )


def test_one_clip_has_figures_and_no_interval() -> None:
    found = metrics.summarize(table().iloc[:1], CLASSES)
    assert found["pooled"]["clips"] == 1 and found["std"]["accuracy"] is None
    assert found["intervals"]["accuracy"] == found["intervals"]["log_loss"] == {"low": None, "high": None}
    assert found["intervals"]["per_class"] == {name: {"low": None, "high": None} for name in CLASSES}


def test_a_class_that_some_speakers_lack_has_the_interval_of_those_that_have_it() -> None:
    """Draws without any clip of the class say nothing about its recall."""
    frame = table()
    frame = frame[(frame["label"] != "fear") | frame["speaker"].isin(["s0", "s1"])]
    bounds = metrics.summarize(frame, CLASSES)["intervals"]["per_class"]["fear"]
    assert 0 <= bounds["low"] < metrics.summarize(frame, CLASSES)["pooled"]["per_class"]["fear"]["recall"]
    assert np.isfinite([bounds["low"], bounds["high"]]).all()


def test_a_missing_column_is_named() -> None:
    with pytest.raises(RunError, match="predicted"):
        metrics.summarize(table().drop(columns="predicted"), CLASSES)


def test_certainty_is_not_claimed_where_all_is_right() -> None:
    frame = table()
    frame["predicted"] = frame["label"]
    bounds = metrics.summarize(frame, CLASSES)["intervals"]["accuracy"]
    assert bounds["low"] < 0.99 and bounds["high"] == pytest.approx(1.0)


@pytest.fixture
def plain_accuracy() -> Iterator[Metric]:
    """Accuracy as another package would give it: only how it is measured."""
    mine = Metric("mine", "mine", lambda labels, predicted, present: (labels == predicted).mean())
    metrics.METRICS.register("mine", mine)
    yield mine
    metrics.METRICS.unregister("mine")


def test_a_metric_without_a_form_for_many_draws_has_nearly_the_same_interval(plain_accuracy: Metric) -> None:
    found = metrics.summarize(table(), CLASSES)
    assert found["pooled"]["mine"] == found["pooled"]["accuracy"] and found["mean"]["mine"] == found["mean"]["accuracy"]
    mine, usual = found["intervals"]["mine"], found["intervals"]["accuracy"]
    width = usual["high"] - usual["low"]
    assert abs(mine["low"] - usual["low"]) < 0.15 * width and abs(mine["high"] - usual["high"]) < 0.15 * width
    assert mine != usual, "it is drawn less often"


def test_a_plain_metric_is_neither_bounded_nor_in_per_cent() -> None:
    mine = Metric("mine", "mine", lambda labels, predicted, present: 50 * (labels == predicted).mean(), unit="plain")
    metrics.METRICS.register("mine", mine)
    try:
        found = metrics.summarize(table(), CLASSES)
    finally:
        metrics.METRICS.unregister("mine")
    bounds = found["intervals"]["mine"]
    assert 1 < bounds["low"] < found["pooled"]["mine"] < bounds["high"]
    assert (mine.shown(0.5), mine.shown(-0.5, sign=True), mine.shown_range(1, None)) == ("0.500", "-0.500", "-")
    assert metrics.METRICS.get("uar").shown(0.5) == "50.0" and mine.shown("<b>") == mine.shown(float("nan")) == "-"


def test_a_metric_that_fails_is_a_warning_and_the_others_are_there(caplog) -> None:
    def fails(labels, predicted, present) -> float:
        raise RuntimeError("no luck")

    metrics.METRICS.register("mine", Metric("mine", "mine", fails))
    try:
        found = metrics.summarize(table(), CLASSES)
    finally:
        metrics.METRICS.unregister("mine")
    assert found["pooled"]["mine"] is None and found["intervals"]["mine"] == {"low": None, "high": None}
    assert found["pooled"]["accuracy"] == metrics.summarize(table(), CLASSES)["pooled"]["accuracy"]
    assert "The metric 'mine' failed: RuntimeError: no luck" in caplog.text


def test_a_metric_in_a_file_that_is_not_known_here_is_shown_as_it_is() -> None:
    strange = metrics.of_file("strange")
    assert (strange.title, strange.shown(0.25)) == ("strange", "0.250")
    assert metrics.of_file("uar") is metrics.METRICS.get("uar")
