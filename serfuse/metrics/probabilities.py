"""Class probabilities: from a table of predictions, and whether they are any."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import RunError

if TYPE_CHECKING:
    import pandas as pd


def probability_columns(predictions: "pd.DataFrame", classes: Sequence[str]) -> np.ndarray | None:
    """(N, C) from the columns `p_<class>`, `None` where they are missing or empty."""
    columns = [f"p_{name}" for name in classes]
    if any(column not in predictions.columns for column in columns):
        return None
    found = predictions[columns].to_numpy(dtype=np.float64)
    return None if np.isnan(found).all() else found


def checked(probabilities: np.ndarray, clips: int, classes: int) -> np.ndarray:
    """(N, C) float64 rows that sum to 1 exactly.

    Raises:
        RunError: another shape, values that are negative or not finite, rows that do not sum to 1 within 0.001.
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.shape != (clips, classes):
        raise RunError(f"The probabilities have shape {rows.shape}; expected {(clips, classes)} (clips, classes).")
    if not np.isfinite(rows).all() or (rows < 0).any():
        bad = int((~np.isfinite(rows) | (rows < 0)).any(axis=1).sum())
        raise RunError(f"{bad} of {clips} rows of probabilities hold values that are not finite or are negative.")
    sums = rows.sum(axis=1, keepdims=True)
    if np.abs(sums - 1).max() > 1e-3:
        raise RunError(f"Rows of probabilities sum to {sums.min():.3f} .. {sums.max():.3f}; expected 1.")
    return rows / sums
