"""Kernel fusion: one support vector machine on the mean of the representations' kernels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from .base import MAX_INPUTS, Model, Options
from .svm import scaled


class KernelOptions(Options):
    """Settings of `kernel`."""

    C: float = Field(1.0, gt=0)
    standardize: bool = Field(True, description="z-score the inputs with the statistics of the training part")
    probabilities: Literal["pairwise", "one-vs-rest"] = Field(
        "pairwise",
        description="a regression on the decisions between each two classes, or Platt's on a score for each class",
    )


@dataclass(frozen=True)
class MeanKernel:
    """The mean of RBF kernels, one for each block of columns.

    Gönen and Alpaydın, "Multiple kernel learning algorithms", JMLR 12, 2011, section 3.1 (fixed rule: the mean).

    Attributes:
        sizes: columns of each block.
    """

    sizes: tuple[int, ...]

    def widths(self, training: np.ndarray) -> list[float]:
        """The gamma of each block: 1 / (columns * variance), scikit-learn's "scale", from the training clips."""
        found = []
        for block in self.blocks(training):
            variance = float(block.var())
            found.append(1.0 / (block.shape[1] * variance) if variance > 0 else 1.0)
        return found

    def blocks(self, columns: np.ndarray) -> list[np.ndarray]:
        """The columns of each block."""
        return np.split(columns, np.cumsum(self.sizes)[:-1], axis=1)

    def __call__(self, clips: np.ndarray, training: np.ndarray) -> np.ndarray:
        """The kernel `(N, M)` between clips `(N, D)` and the clips that were trained on `(M, D)`."""
        return mean_rbf(self.blocks(clips), self.blocks(training), self.widths(training))


def mean_rbf(clips: list[np.ndarray], others: list[np.ndarray], widths: list[float]) -> np.ndarray:
    """The mean over blocks of `exp(-width * |x - y|^2)`: `(N, M)`, float64."""
    from sklearn.metrics.pairwise import euclidean_distances

    found = np.zeros((len(clips[0]), len(others[0])))
    for one, other, width in zip(clips, others, widths, strict=True):
        squares = euclidean_distances(one.astype("float64"), other.astype("float64"), squared=True)
        found += np.exp(-width * squares)
    return found / len(widths)


def build(arrays: Mapping[str, np.ndarray], classes: int, options: KernelOptions, seed: int) -> Any:
    """An unfitted scikit-learn pipeline on the columns of all inputs side by side."""
    from sklearn.svm import SVC

    sizes = tuple(array.shape[1] for array in arrays.values())
    return scaled(SVC(C=options.C, kernel=MeanKernel(sizes)), options.standardize)


KERNEL = Model(
    "kernel",
    2,
    "one support vector machine on the mean of the representations' RBF kernels",
    KernelOptions,
    build,
    library="scikit-learn",
    max_inputs=MAX_INPUTS,
)
