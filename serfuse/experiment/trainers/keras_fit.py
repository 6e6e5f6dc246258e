"""Plain `keras.Model.fit`, on every backend; and what other trainers share with it: seeds, network, loss, optimizer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import models
from ...errors import ConfigError
from ...progress import Observer
from ..backend import notices_held_back
from ..config import Config
from ..rows import are_mapped
from .base import Lesson, Trained, Trainer, finite

# Looking through all of Python's objects for networks that nobody needs takes about as long as three epochs of a small
# one, so that they are left to lie until all that was made since takes so many bytes.
_LEFT_TO_LIE = 1 << 28
_COPIES = 5  # of a network's weights and of its clips: gradients, moments of Adam, the weights of the best epoch


@dataclass
class _Lying:
    size: int = 0

    def are_many(self) -> bool:
        """Whether it is time to look; they are taken to be gone then."""
        many = self.size > _LEFT_TO_LIE
        self.size = 0 if many else self.size
        return many


_lying = _Lying()


def train(lessons: Sequence[Lesson], observer: Observer) -> list[Trained]:
    """Train one network after the other, see `Trainer`."""
    return [_fit(lesson, observer) for lesson in lessons]


def seeded_network(lesson: Lesson) -> Any:
    """The network of a lesson, a `keras.Model` that is not compiled, all random numbers being those of its seed.

    What was traced and named before in this process is forgotten, so that the same lesson gives the same digits.
    """
    import keras

    keras.utils.clear_session(free_memory=_lying.are_many())
    with notices_held_back():  # Keras seeds TensorFlow too where it is installed, whatever the backend
        keras.utils.set_random_seed(lesson.seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    config, arrays = lesson.config, lesson.training.arrays
    network = models.get(config.model).build(arrays, lesson.classes, config.model_options(), lesson.seed)
    for tensor in network.inputs:
        if arrays[tensor.name].ndim == 3 and len(tensor.shape) != 3:
            raise ConfigError(
                f"The model {config.model!r} takes vectors, and input {tensor.name} has all layers of an encoder. Name "
                "one layer of it (@layer=6)."
            )
    _lying.size += 4 * _COPIES * (network.count_params() + sum(math.prod(array.shape) for array in arrays.values()))
    return network


def optimizer(config: Config, clips: int, adam: type | None = None, adamw: type | None = None) -> Any:
    """Adam, or AdamW where kernels decay.

    Args:
        config: the settings of training.
        clips: of the training part, which say how many steps the schedule of the learning rate has.
        adam: the class, by default Keras' own.
        adamw: likewise.
    """
    import keras

    settings = config.training
    rate: Any = settings.learning_rate
    if settings.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, settings.epochs * steps(config, clips))
    if not settings.weight_decay:
        return (adam or keras.optimizers.Adam)(rate)
    found = (adamw or keras.optimizers.AdamW)(rate, weight_decay=settings.weight_decay)
    found.exclude_from_weight_decay(var_names=["bias", "layer_logits"])
    return found


def steps(config: Config, clips: int) -> int:
    """Steps of an epoch; the last one may have fewer clips."""
    return math.ceil(clips / config.training.batch_size)


@dataclass
class Course:
    """What `keras.Model.fit` is given: the network that is trained, its loss, and clips in the form this loss takes.

    Attributes:
        network: the lesson's, or one of the same layers that answers with every expert.
        loss: of Keras.
        metrics: one, "accuracy".
        data: arguments of `fit`: `x`, `y` ..., or batches in `x`.
        validation: `x`, `y` and, where training has them, weights.
    """

    network: Any
    loss: Any
    metrics: list[Any]
    data: dict[str, Any]
    validation: tuple[Any, ...]


def course(network: Any, lesson: Lesson) -> Course:
    """The papers' way to train, unless the settings or the model ask for more.

    The two are one where the settings are at their defaults, but not to the last digit, and runs that were finished
    before there was a choice are to be repeated to that.
    """
    import keras

    config, training, validation = lesson.config, lesson.training, lesson.validation
    settings, model, classes = config.training, models.get(config.model), network.output_shape[-1]
    default = type(settings)()
    if not model.supervised and all(
        getattr(settings, name) == getattr(default, name)
        for name in ("loss", "label_smoothing", "class_weights", "mixup")
    ):
        return Course(
            network,
            keras.losses.SparseCategoricalCrossentropy(),
            [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            {"x": dict(training.arrays), "y": training.labels, "batch_size": settings.batch_size, "shuffle": True},
            (dict(validation.arrays), validation.labels),
        )
    from .. import objective

    targets, watched = (np.eye(classes, dtype="float32")[part.labels] for part in (training, validation))
    weights = objective.class_weights(training.labels, classes, settings.class_weights)
    data = {
        "x": dict(training.arrays),
        "y": targets,
        "sample_weight": weights[training.labels],
        "batch_size": settings.batch_size,
    }
    if settings.mixup:
        batches = objective.mixed(**data, alpha=settings.mixup, seed=lesson.seed)
        data = {"x": batches, "steps_per_epoch": steps(config, len(training)), "shuffle": False}
    gamma = settings.focal_gamma if settings.loss == "focal" else 0.0
    return Course(
        objective.supervised(network, model.supervised, classes),
        objective.Objective(gamma, settings.label_smoothing),
        [objective.accuracy()],
        data,
        (dict(validation.arrays), watched, weights[validation.labels]),
    )


def _fit(lesson: Lesson, observer: Observer) -> Trained:
    network = seeded_network(lesson)
    import keras

    settings, watched = lesson.config.training, len(lesson.validation)
    taught = course(network, lesson)
    taught.network.compile(
        optimizer=optimizer(lesson.config, len(lesson.training)),
        loss=taught.loss,
        metrics=taught.metrics,
        # Compiling a fold's three functions with XLA takes longer than most folds train; but JAX has nothing between
        # that and calling every operation by itself.
        jit_compile=keras.backend.backend() == "jax",
    )
    # Variables that the first step made would have TensorFlow trace that step twice.
    taught.network.optimizer.build(taught.network.trainable_variables)
    history: list[dict[str, float]] = []

    def remember(epoch: int, logs: Mapping[str, float] | None) -> None:
        figures = {name: float(value) for name, value in (logs or {}).items()}
        history.append({"epoch": epoch + 1, **figures})
        finite(lesson.config, epoch + 1, figures.get("loss", math.nan))
        observer.epoch_done(epoch + 1, figures)
        observer.advance()

    callbacks: list[Any] = [keras.callbacks.LambdaCallback(on_epoch_end=remember)]
    if watched and settings.patience is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor="val_loss", patience=settings.patience, restore_best_weights=True, start_from_epoch=0
            )
        )
    taught.network.fit(
        **_read(taught, lesson.seed),
        validation_data=_seen(taught, settings.batch_size) if watched else None,
        epochs=settings.epochs,
        callbacks=callbacks,
        verbose=0,
    )
    return Trained(network, history)


def _read(taught: Course, seed: int) -> dict[str, Any]:
    """Arguments of `fit`; what is mapped from a file is read batch by batch, in an order of its own."""
    if "y" not in taught.data or not are_mapped(taught.data["x"]):
        return taught.data
    columns = [taught.data[name] for name in ("x", "y", "sample_weight") if name in taught.data]
    return {"x": _batches(columns, taught.data["batch_size"], np.random.default_rng(seed)), "shuffle": False}


def _seen(taught: Course, size: int) -> Any:
    """The validation part, likewise."""
    return _batches(taught.validation, size) if are_mapped(taught.validation[0]) else taught.validation


def _batches(columns: Sequence[Any], size: int, rng: np.random.Generator | None = None) -> Any:
    """Batches of inputs, targets and weights, in a new order in each epoch where there is a generator."""
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.order = np.arange(len(columns[1]))
            self.on_epoch_end()

        def __len__(self) -> int:
            return math.ceil(len(self.order) / size)

        def __getitem__(self, number: int) -> tuple[Any, ...]:
            rows = self.order[number * size : (number + 1) * size]
            x, *others = columns
            return {name: array[rows] for name, array in x.items()}, *(values[rows] for values in others)

        def on_epoch_end(self) -> None:
            if rng is not None:
                rng.shuffle(self.order)

    return Batches()


KERAS = Trainer(
    "keras",
    "plain keras.Model.fit, one network after the other",
    lambda config: "",
    train,
)
