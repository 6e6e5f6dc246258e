"""What a split works on, and what it answers with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class ClipTable:
    """The clips that are to be split, sorted by id.

    Attributes:
        ids: (N,) clip ids.
        labels: (N,) emotions.
        columns: "speaker", "text" and "fold" -> (N,) strings, `None` where unknown.
        stems: (N,) file names without their extension.
        speaker_kind: what the speaker column holds ("voice type" on MESD).
    """

    ids: np.ndarray
    labels: np.ndarray
    columns: dict[str, np.ndarray]
    stems: np.ndarray
    speaker_kind: str

    def name(self, column: str) -> str:
        """Say what a column is called in messages."""
        return self.speaker_kind if column == "speaker" else column


@dataclass(frozen=True)
class Parts:
    """Positions into a `ClipTable`. `validation` is `None` where it is still to be drawn from `train`.

    Attributes:
        train: what is trained on.
        test: what is tested.
        validation: for early stopping.
        note: a sentence, where the split is another than its name says; the audit tells it.
    """

    train: np.ndarray
    test: np.ndarray
    validation: np.ndarray | None = None
    note: str = ""


@dataclass(frozen=True)
class SplitMethod:
    """One way of splitting.

    Attributes:
        name: registry name.
        summary: one line for listings.
        assign: `(table, folds, seed, folder) -> parts`, a fold each; raises `SplitError`.
        needs: the columns that must be known for every clip.
        apart: the columns no value of which stands on both sides; the validation part keeps them apart as
            well. `None`: found out from the folds themselves (`given`).
        reads_folder: a folder of folds can be given in place of the columns.
    """

    name: str
    summary: str
    assign: Callable[[ClipTable, int, int, Path | None], list[Parts]]
    needs: tuple[str, ...] = ()
    apart: tuple[str, ...] | None = ()
    reads_folder: bool = False


def one_part_each(part: np.ndarray, folds: int, note: str = "") -> list[Parts]:
    """Make folds 0 .. folds - 1, each tested once, from the number of the fold that tests each clip."""
    return [Parts(np.flatnonzero(part != k), np.flatnonzero(part == k), note=note) for k in range(folds)]
