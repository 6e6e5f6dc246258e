"""Paired tests of two classifiers: McNemar's over clips, the corrected resampled t-test over folds."""

from collections.abc import Sequence

import numpy as np


def mcnemar(only_a: int, only_b: int) -> float:
    """p of McNemar's exact test for clips that only one of two runs gets right."""
    from statsmodels.stats.contingency_tables import mcnemar as exact

    # The agreeing cells do not enter the exact test.
    return min(float(exact([[0, only_a], [only_b, 0]], exact=True).pvalue), 1.0)


def corrected_resampled_t(differences: Sequence[float], ratio: float) -> tuple[float | None, float | None]:
    """(t, p) of the corrected resampled t-test (Nadeau and Bengio 2003).

    The variance of the mean of J differences is (1 / J + n_test / n_train) times their variance, since the training
    sets of the rounds overlap; plain 1 / J finds differences far too often.

    Args:
        differences: one per round (fold of a repeat).
        ratio: n_test / n_train.

    Returns:
        `(None, None)` for fewer than two rounds, or for equal differences that are not 0; `(0, 1)` where all are 0.
    """
    from scipy import stats

    values = np.asarray(differences, dtype=float)
    rounds = len(values)
    if rounds < 2:
        return None, None
    spread = float(np.var(values, ddof=1))
    if spread < 1e-24:
        return (0.0, 1.0) if abs(values.mean()) < 1e-12 else (None, None)
    t = float(values.mean() / np.sqrt((1 / rounds + ratio) * spread))
    return t, 2 * float(stats.t.sf(abs(t), rounds - 1))
