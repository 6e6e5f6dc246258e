"""Corpora of emotional speech.

A reader is one file here and one line in `CORPORA`; from another package the same function, `read(root) -> Corpus`,
under an entry point of the group `serfuse.corpora` (docs/extending.md).
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..progress import Observer
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


def read(
    reader: str, data: str | os.PathLike[str], *, name: str | None = None, observer: Observer | None = None
) -> Corpus:
    """Read a corpus. A synthetic one that is not there yet is generated.

    Args:
        reader: a name of `CORPORA`.
        data: its folder, or the file of a table.
        name: what the store will call it; by default the reader's name, for a table that of its file or folder.
        observer: hears of speech that is generated.

    Raises:
        UnknownNameError: no such reader.
        CorpusError: the folder or file does not hold it.
    """
    found, data = get(reader), Path(data)
    if reader == "synthetic" and not (data / "corpus.json").exists():
        from . import synthetic

        synthetic.generate(data, observer=observer)
    corpus = found(data, name=name) if reader == "table" and name else found(data)
    source = {"corpus": reader, "data": str(data.absolute())}
    name = name or corpus.name
    return replace(corpus, name=name, source=source if name == reader else {**source, "name": name})


__all__ = ["CORPORA", "Clip", "Corpus", "get", "names", "read"]
