"""What every model in the registry is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy as np


class Options(BaseModel):
    """Base of a model's own settings: unknown keys are an error, values are checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Model:
    """A classifier of one representation, or of two that it fuses.

    Attributes:
        name: registry name.
        inputs: 1 (one representation, input "a") or 2 (inputs "a" and "b").
        summary: one line for `serfuse list models`.
        options: the pydantic class of its settings.
        build: `build(arrays, classes, options, seed)`, see below.
        library: "keras" or "scikit-learn".
        published_as: `(paper, model)` pairs of the rows in the published tables that this model reproduces.
        batch_dependent: whether, under these options, a prediction depends on the clips predicted beside it.
        layers: `"module:Class"` of what its network is made of beside the layers of `serfuse.layers` and the most usual
            ones of Keras, such as `"my_package.layers:Gate"` (registered with Keras for saving), `"keras.layers:
            MultiHeadAttention"` or `"keras.initializers:HeNormal"`. A model file may name nothing else: `serfuse train`
            refuses a network with more.

    `build` gets the *training part* of each input, `{"a": (N, D_a), "b": (N, D_b)}` in float32, because some models
    set constants from it (the scale of the exponential map, a reference set, the input statistics), the number of
    classes, the options and a seed. It returns an uncompiled `keras.Model` from a dict of inputs to class
    probabilities whose penultimate layer is called "penultimate"; or, for scikit-learn, an unfitted estimator.
    """

    name: str
    inputs: int
    summary: str
    options: type[Options]
    build: Callable[[Mapping[str, "np.ndarray"], int, Any, int], Any]
    library: str = "keras"
    published_as: tuple[tuple[str, str], ...] = ()
    batch_dependent: Callable[[Any], bool] = field(default=lambda options: False)
    layers: tuple[str, ...] = ()
