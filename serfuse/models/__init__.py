"""The models by name.

Adding one is a file in this folder and a line in this table; from another package the same `Model` under an entry point
of the group `serfuse.models` (docs/extending.md).
"""

from ..registry import Registry
from .base import EVERY_SETTING, INPUTS, MAX_INPUTS, Model, Options, Settings

MODELS: Registry[Model] = Registry(
    "model",
    [
        ("svm", "serfuse.models.svm:SVM"),
        ("fcn", "serfuse.models.fcn:FCN"),
        ("cnn", "serfuse.models.cnn:CNN"),
        ("cnn-pooled", "serfuse.models.cnn:CNN_POOLED"),
        ("concat", "serfuse.models.concat:CONCAT"),
        ("concat-pooled", "serfuse.models.concat:CONCAT_POOLED"),
        ("hyfuse", "serfuse.models.hyfuse:HYFUSE"),
        ("hyfuse-symmetric", "serfuse.models.hyfuse:HYFUSE_SYMMETRIC"),
        ("parrot", "serfuse.models.parrot:PARROT"),
        ("experts", "serfuse.models.experts:EXPERTS"),
        ("late", "serfuse.models.late:LATE"),
        ("stacked", "serfuse.models.stacked:STACKED"),
        ("kernel", "serfuse.models.kernel:KERNEL"),
        ("fused", "serfuse.models.late:FUSED"),
    ],
    group="serfuse.models",
    expects=Model,
    offered=lambda model: not model.instead,
)
get = MODELS.get
names = MODELS.names


def describe(name: str) -> str:
    """One line about the model `name`."""
    return get(name).summary


__all__ = [
    "EVERY_SETTING",
    "INPUTS",
    "MAX_INPUTS",
    "MODELS",
    "Model",
    "Options",
    "Settings",
    "describe",
    "get",
    "names",
]
