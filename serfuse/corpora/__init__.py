"""Corpora of emotional speech.

A reader is one file here and one line in `CORPORA`; from another package the same function, `read(root) -> Corpus`,
under an entry point of the group `serfuse.corpora` (docs/extending.md).
"""

from collections.abc import Callable

from ..registry import Registry
from .base import Clip, Corpus

CORPORA: Registry[Callable[..., Corpus]] = Registry(
    "corpus",
    [
        ("cremad", "serfuse.corpora.cremad:read"),
        ("emodb", "serfuse.corpora.emodb:read"),
        ("mesd", "serfuse.corpora.mesd:read"),
        ("table", "serfuse.corpora.table:read"),
        ("synthetic", "serfuse.corpora.synthetic:read"),
    ],
    group="serfuse.corpora",
)

get = CORPORA.get
names = CORPORA.names

__all__ = ["CORPORA", "Clip", "Corpus", "get", "names"]
