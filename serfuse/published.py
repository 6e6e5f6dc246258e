"""The results printed in the two papers, as data.

`serfuse/data/published_results.csv` holds Tables 1 and 2 of "HYFuse: Aligning Heterogeneous Speech Pre-Trained
Representations in Hyperbolic Space for Speech Emotion Recognition" and of "PARROT: Synergizing Mamba and
Attention-based SSL Pre-Trained Models via Parallel Branch Hadamard Optimal Transport for Speech Emotion Recognition".
Scores are in per cent, as printed ("average of five folds").
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from . import models


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


@cache
def results() -> tuple[Published, ...]:
    """All printed results, in the papers' order."""
    text = (resources.files("serfuse.data") / "published_results.csv").read_text("utf-8")
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
        for row in csv.DictReader(text.splitlines())
    )


def find(corpus: str, model: str, encoder_a: str, encoder_b: str | None = None) -> list[Published]:
    """The printed results of a serfuse model; the order of two encoders does not matter.

    A model such as `fcn` stands in both papers, so there may be two.
    """
    pair = {encoder_a, encoder_b or ""}
    published_as = models.get(model).published_as
    return [
        row
        for row in results()
        if row.corpus == corpus and (row.paper, row.model) in published_as and {row.encoder_a, row.encoder_b} == pair
    ]
