"""Run the sensible candidates, choose among them without looking at what is tested, and say what to use."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from .. import metrics
from ..atomic_io import write_text
from ..errors import ConfigError, RunError
from ..experiment.config import configure
from ..experiment.dataset import load_dataset, only_corpus
from ..progress import Observer
from ..store import EmbeddingStore, StorePath
from .candidates import FUSIONS, candidates, of_store
from .study import Study
from .verdict import Recommendation, conclude

BUDGET = 600.0
"""Seconds after which no further fusion is begun."""

FILE = "recommendation.json"


def recommend(
    store: EmbeddingStore | StorePath | str,
    corpus: str | None = None,
    *,
    inputs: Sequence[str] = (),
    split: str = "loso",
    folds: int = 5,
    seed: int = 0,
    metric: str = "accuracy",
    fusions: Sequence[str] = FUSIONS,
    budget: float = BUDGET,
    out: Path | str | None = None,
    observer: Observer | None = None,
) -> Recommendation:
    """Say which representations and which fusion to use on a corpus.

    Every candidate is cross-validated. For each fold, the best candidate is then chosen anew by predictions for that
    fold's training clips only (`inner`), and what the chosen one says of the fold's test clips is counted: so the
    figures hold for somebody who chooses as this function does, and do not grow with the number of candidates.

    Args:
        store: the store, or its folder.
        corpus: name in the store; may be left out when it holds one.
        inputs: two to eight representations, as for `data.a`; by default all that the store holds,
            which must be no more than eight: none is left out unasked.
        split: name of the split.
        folds: for splits that take a number.
        seed: decides folds, initial weights and shuffling.
        metric: what is chosen by.
        fusions: models of two or more representations, tried in this order.
        budget: seconds after which no further fusion is begun. What is there is kept: the same call with more goes on.
        out: folder of the runs and of what was predicted inside training parts; by default
            `recommendations/CORPUS-SPLIT`.
        observer: hears of each candidate.

    Raises:
        ConfigError: fewer than two representations or more than eight, or a model that does not fuse.
        StoreError: the store does not hold what is asked for.
        SplitError: the clips cannot be split as asked, or into fewer than three folds.
        RunError: a metric without an interval; a model that cannot be trained.
    """
    figure = metrics.METRICS.get(metric)
    if not figure.interval:
        raise RunError(f"{figure.title} has no interval, so nothing can be chosen by it. Choose another metric.")
    store = EmbeddingStore.of(store)
    corpus = corpus or only_corpus(store)
    if not budget >= 0:
        raise ConfigError(f"The time is {budget} seconds; expected a number of at least 0.")
    named = list(inputs) or of_store(store, corpus)
    settings = {"split": split, "folds": folds, "seed": seed}
    listed = candidates(named, fusions)
    whole = load_dataset(configure("concat", inputs=named, corpus=corpus, **settings), store)
    folder = Path(out) if out is not None else Path("recommendations") / f"{corpus}-{split}"
    study = Study(whole, settings, folder, time.monotonic() + budget)
    study.run(listed, observer or Observer())
    found = conclude(study, listed, figure, store)
    write_text(folder / FILE, json.dumps(found.to_dict(), indent=1))
    return found
