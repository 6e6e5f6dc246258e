"""What every model in the registry is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializationInfo, SerializerFunctionWrapHandler, model_serializer

from ..errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from .task import Expert, Task

INPUTS = "abcdefgh"
"""The names of a model's inputs, in their order."""
MAX_INPUTS = len(INPUTS)


EVERY_SETTING = {"every setting": True}
"""The context of `model_dump` in which nothing is left out."""


class Settings(BaseModel):
    """Settings that are written to files: unknown keys are an error.

    Attributes:
        later: settings that came after the first version which wrote files. At their default they are left out where
            the values are written: files stay as they were, and what is called by a hash of them, as the folders of a
            sweep, keeps its name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        values = handler(self)
        for name in () if info.context == EVERY_SETTING else self.later:
            if getattr(self, name) == type(self).model_fields[name].default:
                values.pop(name, None)
        return values


class Options(Settings):
    """Base of a model's own settings: values are checked, defaults as well."""

    model_config = ConfigDict(validate_default=True)


@dataclass(frozen=True)
class Model:
    """A classifier of one representation, or of several that it fuses.

    Attributes:
        name: registry name.
        inputs: the fewest representations that it takes: 1 (input "a"), 2 (inputs "a" and "b"), ...
        summary: one line for `serfuse list models`.
        options: the pydantic class of its settings.
        build: `build(arrays, classes, options, seed)`, see below.
        library: "keras" or "scikit-learn"; or what says which of them under some options, `library(options)`.
        published_as: `(paper, model)` pairs of the rows in the published tables that this model reproduces.
        batch_dependent: whether, under these options, a prediction depends on the clips predicted beside it.
        layers: `"module:Class"` of what its network is made of beside the layers of `serfuse.layers` and the most usual
            ones of Keras, such as `"my_package.layers:Gate"` (registered with Keras for saving), `"keras.layers:
            MultiHeadAttention"` or `"keras.initializers:HeNormal"`. A model file may name nothing else: `serfuse train`
            refuses a network with more.
        supervised: names of layers whose outputs `(B, ..., classes)` are class probabilities too. Where there are any,
            each of them is trained on the labels, the losses averaged, in place of the answer that is made of them.
        max_inputs: the most representations that it takes, up to `MAX_INPUTS`; `None`: as many as `inputs`.
        fit: `fit(task)`, for what is neither one network nor one estimator: it is called in the place of `build` and
            gives a fitted model (`serfuse.models.task`).
        trainings: `trainings(options, inputs)`, how many models are trained for one; counts the epochs of a fold.
        drawn: what the t-SNE of a run shows of each clip, in words; "" where it is what `shown` says without it.
        instead: of what runs are called by and nobody can train: why, and what to do instead, in sentences. It is
            listed nowhere; its runs are read, reported and compared.

    `build` gets the *training part* of each input, `{"a": (N, D_a), ...}` in float32, or `(N, L, D)` where an input is
    several layers of an encoder (which `branch.inputs` and `branch.standardizer` turn into vectors), because some
    models set constants from it (the scale of the exponential map, a reference set, the input statistics), the number
    of classes, the options and a seed. It returns an uncompiled `keras.Model` from a dict of inputs to class
    probabilities whose penultimate layer is called "penultimate"; or, for scikit-learn, an unfitted estimator. An
    estimator of several inputs is fitted on their columns side by side, in the order of the inputs.
    """

    name: str
    inputs: int
    summary: str
    options: type[Options]
    build: Callable[[Mapping[str, "np.ndarray"], int, Any, int], Any] | None
    library: str | Callable[[Any], str] = "keras"
    published_as: tuple[tuple[str, str], ...] = ()
    batch_dependent: Callable[[Any], bool] = field(default=lambda options: False)
    layers: tuple[str, ...] = ()
    max_inputs: int | None = None
    supervised: tuple[str, ...] = ()
    fit: Callable[["Task"], "Expert"] | None = None
    trainings: Callable[[Any, int], int] = field(default=lambda options, inputs: 1)
    drawn: str = ""
    instead: str = ""

    @property
    def shown(self) -> str:
        """What the t-SNE of a run shows of each clip: the penultimate layer of a network, of others something else."""
        if self.drawn:
            return self.drawn
        if self.fit is not None:
            return "features of the model"
        return "inputs of the classifier" if self.library == "scikit-learn" else "penultimate layer"

    def trained_with(self, options: Any) -> str:
        """What trains it under these options: "keras" or "scikit-learn"."""
        return self.library(options) if callable(self.library) else self.library

    def check_trainable(self) -> None:
        """Refuse what cannot be trained, before anything is read or begun.

        Raises:
            ConfigError: it cannot; the message says what to do instead.
        """
        if self.instead:
            raise ConfigError(f"The model {self.name!r} cannot be trained: {self.instead}")

    @property
    def most_inputs(self) -> int:
        """The most representations that it takes."""
        return self.max_inputs or self.inputs

    def takes(self, count: int) -> bool:
        """Whether it can be made of so many representations."""
        return self.inputs <= count <= self.most_inputs

    @property
    def inputs_wanted(self) -> str:
        """How many representations it takes, in words: "1 representation", "2 to 8 representations"."""
        if self.most_inputs == self.inputs:
            return f"{self.inputs} representation{'s' if self.inputs > 1 else ''}"
        return f"{self.inputs} to {self.most_inputs} representations"
