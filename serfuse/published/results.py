"""The results printed in the two papers, as data.

`serfuse/published/results.csv` holds Tables 1 and 2 of HYFuse and of PARROT, in per cent, as printed ("average of
five folds"); `serfuse/published/sources.csv` says who published them, and where.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from .. import models


@dataclass(frozen=True)
class Published:
    """One printed result.

    Attributes:
        paper: "hyfuse" or "parrot".
        table: 1 or 2.
        corpus, model, encoder_a, encoder_b: as printed, in serfuse's names; `encoder_b` is "" for one representation.
        accuracy: per cent.
        macro_f1: per cent.
    """

    paper: str
    table: int
    corpus: str
    model: str
    encoder_a: str
    encoder_b: str
    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class Source:
    """A paper that results were printed in.

    Attributes:
        paper: "hyfuse" or "parrot".
        name: how the paper calls its method.
        authors: with commas, as printed.
        title: of the paper.
        where: it can be found.
    """

    paper: str
    name: str
    authors: str
    title: str
    where: str

    @property
    def short(self) -> str:
        """For a note under a table: "HYFuse (Phukan et al., arXiv:2506.03403)"."""
        first = self.authors.partition(",")[0].split()[-1]
        return f"{self.name} ({first} et al., {self.where})"


@cache
def sources() -> dict[str, Source]:
    """The papers by their short names."""
    return {row["paper"]: Source(**row) for row in _rows("sources.csv")}


@cache
def results() -> tuple[Published, ...]:
    """All printed results, in the papers' order."""
    return tuple(
        Published(
            row["paper"],
            int(row["table"]),
            row["corpus"],
            row["model"],
            row["encoder_a"],
            row["encoder_b"],
            float(row["accuracy_percent"]),
            float(row["macro_f1_percent"]),
        )
        for row in _rows("results.csv")
    )


def _rows(name: str) -> list[dict[str, str]]:
    text = (resources.files("serfuse.published") / name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def find(corpus: str, model: str, *encoders: str) -> list[Published]:
    """The printed results of a serfuse model; the order of two encoders does not matter.

    A model such as `fcn` stands in both papers, so there may be two. There is none of more than two encoders.
    """
    if len(encoders) > 2:
        return []
    pair = {*encoders, ""} if len(encoders) < 2 else {*encoders}
    published_as = models.get(model).published_as
    return [
        row
        for row in results()
        if row.corpus == corpus and (row.paper, row.model) in published_as and {row.encoder_a, row.encoder_b} == pair
    ]
