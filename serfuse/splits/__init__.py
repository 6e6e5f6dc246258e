"""How clips can be split, by name.

Adding a split is a file in this folder and a line in this table; from another package the same `SplitMethod` under an
entry point of the group `serfuse.splits` (docs/extending.md).
"""

from ..registry import Registry
from .base import ClipTable, Parts, SplitMethod

SPLITS: Registry[SplitMethod] = Registry(
    "split",
    [
        ("random", "serfuse.splits.random:RANDOM"),
        ("speaker", "serfuse.splits.speaker:SPEAKER"),
        ("loso", "serfuse.splits.loso:LOSO"),
        ("loso-all", "serfuse.splits.loso:LOSO_ALL"),
        ("text", "serfuse.splits.text:TEXT"),
        ("speaker-text", "serfuse.splits.speaker_text:SPEAKER_TEXT"),
        ("given", "serfuse.splits.given:GIVEN"),
        ("cremad-tfds", "serfuse.splits.cremad_tfds:CREMAD_TFDS"),
    ],
    group="serfuse.splits",
    expects=SplitMethod,
)
get = SPLITS.get
names = SPLITS.names

__all__ = ["SPLITS", "ClipTable", "Parts", "SplitMethod", "get", "names"]
