"""One published split into training, validation and test."""

import numpy as np

from ..errors import SplitError
from .base import Parts


def published(train: np.ndarray, validation: np.ndarray, test: np.ndarray, where: str) -> Parts:
    """Read the split that three masks, (N,) bool each, describe; an empty validation part is drawn from training later.

    Raises:
        SplitError: nothing to train on or to test; the message names `where` it was read from.
    """
    for name, mask in (("training", train), ("test", test)):
        if not mask.any():
            raise SplitError(f"No clip of the corpus is in the {name} part of {where}.")
    return Parts(np.flatnonzero(train), np.flatnonzero(test), np.flatnonzero(validation) if validation.any() else None)
