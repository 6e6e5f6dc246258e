"""Fit one model to the training part of one fold, and ask it about other clips."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from .. import models
from ..errors import RunError
from ..progress import Observer
from .backend import backend_name, set_up_backend
from .config import Config
from .dataset import Part

Arrays = Mapping[str, np.ndarray]
_INFERENCE_BATCH = 128


class Fitted(Protocol):
    """A trained model, whichever library it came from."""

    parameters: int
    history: list[dict[str, float]]

    def probabilities(self, arrays: Arrays, batch_size: int | None = None) -> np.ndarray:
        """Class probabilities `(N, classes)`, float64, rows summing to 1."""
        ...

    def predict(self, arrays: Arrays, batch_size: int | None = None) -> np.ndarray:
        """Class numbers `(N,)`."""
        ...

    def penultimate(self, arrays: Arrays) -> np.ndarray:
        """What t-SNE draws: `(N, F)`."""
        ...


def library(config: Config) -> str:
    """What trains the model of a configuration: "scikit-learn", or the backend of Keras."""
    found = models.get(config.model).library
    return backend_name() if found == "keras" else found


def fit(
    config: Config, training: Part, validation: Part, classes: int, seed: int, *, observer: Observer | None = None
) -> Fitted:
    """Train the model of `config` on one training part.

    Args:
        training: what weights and input statistics are fitted on.
        validation: the inner validation part, for early stopping only; may be empty.
        classes: number of classes of the corpus, also those that are absent from this part.
        seed: decides initial weights, shuffling and dropout.
        observer: hears of each epoch.

    Raises:
        RunError: the loss is no longer finite.
    """
    model = models.get(config.model)
    if model.library == "scikit-learn":
        return _fit_sklearn(model, config, training, classes, seed)
    return _fit_keras(config, training, validation, classes, seed, observer or Observer())


@dataclass
class _KerasFitted:
    model: Any
    history: list[dict[str, float]]
    parameters: int

    def probabilities(self, arrays: Arrays, batch_size: int | None = None) -> np.ndarray:
        return probabilities(self.model, arrays, batch_size)

    def predict(self, arrays: Arrays, batch_size: int | None = None) -> np.ndarray:
        return self.probabilities(arrays, batch_size).argmax(axis=1)

    def penultimate(self, arrays: Arrays) -> np.ndarray:
        import keras

        inner = keras.Model(self.model.inputs, self.model.get_layer("penultimate").output)
        return _forward(inner, arrays, _INFERENCE_BATCH)


def probabilities(network: Any, arrays: Arrays, batch_size: int | None = None) -> np.ndarray:
    """Class probabilities `(N, classes)` of a Keras network, float64, rows summing to 1."""
    found = _forward(network, arrays, batch_size or _INFERENCE_BATCH).astype("float64")
    return found / found.sum(axis=1, keepdims=True)


def without_optimizer(network: Any) -> Any:
    """The same layers as a model that was never compiled: its file is a third as large."""
    import keras

    return keras.Model({tensor.name: tensor for tensor in network.inputs}, network.outputs[0], name=network.name)


def _forward(network: Any, arrays: Arrays, batch_size: int) -> np.ndarray:
    """Outputs of a network in inference mode, in batches."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return np.asarray(network.predict(dict(arrays), batch_size=batch_size, verbose=0))
    # Tracing a graph, as `predict` does, takes longer than a fold's test clips do.
    count = len(next(iter(arrays.values())))
    parts = []
    for start in range(0, count, batch_size):
        batch = {name: array[start : start + batch_size] for name, array in arrays.items()}
        parts.append(keras.ops.convert_to_numpy(network(batch, training=False)))
    return np.concatenate(parts)


def _fit_keras(
    config: Config, training: Part, validation: Part, classes: int, seed: int, observer: Observer
) -> _KerasFitted:
    set_up_backend()
    import keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    network = models.get(config.model).build(training.arrays, classes, config.model_options(), seed)
    settings = config.training
    lesson = _lesson(network, config, training, validation, seed)
    lesson.network.compile(
        optimizer=_optimizer(config, len(training)),
        loss=lesson.loss,
        metrics=lesson.metrics,
        # Compiling a fold's three functions with XLA takes longer than most folds train.
        jit_compile=False,
    )
    history: list[dict[str, float]] = []

    def remember(epoch: int, logs: Mapping[str, float] | None) -> None:
        figures = {name: float(value) for name, value in (logs or {}).items()}
        history.append({"epoch": epoch + 1, **figures})
        if not np.isfinite(figures.get("loss", np.nan)):
            raise RunError(
                f"The training loss of {config.model!r} became {figures.get('loss')} in epoch {epoch + 1}. "
                "Use a smaller training.learning_rate, or look for extreme values in the embeddings."
            )
        observer.epoch_done(epoch + 1, figures)
        observer.advance()

    callbacks: list[Any] = [keras.callbacks.LambdaCallback(on_epoch_end=remember)]
    if len(validation) and settings.patience is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor="val_loss", patience=settings.patience, restore_best_weights=True, start_from_epoch=0
            )
        )
    lesson.network.fit(
        **lesson.data,
        validation_data=lesson.validation if len(validation) else None,
        epochs=settings.epochs,
        callbacks=callbacks,
        verbose=0,
    )
    trainable = int(sum(np.prod(weight.shape) for weight in network.trainable_weights))
    return _KerasFitted(network, history, trainable)


def _optimizer(config: Config, clips: int) -> Any:
    """Adam, or AdamW where kernels decay."""
    import keras

    settings = config.training
    rate: Any = settings.learning_rate
    if settings.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, settings.epochs * math.ceil(clips / settings.batch_size))
    if not settings.weight_decay:
        return keras.optimizers.Adam(rate)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


@dataclass
class _Lesson:
    """What `keras.Model.fit` is given: the network that is trained, its loss, and clips in the form this loss takes."""

    network: Any
    loss: Any
    metrics: list[Any]
    data: dict[str, Any]
    validation: tuple[Any, ...]


def _lesson(network: Any, config: Config, training: Part, validation: Part, seed: int) -> _Lesson:
    """The papers' way to train, unless the settings or the model ask for more.

    The two are one where the settings are at their defaults, but not to the last digit, and runs that were finished
    before there was a choice are to be repeated to that.
    """
    import keras

    settings, model, classes = config.training, models.get(config.model), network.output_shape[-1]
    default = type(settings)()
    if not model.supervised and all(
        getattr(settings, name) == getattr(default, name)
        for name in ("loss", "label_smoothing", "class_weights", "mixup")
    ):
        return _Lesson(
            network,
            keras.losses.SparseCategoricalCrossentropy(),
            ["accuracy"],
            {"x": dict(training.arrays), "y": training.labels, "batch_size": settings.batch_size, "shuffle": True},
            (dict(validation.arrays), validation.labels),
        )
    from . import objective

    targets, watched = (np.eye(classes, dtype="float32")[part.labels] for part in (training, validation))
    weights = objective.class_weights(training.labels, classes, settings.class_weights)
    data = {
        "x": dict(training.arrays),
        "y": targets,
        "sample_weight": weights[training.labels],
        "batch_size": settings.batch_size,
    }
    if settings.mixup:
        batches = objective.mixed(**data, alpha=settings.mixup, seed=seed)
        data = {"x": batches, "steps_per_epoch": math.ceil(len(training) / settings.batch_size), "shuffle": False}
    gamma = settings.focal_gamma if settings.loss == "focal" else 0.0
    return _Lesson(
        objective.supervised(network, model.supervised, classes),
        objective.Objective(gamma, settings.label_smoothing),
        [objective.accuracy()],
        data,
        (dict(validation.arrays), watched, weights[validation.labels]),
    )


@dataclass
class _SklearnFitted:
    estimator: Any
    calibrated: Any
    columns: Sequence[int]
    classes: int
    parameters: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def probabilities(self, arrays: Arrays, batch_size: int | None = None) -> np.ndarray:
        full = np.zeros((len(arrays["a"]), self.classes))
        full[:, self.columns] = self.calibrated.predict_proba(arrays["a"])
        return full

    def predict(self, arrays: Arrays, batch_size: int | None = None) -> np.ndarray:
        return self.estimator.predict(arrays["a"])

    def penultimate(self, arrays: Arrays) -> np.ndarray:
        return np.asarray(self.estimator[:-1].transform(arrays["a"]))


def _fit_sklearn(model: models.Model, config: Config, training: Part, classes: int, seed: int) -> _SklearnFitted:
    """Labels come from the estimator itself; probabilities from Platt scaling inside the training part.

    The two can disagree on a few clips, as they do in scikit-learn's own `SVC(probability=True)`. The folds of that
    scaling are stratified by emotion alone, whatever the split: grouped by speaker they leave each of its models so
    many fewer voices that the probabilities come out too low, for no better log loss.
    """
    from sklearn.base import clone
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import StratifiedKFold

    estimator = model.build(training.arrays, classes, config.model_options(), seed)
    counts = np.bincount(training.labels, minlength=classes)
    folds = int(min(5, counts[counts > 0].min()))
    if folds < 2:
        raise RunError(
            f"{int((counts == 1).sum())} of the {classes} classes have a single clip in a training part; "
            f"{config.model!r} needs two to estimate probabilities."
        )
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    calibrated = CalibratedClassifierCV(clone(estimator), method="sigmoid", cv=splitter, ensemble=False)
    calibrated.fit(training.arrays["a"], training.labels)
    estimator.fit(training.arrays["a"], training.labels)
    return _SklearnFitted(estimator, calibrated, [int(c) for c in estimator.classes_], classes)
