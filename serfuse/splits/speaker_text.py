"""Neither the speaker nor the text of a test clip in training."""

from pathlib import Path

import numpy as np

from .base import ClipTable, Parts, SplitMethod
from .grouping import by_group


def _speaker_text(table: ClipTable, folds: int, seed: int, folder: Path | None) -> list[Parts]:
    # One fold per pair (block of speakers, block of texts). The pairs tile the corpus, so every clip is
    # tested exactly once; training takes the clips that share neither block, and those that share one are
    # left out of that fold.
    rng = np.random.default_rng([seed, 0])
    speaker = by_group(table, "speaker", folds, rng, "speaker-text")
    text = by_group(table, "text", folds, rng, "speaker-text")
    result = []
    for i in range(folds):
        for j in range(folds):
            test = np.flatnonzero((speaker == i) & (text == j))
            if len(test):
                result.append(Parts(np.flatnonzero((speaker != i) & (text != j)), test))
    return result


SPEAKER_TEXT = SplitMethod(
    "speaker-text",
    "neither a test speaker nor a test text in training; folds x folds rounds",
    _speaker_text,
    needs=("speaker", "text"),
    apart=("speaker", "text"),
)
