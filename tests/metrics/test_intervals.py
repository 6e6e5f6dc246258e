"""The bootstrap over clusters: by hand, against scipy's t-tests, and that its intervals cover."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from serfuse import metrics
from serfuse.errors import RunError
from serfuse.metrics import METRICS, Bootstrap, intervals, quick_value
from serfuse.metrics.base import Counts
from serfuse.metrics.confusion import confusion, tally
from serfuse.metrics.intervals import Clusters


def test_clusters_are_speakers_where_all_are_known_and_differ() -> None:
    found = Clusters.of(["b", "a", "b"], ["c0", "c1", "c2"], "voice type")
    assert (found.codes.tolist(), found.number, found.unit) == ([1, 0, 1], 2, "voice type")


@pytest.mark.parametrize("speakers", [None, ["a", None, "b"], ["a", float("nan"), "b"], ["a", "a", "a"]])
def test_otherwise_they_are_clips(speakers: list | None) -> None:
    found = Clusters.of(speakers, ["y", "x", "y"])
    assert (found.codes.tolist(), found.number, found.unit) == ([1, 0, 1], 2, "clip"), "repeats of a clip are one"


def test_draws_take_as_many_clusters_as_there_are_each_alike_often() -> None:
    weights = intervals.resample(6, 5000, seed=1)
    assert weights.shape == (5000, 6) and set(weights.sum(axis=1)) == {6.0} and weights.min() == 0
    # The count of one cluster is binomial with mean 1 and variance 5/6.
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=4 * np.sqrt(5 / 6 / 5000))
    np.testing.assert_allclose(weights.var(axis=0), 5 / 6, rtol=0.1)
    assert (intervals.resample(6, 50, 1) == intervals.resample(6, 50, 1)).all()
    assert (intervals.resample(6, 50, 1) != intervals.resample(6, 50, 2)).any()


@pytest.mark.parametrize("held", [1 << 22, 50, 1])
def test_sums_of_draws_are_those_of_all_draws_at_once_whatever_memory_they_take(held: int) -> None:
    values = np.random.default_rng(0).integers(0, 9, (7, 4)).astype(float)
    found = intervals.sums(values, 30, seed=3, held=held)
    np.testing.assert_array_equal(found, intervals.resample(7, 30, seed=3) @ values)
    assert intervals.sums(values[:1], 30).tolist() == [values[0].tolist()] * 2, "one cluster is always drawn"


@pytest.mark.parametrize("number", [3, 600_000])
def test_right_true_and_given_labels_are_counted_per_cluster(number: int) -> None:
    codes = np.array([0, 0, 2, 2, 2])
    found = tally(list("aabba"), list("aaaba"), "abc", Clusters(codes, number, "speaker"))
    expected = [[2, 0, 0, 2, 0, 0, 2, 0, 0], [0] * 9, [1, 1, 0, 1, 2, 0, 2, 1, 0]]
    assert (found if number == 3 else found[:3].toarray()).tolist() == expected
    rest = found[3:].sum()
    assert rest == 0 and confusion(list("aabba"), list("aaaba"), "abc") == [[3, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_memory_does_not_grow_with_labels_times_speakers_times_draws() -> None:
    """650 of each in 15 kB of predictions: whole confusion matrices would take 13 GB, those of the speakers 2 GB."""
    names = [f"k{number}" for number in range(650)]
    rng = np.random.default_rng(0)
    predicted = np.where(rng.random(650) < 0.5, names, rng.permutation(names))
    tested = metrics.tested_on(names, predicted, None, names)
    clusters = Clusters.of([f"s{number}" for number in range(650)], names)
    tracemalloc.start()
    try:
        for name in ("accuracy", "uar", "macro_f1"):
            figure = METRICS.get(name)
            low, high = Bootstrap(tested, clusters).interval(figure, quick_value(figure, tested), 650, 0.95)
            assert 0 < low < high < 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 400 << 20


def test_draws_in_pieces_give_the_figures_of_all_draws_at_once() -> None:
    """Against confusion matrices of every draw, as they were counted before."""
    rng = np.random.default_rng(5)
    names = [f"k{number}" for number in range(500)]  # enough for several pieces
    labels, predicted = rng.choice(names[:40], 900), rng.choice(names[:40], 900)
    clusters = Clusters.of([f"s{number}" for number in rng.integers(0, 9, 900)], labels)
    place = {name: number for number, name in enumerate(names)}
    matrices = np.zeros((9, 500, 500))
    np.add.at(matrices, (clusters.codes, [place[k] for k in labels], [place[k] for k in predicted]), 1)
    weights = intervals.resample(9, seed=3)
    whole = weights @ np.diagonal(matrices, axis1=1, axis2=2), weights @ matrices.sum(2), weights @ matrices.sum(1)
    bootstrap = Bootstrap(metrics.tested_on(labels, predicted, None, names), clusters, seed=3)
    assert len(list(bootstrap.counts())) > 1
    for name in ("accuracy", "uar", "weighted_f1"):
        figure = METRICS.get(name)
        expected = figure.of_counts(Counts.of_sums(np.concatenate(whole, axis=1)))
        np.testing.assert_array_equal(bootstrap.of(figure), expected)


def test_one_long_name_does_not_take_its_length_for_every_clip() -> None:
    long = "k" * (1 << 16)
    with pytest.raises(RunError, match="a name of 65536 letters, too many for 8000 predictions"):
        metrics.tested_on(["a"] * 8000, ["a"] * 8000, None, ["a", long])
    assert Clusters.of(["s" * (1 << 20), *["t"] * 8000], ["c"] * 8001).number == 2


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("clusters", [3, 10, 40])
def test_a_difference_of_means_is_what_the_t_test_of_the_clusters_says(clusters: int, confidence: float) -> None:
    means = np.random.default_rng(clusters).normal(0.05, 0.1, clusters)
    draws = intervals.resample(clusters, 40_000) @ means / clusters
    low, high, p = intervals.difference(float(means.mean()), draws, clusters, confidence)
    known = stats.ttest_1samp(means, 0)
    bounds = known.confidence_interval(confidence)
    # The standard error of 40,000 draws is known to 0.4 % (one standard error).
    assert (low, high) == pytest.approx((bounds.low, bounds.high), abs=0.015 * (bounds.high - bounds.low))
    assert p == pytest.approx(known.pvalue, rel=0.1)


def test_an_interval_of_a_share_is_symmetric_in_its_log_odds() -> None:
    clusters, size = 8, 400
    shares = np.random.default_rng(0).uniform(0.6, 0.9, clusters)
    draws = intervals.resample(clusters, 4000) @ shares / clusters
    low, high = intervals.bounded(float(shares.mean()), draws, clusters, size)

    def log_odds(share: float) -> float:
        return np.log((share * size + 0.5) / ((1 - share) * size + 0.5))

    error = np.std(log_odds(draws), ddof=1) * np.sqrt(8 / 7)
    for bound, sign in ((low, -1), (high, 1)):
        reach = stats.t.ppf(0.975, 7) * error
        assert log_odds(bound) == pytest.approx(log_odds(shares.mean()) + sign * reach, abs=1e-9)
    narrow = intervals.bounded(float(shares.mean()), draws, clusters, size, confidence=0.5)
    assert low < narrow[0] < shares.mean() < narrow[1] < high


@pytest.mark.parametrize("estimate", [0.0, 1.0, 0.25])
def test_draws_that_are_all_alike_give_the_exact_binomial_interval(estimate: float) -> None:
    found = intervals.bounded(estimate, np.full(100, estimate), 5, 40)
    known = stats.binomtest(round(40 * estimate), 40).proportion_ci(0.95)
    assert found == pytest.approx((known.low, known.high)) and found[1] - found[0] > 0.05


def test_a_loss_has_its_interval_on_the_log_scale() -> None:
    losses = np.random.default_rng(0).uniform(0.2, 1.5, 12)
    draws = intervals.resample(12, 4000) @ losses / 12
    low, high = intervals.positive(float(losses.mean()), draws, 12)
    reach = stats.t.ppf(0.975, 11) * np.std(np.log(draws), ddof=1) * np.sqrt(12 / 11)
    assert (low, high) == pytest.approx((losses.mean() * np.exp(-reach), losses.mean() * np.exp(reach)))


def test_one_cluster_gives_no_interval() -> None:
    draws = np.full(10, 0.5)
    for found in (
        intervals.bounded(0.5, draws, 1, 20),
        intervals.positive(0.5, draws, 1),
        intervals.difference(0.5, draws, 1),
        intervals.bounded(float("nan"), draws, 5, 20),
        intervals.positive(0.0, draws, 5),
    ):
        assert np.isnan(found).all()
    assert np.isfinite(intervals.difference(0.1, np.array([0.1, 0.2, 0.0]), 2)).all(), "two are enough"


def test_a_difference_stays_between_minus_one_and_one() -> None:
    draws = np.array([-1.0, 1.0] * 50)
    assert intervals.difference(0.9, draws, 2)[:2] == (-1.0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("speakers", [5, 10, 40])
def test_intervals_over_speakers_cover_and_those_over_clips_do_not(speakers: int) -> None:
    """Speakers differ (a standard deviation of 0.9 on the log-odds scale), as on Emo-DB; 50 clips each."""
    rng = np.random.default_rng(speakers)
    per, runs, draws = 50, 400, 500
    # The truth is the accuracy over all speakers there could be.
    truth = float(np.mean(1 / (1 + np.exp(-(1.2 + 0.9 * np.random.default_rng(0).normal(size=400_000))))))
    weights = intervals.resample(speakers, draws, 1)
    hits = {"speaker": 0, "clip": 0}
    for _ in range(runs):
        ability = 1 / (1 + np.exp(-(1.2 + 0.9 * rng.normal(size=speakers))))
        right = rng.binomial(per, ability)
        estimate = right.sum() / (per * speakers)
        low, high = intervals.bounded(estimate, weights @ right / (per * speakers), speakers, per * speakers)
        hits["speaker"] += low <= truth <= high
        spread = 1.96 * np.sqrt(estimate * (1 - estimate) / (per * speakers))
        hits["clip"] += estimate - spread <= truth <= estimate + spread
    assert 0.92 <= hits["speaker"] / runs <= 0.98
    assert hits["clip"] / runs < 0.85


def test_differences_agree_with_their_p() -> None:
    rng = np.random.default_rng(0)
    for centre in (0.0, 0.02, 0.05, 0.2):
        draws = centre + 0.02 * rng.normal(size=2000)
        low, high, p = intervals.difference(centre, draws, 10)
        assert (p < 0.05) == (low > 0 or high < 0)
        assert low < centre < high


def test_no_difference_at_all() -> None:
    assert intervals.difference(0.0, np.zeros(100), 8) == (0.0, 0.0, 1.0)
    assert np.isnan(intervals.difference(0.1, np.full(100, 0.1), 1)).all()


def test_clusters_that_are_all_alike_do_not_make_certainty() -> None:
    """Three voice types with the same accuracy: the interval and p must tell the same story."""
    draws = np.full(100, 0.1)
    low, high, p = intervals.difference(0.1, draws, 3)
    assert p == pytest.approx(0.25) and low < 0 < 0.1 < high
    low, high, p = intervals.difference(0.1, draws, 8)
    assert p < 0.05 and 0 < low < 0.1 < high
    assert intervals.difference(0.0, np.zeros(100), 3) == (0.0, 0.0, 1.0)
    low, high = intervals.bounded(0.8, np.full(100, 0.8), 3, 60)
    assert low < 0.7 and high > 0.87
