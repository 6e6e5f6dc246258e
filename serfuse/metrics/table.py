"""The figures of merit by name.

Adding one is a file in this folder and a line in this table; from another package the same `Metric` under an entry
point of the group `serfuse.metrics` (docs/extending.md).
"""

from collections.abc import Iterable
from contextlib import suppress

from ..errors import ExtensionError
from ..registry import Registry
from .base import Metric

# Keys that stand beside the figures in metrics.json.
_RESERVED = ("absent", "clips", "confusion", "fold", "per_class", "repeat")

METRICS: Registry[Metric] = Registry(
    "metric",
    [
        ("accuracy", "serfuse.metrics.accuracy:ACCURACY"),
        ("macro_f1", "serfuse.metrics.macro_f1:MACRO_F1"),
        ("uar", "serfuse.metrics.uar:UAR"),
        ("weighted_f1", "serfuse.metrics.weighted_f1:WEIGHTED_F1"),
        ("log_loss", "serfuse.metrics.log_loss:LOG_LOSS"),
        ("ece", "serfuse.metrics.calibration:ECE"),
    ],
    group="serfuse.metrics",
    expects=Metric,
    reserved=_RESERVED,
)


def measured(further: Iterable[str] = ()) -> list[Metric]:
    """List what every set of predictions is measured by: serfuse's own, those registered here, and `further`.

    Those of installed packages are measured where they are named: what a result holds does not depend on what happens
    to be installed.

    Raises:
        UnknownNameError: no such metric.
        ExtensionError: one of `further` comes from a package that is broken.
    """
    return [METRICS.get(name) for name in dict.fromkeys([*METRICS.own_names(), *further])]


def of_file(name: str) -> Metric:
    """Find the metric behind a name in a file; one that is not installed here, or is broken, is shown as it is."""
    if name in METRICS:
        with suppress(ExtensionError):
            return METRICS.get(name)
    return Metric(name, name, lambda labels, given, classes: float("nan"), unit="plain")
