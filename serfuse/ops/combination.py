"""Vectors that are known to be sums of others, each times a number per row, so that lengths need not be measured anew.

The maps of the Poincare ball only stretch vectors and add them. A chain of such maps has as its result
`c_1 v_1 + c_2 v_2 + ...` of the vectors it began with, and what is left to compute are the numbers `c_k`: each long
vector is read a few times instead of at every step. A result is an ordinary tensor that remembers how it came about;
where what was in between is not asked for, the graph of a backend does not compute it.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Any

_NAME = "_serfuse_combination"


@dataclass(frozen=True)
class Combination:
    """A sum of vectors.

    Attributes:
        terms: pairs of a vector `(..., D)` and its factor `(..., 1)`.
        square: squared length of the sum, `(..., 1)`.
        longest: what no length exceeds.
        version: of the tensor that remembers it, where a backend counts changes in place.
    """

    terms: tuple[tuple[Any, Any], ...]
    square: Any
    longest: float = inf
    version: Any = None

    def times(self, factor: Any, square: Any, longest: float = inf) -> "Combination":
        """The sum times a number per row `(..., 1)`; its squared length and the bound of it are given."""
        return Combination(tuple((vector, factor * by) for vector, by in self.terms), square, longest)


def joined(parts: Sequence[Combination]) -> tuple[tuple[Any, Any], ...]:
    """The terms of several sums, those of one vector put together."""
    found: dict[int, tuple[Any, Any]] = {}
    for vector, by in (term for part in parts for term in part.terms):
        found[id(vector)] = (vector, found[id(vector)][1] + by if id(vector) in found else by)
    return tuple(found.values())


def value(terms: Sequence[tuple[Any, Any]]) -> Any:
    """The sum itself, `(..., D)`."""
    (vector, by), *rest = terms
    total = vector * by
    for vector, by in rest:
        total = total + vector * by
    return total


def tensor(combination: Combination) -> Any:
    """The sum as a tensor that remembers what it is made of."""
    found = value(combination.terms)
    with suppress(AttributeError):  # tensors of JAX take none; its compiler joins what belongs together by itself
        setattr(found, _NAME, replace(combination, version=getattr(found, "_version", None)))
    return found


def recalled(x: Any) -> Combination | None:
    """What a tensor is made of, if it remembers that and was not changed since."""
    found = getattr(x, _NAME, None)
    return found if found is not None and found.version == getattr(x, "_version", None) else None
