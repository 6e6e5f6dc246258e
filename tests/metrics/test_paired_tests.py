"""Paired tests against scipy and by hand."""

import numpy as np
import pytest
from scipy import stats

from serfuse.metrics import paired_tests


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (5, 5), (3, 12), (40, 12)])
def test_mcnemar_is_the_exact_binomial_test(b: int, c: int) -> None:
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert paired_tests.mcnemar(b, c) == pytest.approx(min(expected, 1.0))


def test_corrected_resampled_t_by_hand() -> None:
    """Nadeau and Bengio 2003, equation 9, on five differences with a test part a quarter of the training part."""
    values = np.array([0.02, 0.05, 0.01, 0.04, 0.03])
    t, p = paired_tests.corrected_resampled_t(values, 0.25)
    expected = values.mean() / np.sqrt((1 / 5 + 0.25) * values.var(ddof=1))
    assert t == pytest.approx(expected)
    assert p == pytest.approx(2 * stats.t.sf(expected, 4))
    assert p > stats.ttest_1samp(values, 0).pvalue, "the correction makes it harder"
    assert paired_tests.corrected_resampled_t([0.1], 0.25) == (None, None)
    assert paired_tests.corrected_resampled_t([0.0, 0.0], 0.25) == (0.0, 1.0)
