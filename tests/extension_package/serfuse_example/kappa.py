"""A metric: Cohen's kappa, agreement beyond what chance gives; between -1 and 1, so not in per cent."""

from collections.abc import Sequence

import numpy as np

from serfuse.metrics import Metric


def _measure(labels: np.ndarray, predicted: np.ndarray, present: Sequence[str]) -> float:
    agreed = (labels == predicted).mean()
    names = np.union1d(labels, predicted)
    chance = sum((labels == name).mean() * (predicted == name).mean() for name in names)
    return float("nan") if chance == 1 else float((agreed - chance) / (1 - chance))


KAPPA = Metric("kappa", "Cohen's kappa", _measure, short="kappa", unit="plain")
