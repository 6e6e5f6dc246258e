"""CREMA-D's published speaker-disjoint split, as in TensorFlow Datasets."""

from pathlib import Path

import numpy as np

from ..errors import SplitError
from .base import ClipTable, Parts, SplitMethod
from .published import published

_SPEAKERS = tuple(str(number) for number in range(1001, 1092))


def speakers_of_parts() -> dict[str, tuple[str, ...]]:
    """Read CREMA-D's published speaker-disjoint split: part -> speaker ids (63 train, 9 validation, 19 test).

    As TensorFlow Datasets' `crema_d` 1.0.0 makes it: the 91 sorted ids, shuffled by `RandomState(0)`, cut at
    70 and 80 per cent.
    """
    speakers = list(_SPEAKERS)
    np.random.RandomState(0).shuffle(speakers)
    first, second = int(0.7 * len(speakers)), int((0.7 + 0.1) * len(speakers))
    return {
        "train": tuple(speakers[:first]),
        "validation": tuple(speakers[first:second]),
        "test": tuple(speakers[second:]),
    }


def _cremad_tfds(table: ClipTable, folds: int, seed: int, folder: Path | None) -> list[Parts]:
    speakers = table.columns["speaker"]
    unknown = sorted(set(speakers) - set(_SPEAKERS))
    if unknown:
        raise SplitError(
            f"The split 'cremad-tfds' is published for CREMA-D's speakers 1001 to 1091 only; the clips have "
            f"{', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}. Use the split 'speaker'."
        )
    masks = {part: np.isin(speakers.astype(str), names) for part, names in speakers_of_parts().items()}
    return [published(masks["train"], masks["validation"], masks["test"], "CREMA-D's published split")]


CREMAD_TFDS = SplitMethod(
    "cremad-tfds",
    "CREMA-D's published speaker-disjoint 70/10/20 split (TensorFlow Datasets)",
    _cremad_tfds,
    needs=("speaker",),
    apart=("speaker",),
)
