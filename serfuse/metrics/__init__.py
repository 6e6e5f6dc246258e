"""Figures of merit: per fold, over folds, and pooled over all held-out clips with intervals.

A class of which a part has no clip is left out of that part's averages over classes: its recall is 0/0 and
so not defined, and counting it as 0 (or 1) would make the figure depend on how the clips fell into folds.
scikit-learn's `balanced_accuracy_score` does the same; macro-F1 averages over the same classes.
"""

from .base import Metric, Tested
from .bootstrap import Bootstrap, quick_value, value
from .calibration import calibration_error
from .evaluation import evaluate, tested_on
from .probabilities import probability_columns
from .summary import interval_note, summarize
from .table import METRICS, measured, of_file

__all__ = [
    "METRICS",
    "Bootstrap",
    "Metric",
    "Tested",
    "calibration_error",
    "evaluate",
    "interval_note",
    "measured",
    "of_file",
    "probability_columns",
    "quick_value",
    "summarize",
    "tested_on",
    "value",
]
