"""What every trainer is made of, what it is given and what it gives back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...progress import Observer
    from ..config import Config
    from ..dataset import Part


@dataclass(frozen=True)
class Lesson:
    """One network to be trained.

    Attributes:
        config: the model, its options, and the settings of training; without a search.
        training: what weights and input statistics are learned from.
        validation: what early stopping looks at; may be empty.
        classes: number of classes of the corpus, also those that are absent from the training part.
        seed: decides initial weights, shuffling and dropout.
    """

    config: "Config"
    training: "Part"
    validation: "Part"
    classes: int
    seed: int


@dataclass
class Trained:
    """A network that has learned.

    Attributes:
        network: what `Model.build` gives, a `keras.Model`, with the weights of the last epoch; those of the best one
            where early stopping looked at a validation part.
        history: a row for each epoch: `epoch` (from 1), `loss`, `accuracy`, and with a validation part `val_loss`,
            `val_accuracy`. The loss and accuracy of training are the means over the steps of that epoch.
    """

    network: Any
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Trainer:
    """A way to train networks. All of them give the results of `keras.Model.fit`, to rounding.

    Attributes:
        name: name in the table; runs write it down.
        summary: one line.
        lacks: `lacks(config)`, why it cannot train the network of this configuration here (the backend, a package, a
            device, a setting), as a clause; "" where it can. Called before any library is imported, by every process
            of a sweep alike: what it says may rest on the configuration and on what is installed, not on the data.
        train: `train(lessons, observer)`, a result for each lesson, in their order. `serfuse.experiment.backend` is
            set up; nothing else is. The observer hears of each epoch (`epoch_done`, then `advance`, also of lessons
            that are trained side by side); it raises `RunError` through `finite` where a loss is not finite.
        together: whether it gains from many lessons at once, such as all folds of a run. Others are given one at a
            time, so that a fold is kept as soon as it is there.
    """

    name: str
    summary: str
    lacks: Callable[["Config"], str]
    train: Callable[[Sequence[Lesson], "Observer"], list[Trained]]
    together: bool = False


def finite(config: "Config", epoch: int, loss: float) -> None:
    """Refuse a training loss that is no number.

    Raises:
        RunError: with advice.
    """
    import math

    from ...errors import RunError

    if not math.isfinite(loss):
        raise RunError(
            f"The training loss of {config.model!r} became {loss} in epoch {epoch}. "
            "Use a smaller training.learning_rate, or look for extreme values in the embeddings."
        )
