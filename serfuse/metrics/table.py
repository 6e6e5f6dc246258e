"""The figures of merit by name. Adding one is a file in this folder and a line in one of these tables."""

from ..registry import Registry
from .base import Loss, Score

SCORES: Registry[Score] = Registry(
    "score",
    [
        ("accuracy", "serfuse.metrics.accuracy:ACCURACY"),
        ("macro_f1", "serfuse.metrics.macro_f1:MACRO_F1"),
        ("uar", "serfuse.metrics.uar:UAR"),
        ("weighted_f1", "serfuse.metrics.weighted_f1:WEIGHTED_F1"),
    ],
)
LOSSES: Registry[Loss] = Registry(
    "loss",
    [
        ("log_loss", "serfuse.metrics.log_loss:LOG_LOSS"),
        ("ece", "serfuse.metrics.calibration:ECE"),
    ],
)
