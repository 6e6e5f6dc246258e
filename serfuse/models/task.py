"""What a model of models is made with: the training part of a fold, and a way to fit other models on its inputs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np


class Clips(Protocol):
    """Clips with their inputs; rows of all fields belong together.

    Attributes:
        arrays: `{"a": (N, D_a), ...}`, float32.
        labels: `(N,)` class numbers.
    """

    @property
    def arrays(self) -> Mapping[str, "np.ndarray"]: ...

    @property
    def labels(self) -> "np.ndarray": ...

    def __len__(self) -> int: ...


class Expert(Protocol):
    """A fitted model.

    Attributes:
        parameters: trainable parameters of networks and regressions, 0 for a support vector machine.
        history: a row for each epoch.

    One whose answer is put together from what each input says alone may have two methods more, `opinions(arrays,
    batch_size)` -> `{"a": (N, ...), ...}` and `decide(opinions)` -> class numbers `(N,)`: what an input contributes is
    then measured by shuffling opinions, without asking for them again.
    """

    parameters: int
    history: list[dict[str, Any]]

    def probabilities(self, arrays: Mapping[str, "np.ndarray"], batch_size: int | None = None) -> "np.ndarray":
        """Class probabilities `(N, classes)`, float64, rows summing to 1."""
        ...

    def predict(self, arrays: Mapping[str, "np.ndarray"], batch_size: int | None = None) -> "np.ndarray":
        """Class numbers `(N,)`."""
        ...

    def penultimate(self, arrays: Mapping[str, "np.ndarray"]) -> "np.ndarray":
        """What t-SNE draws: `(N, F)`."""
        ...


class Task(Protocol):
    """What a model is to be made of, see `Model.fit`.

    Attributes:
        training: the clips to learn from.
        validation: clips that early stopping may look at; may be empty.
        classes: number of classes of the corpus, also those that are absent from this part.
        seed: decides everything that is drawn.
        options: the validated settings of the model.
    """

    training: Clips
    validation: Clips
    classes: int
    seed: int
    options: Any

    def head(self, side: str, model: str, options: Mapping[str, Any], rows: "np.ndarray | None" = None) -> Expert:
        """Fit a model of one representation on one of the inputs, just as a run of that input alone would.

        Args:
            side: name of the input; the fitted model knows it as "a".
            model: name of the model.
            options: its settings.
            rows: numbers of the training clips that it learns from; by default all.
        """
        ...

    def inner_folds(self, count: int) -> Sequence[tuple["np.ndarray", "np.ndarray"]]:
        """Row numbers of training clips to learn from and to hold out, so that each is held out once.

        They are grouped as the split of the run is: where it keeps speakers apart, no held-out speaker is learned from.
        """
        ...
