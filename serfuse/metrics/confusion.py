"""What is counted of right and wrong predictions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import intervals

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_DENSE = 1 << 20  # entries up to which a plain array is the quicker one


def confusion(labels: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> list[list[int]]:
    """C x C counts, true classes in rows; every label is one of the classes."""
    true, given = _places(labels, predicted, classes)
    number = len(classes)
    return np.bincount(true * number + given, minlength=number**2).reshape(number, number).tolist()


def tally(
    labels: Sequence[str], predicted: Sequence[str], classes: Sequence[str], clusters: intervals.Clusters
) -> "np.ndarray | csr_matrix":
    """(clusters, 3 C): what the confusion matrix of each cluster has on its diagonal, in its rows and in its columns.

    Whole matrices are not needed for any figure, and would take clusters x C x C. Sparse where there are many clusters
    and classes: a clip adds three counts at most.
    """
    from scipy import sparse

    true, given = _places(labels, predicted, classes)
    number, right = len(classes), true == given
    columns = np.concatenate([true[right], number + true, 2 * number + given])
    rows = np.concatenate([clusters.codes[right], clusters.codes, clusters.codes])
    shape = (clusters.number, 3 * number)
    found = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=shape).tocsr()  # adds what falls together
    return found.toarray() if shape[0] * shape[1] <= _DENSE else found


def _places(labels: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    place = {str(name): i for i, name in enumerate(classes)}
    return tuple(np.array([place[str(label)] for label in given], dtype=int) for given in (labels, predicted))
