"""Late fusion: a model of its own for each representation, joined by the geometric mean of their probabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from ..errors import ConfigError
from . import heads
from .base import MAX_INPUTS, Model, Options
from .task import Expert, Task

SMALLEST = 1e-300
"""What a probability of zero counts as: a class that one expert rules out is ruled out, but not undefined."""

LEAST_SHOWN = 1e-6
"""What is smaller counts as this where logarithms of probabilities are features: of a regression, of a picture."""

DRAWN = "logarithms of the experts' probabilities"
"""What `log_features` gives, in words."""


def geometric_mean(probabilities: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """Join what several experts say: the geometric mean of their probabilities, each row divided by its sum.

    Genest and Zidek, "Combining probability distributions", Statistical Science 1, 1986 (logarithmic pool).

    Args:
        probabilities: of each expert `(N, classes)`. Those below `SMALLEST` count as that.
        weights: of each expert, positive; by default all alike.

    Returns:
        `(N, classes)`, float64, rows summing to 1.
    """
    if weights is not None:
        # By a power of two, which changes no digit: sums of weights stay in range.
        weights = np.ldexp(weights, -np.frexp(max(weights))[1])
    logarithms = np.log(np.maximum(np.stack([np.asarray(p, dtype="float64") for p in probabilities]), SMALLEST))
    mean = np.average(logarithms, axis=0, weights=weights)
    found = np.exp(mean - mean.max(axis=1, keepdims=True))
    return found / found.sum(axis=1, keepdims=True)


def sound_weights(weights: Sequence[float]) -> bool:
    """Whether there are weights, positive and finite, and none is nothing beside the largest."""
    largest = max(weights, default=0)
    return 0 < largest < np.inf and all(0 < one < np.inf and one / largest > 0 for one in weights)


def _sound(weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
    if weights is not None and not sound_weights(weights):
        raise ValueError("positive numbers, finite, and none of them nothing beside the largest")
    return weights


Weights = Annotated[tuple[float, ...] | None, AfterValidator(_sound)]


def log_features(opinions: Mapping[str, np.ndarray]) -> np.ndarray:
    """Logarithms of the experts' probabilities side by side: `(N, inputs * classes)`."""
    return np.log(np.maximum(np.concatenate(list(opinions.values()), axis=1), LEAST_SHOWN))


class LateOptions(heads.HeadOptions):
    """Settings of `late`."""

    weights: Weights = Field(None, description="of the inputs, in their order; by default all alike")


@dataclass
class Experts:
    """A fitted head for each input.

    Attributes:
        heads: by input.
        history: of the networks among them, one behind the other; `network` says which.
        parameters: of all.
    """

    heads: dict[str, Expert]

    @property
    def parameters(self) -> int:
        return sum(head.parameters for head in self.heads.values())

    @property
    def history(self) -> list[dict[str, Any]]:
        return [{**row, "network": side} for side, head in self.heads.items() for row in head.history]

    @property
    def layer_weights(self) -> dict[str, list[float]]:
        """Of each input with several layers of an encoder, what its head has them weigh."""
        found = {side: getattr(head, "layer_weights", {}).get("a") for side, head in self.heads.items()}
        return {side: weights for side, weights in found.items() if weights}

    def opinions(self, arrays: Mapping[str, np.ndarray], batch_size: int | None = None) -> dict[str, np.ndarray]:
        """The class probabilities of each head `(N, classes)`."""
        return {side: head.probabilities({"a": arrays[side]}, batch_size) for side, head in self.heads.items()}

    def joined(self, opinions: Mapping[str, np.ndarray]) -> np.ndarray:
        """Class probabilities `(N, classes)` from those of the heads."""
        raise NotImplementedError

    def decide(self, opinions: Mapping[str, np.ndarray]) -> np.ndarray:
        """Class numbers `(N,)`: the most probable ones."""
        return self.joined(opinions).argmax(axis=1)

    def probabilities(self, arrays: Mapping[str, np.ndarray], batch_size: int | None = None) -> np.ndarray:
        return self.joined(self.opinions(arrays, batch_size))

    def predict(self, arrays: Mapping[str, np.ndarray], batch_size: int | None = None) -> np.ndarray:
        return self.decide(self.opinions(arrays, batch_size))

    def penultimate(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        return log_features(self.opinions(arrays))


@dataclass
class Late(Experts):
    """Heads joined by the geometric mean, with the weight of each; `None`: all alike."""

    weights: tuple[float, ...] | None = None

    def joined(self, opinions: Mapping[str, np.ndarray]) -> np.ndarray:
        return geometric_mean(list(opinions.values()), self.weights)


def fit_heads(task: Task, rows: np.ndarray | None = None) -> dict[str, Expert]:
    """A head for each input, as a run of that input alone would fit it."""
    sides = list(task.training.arrays)
    given = zip(sides, task.options.heads(len(sides)), strict=True)
    return {side: task.head(side, model, options, rows) for side, (model, options) in given}


def fit(task: Task) -> Late:
    """Fit each head on its input, knowing nothing of the others.

    Raises:
        ConfigError: weights or heads for another number of inputs.
    """
    weights, count = task.options.weights, len(task.training.arrays)
    if weights is not None and len(weights) != count:
        raise ConfigError(f"options.weights holds {len(weights)} numbers for {count} inputs; expected one for each.")
    return Late(fit_heads(task), weights)


LATE = Model(
    "late",
    2,
    "late fusion: a model (by default an SVM) per representation, geometric mean of their probabilities",
    LateOptions,
    None,
    library=heads.library,
    batch_dependent=heads.batch_dependent,
    max_inputs=MAX_INPUTS,
    fit=fit,
    trainings=lambda options, inputs: inputs,
    drawn=DRAWN,
)


class FusedOptions(Options):
    """Settings of `fused`."""

    weights: Weights = Field(None, description="of the runs, in their order; by default all alike")


FUSED = Model(
    "fused",
    2,
    "late fusion of finished runs of several kinds, which `serfuse fuse` makes without any training",
    FusedOptions,
    None,
    library="scikit-learn",
    max_inputs=MAX_INPUTS,
    drawn=DRAWN,
    instead="it is what `serfuse fuse` calls the late fusion of finished runs that no one configuration describes "
    "(models of several inputs, other seeds or training). Fuse such runs with `serfuse fuse RUN RUN ...`, or train "
    "the model 'late'.",
)
