"""Fit one model to the training part of one fold, and ask it about other clips."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import models
from ..errors import ConfigError, RunError
from ..models import branch
from ..models.task import Expert as Fitted
from ..progress import Observer
from . import search, trainers
from .backend import backend_name, set_up_backend
from .calibration import PairwiseCalibration
from .config import Config
from .dataset import Part
from .rows import are_mapped
from .task import FitTask
from .trainers import forward

Arrays = Mapping[str, np.ndarray]
_INFERENCE_BATCH = 128
_READ_AT_ONCE = 32  # batches of what is mapped from a file


def trained_with(config: Config) -> str:
    """What trains the model of a configuration: "keras" or "scikit-learn"; "keras" if a search tries any network."""
    found = {models.get(one.model).trained_with(one.model_options()) for _, one in search.candidates(config)}
    return "keras" if "keras" in found else "scikit-learn"


def library(config: Config) -> str:
    """What trains the model of a configuration: "scikit-learn", or the backend of Keras."""
    found = trained_with(config)
    return backend_name() if found == "keras" else found


def trainer(config: Config) -> str:
    """Name of what trains the networks of a configuration, see `trainers`; "" where there are none."""
    tried = [one for _, one in search.candidates(config)]
    networks = [one for one in tried if models.get(one.model).trained_with(one.model_options()) == "keras"]
    found = {trainers.choose(one).name for one in networks}
    return " and ".join(name for name in trainers.names() if name in found)


def together(config: Config) -> bool:
    """Whether the networks of several folds are to be trained at once, by `fit_together`."""
    if config.training.search is not None or models.get(config.model).fit is not None:
        return False
    return trained_with(config) == "keras" and trainers.choose(config).together


def fit_together(
    config: Config,
    parts: Sequence[tuple[Part, Part, int]],
    classes: int,
    *,
    observer: Observer | None = None,
) -> list[Fitted]:
    """Train the network of `config` on several training parts at once; as `fit` of each, to rounding.

    Args:
        config: one for which `together` is true.
        parts: training part, validation part and seed of each.
        classes: number of classes of the corpus.
        observer: hears of each epoch of each.

    Raises:
        ConfigError: settings that do not fit the number of inputs.
        RunError: a loss is no longer finite.
    """
    set_up_backend()
    lessons = [trainers.Lesson(config, training, validation, classes, seed) for training, validation, seed in parts]
    return [_learned(one, config) for one in trainers.choose(config).train(lessons, observer or Observer())]


def epochs(config: Config) -> int:
    """The most epochs that the networks of one fold are trained for."""
    inputs, found = max(1, len(config.data.inputs)), []
    for _, one in search.candidates(config):
        found.append(models.get(one.model).trainings(one.model_options(), inputs) * one.training.epochs)
    if config.training.search is None:
        return found[0]
    return config.training.search.folds * sum(found) + max(found)


def fit(
    config: Config, training: Part, validation: Part, classes: int, seed: int, *, observer: Observer | None = None
) -> Fitted:
    """Train the model of `config` on one training part.

    Where there is a `training.search`, its settings are chosen within that part first; the fitted model then has an
    attribute `chosen` that tells them.

    Args:
        training: what weights and input statistics are fitted on.
        validation: the inner validation part, for early stopping only; may be empty. What is trained without epochs
            learns from it as well.
        classes: number of classes of the corpus, also those that are absent from this part.
        seed: decides initial weights, shuffling and dropout.
        observer: hears of each epoch.

    Raises:
        ConfigError: settings that do not fit the number of inputs.
        SplitError: inner folds cannot be drawn.
        RunError: the loss is no longer finite.
    """
    observer = observer or Observer()

    def fit_one(one: Config, learned: Part, watched: Part) -> Fitted:
        model = models.get(one.model)
        if model.trained_with(one.model_options()) == "scikit-learn" and len(watched):
            learned, watched = learned.joined(watched), watched.take(np.arange(0))
        if model.fit is not None:
            return model.fit(FitTask(one, learned, watched, classes, seed, fit_one))
        if model.library == "scikit-learn":
            return _fit_sklearn(model, one, learned, classes, seed)
        set_up_backend()
        lesson = trainers.Lesson(one, learned, watched, classes, seed)
        return _learned(trainers.choose(one).train([lesson], observer)[0], one)

    if config.training.search is None:
        return fit_one(config, training, validation)
    fitted, chosen = search.fit(config, training, validation, classes, seed, fit_one=fit_one)
    fitted.chosen = chosen
    return fitted


@dataclass
class _KerasFitted:
    model: Any
    history: list[dict[str, float]]
    parameters: int
    compiled: bool = False  # once for the networks of all folds; batches may be filled up

    def probabilities(self, arrays: Arrays, batch_size: int | None = None) -> np.ndarray:
        return probabilities(self.model, arrays, batch_size, compiled=self.compiled)

    @property
    def layer_weights(self) -> dict[str, list[float]]:
        """Of each input that has several layers of an encoder, what each of them weighs."""
        there = {branch.layer_weights_name(tensor.name): tensor.name for tensor in self.model.inputs}
        found = {there[layer.name]: layer for layer in self.model.layers if layer.name in there}
        return {side: found[side].weights_of_layers() for side in sorted(found)}

    def predict(self, arrays: Arrays, batch_size: int | None = None) -> np.ndarray:
        return self.probabilities(arrays, batch_size).argmax(axis=1)

    def penultimate(self, arrays: Arrays) -> np.ndarray:
        import keras

        if self.compiled:
            return forward.outputs(self.model, arrays, _INFERENCE_BATCH, "penultimate")
        inner = keras.Model(self.model.inputs, self.model.get_layer("penultimate").output)
        return _forward(inner, arrays, _INFERENCE_BATCH)


def probabilities(network: Any, arrays: Arrays, batch_size: int | None = None, *, compiled: bool = False) -> np.ndarray:
    """Class probabilities `(N, classes)` of a Keras network, float64, rows summing to 1.

    Args:
        network: `keras.Model`.
        arrays: `{"a": (N, D_a), ...}`.
        batch_size: clips at once.
        compiled: by a program that serves all networks of its form, see `trainers.forward`. It needs JAX or
            TensorFlow, and a network that answers for each clip by itself.
    """
    ask = forward.outputs if compiled else _forward
    found = ask(network, arrays, batch_size or _INFERENCE_BATCH).astype("float64")
    return found / found.sum(axis=1, keepdims=True)


def without_optimizer(network: Any) -> Any:
    """The same layers as a model that was never compiled: its file is a third as large."""
    import keras

    return keras.Model({tensor.name: tensor for tensor in network.inputs}, network.outputs[0], name=network.name)


def _forward(network: Any, arrays: Arrays, batch_size: int) -> np.ndarray:
    """Outputs of a network in inference mode, in batches."""
    import keras

    count = len(next(iter(arrays.values())))
    parts = []
    if keras.backend.backend() != "tensorflow":
        many = batch_size * _READ_AT_ONCE if are_mapped(arrays) else max(1, count)
        for start in range(0, max(1, count), many):
            clips = {name: np.asarray(array[start : start + many]) for name, array in arrays.items()}
            parts.append(np.asarray(network.predict(clips, batch_size=batch_size, verbose=0)))
        return np.concatenate(parts)
    # Tracing a graph, as `predict` does, takes longer than a fold's test clips do.
    for start in range(0, count, batch_size):
        batch = {name: array[start : start + batch_size] for name, array in arrays.items()}
        parts.append(keras.ops.convert_to_numpy(network(batch, training=False)))
    return np.concatenate(parts)


def _learned(trained: trainers.Trained, config: Config) -> _KerasFitted:
    trainable = int(sum(np.prod(weight.shape) for weight in trained.network.trainable_weights))
    alone = not models.get(config.model).batch_dependent(config.model_options())
    return _KerasFitted(trained.network, trained.history, trainable, alone and backend_name() != "torch")


@dataclass
class _SklearnFitted:
    estimator: Any
    calibrated: Any
    columns: Sequence[int]
    classes: int
    parameters: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def probabilities(self, arrays: Arrays, batch_size: int | None = None) -> np.ndarray:
        columns = side_by_side(arrays)
        full = np.zeros((len(columns), self.classes))
        full[:, self.columns] = self.calibrated.predict_proba(columns)
        return full

    def predict(self, arrays: Arrays, batch_size: int | None = None) -> np.ndarray:
        return self.estimator.predict(side_by_side(arrays))

    def penultimate(self, arrays: Arrays) -> np.ndarray:
        return np.asarray(self.estimator[:-1].transform(side_by_side(arrays)))


def side_by_side(arrays: Arrays) -> np.ndarray:
    """The columns of all inputs `(N, D_a + D_b + ...)`, which is what an estimator is fitted on.

    Raises:
        ConfigError: an input has several layers of an encoder.
    """
    if several := [name for name, array in arrays.items() if array.ndim > 2]:
        raise ConfigError(f"Input {several[0]} has several layers of an encoder, which only a network can weigh.")
    return (
        np.asarray(arrays["a"])
        if len(arrays) == 1
        else np.concatenate([arrays[name] for name in sorted(arrays)], axis=1)
    )


@contextmanager
def _labels_are_classes() -> Iterator[None]:
    """Keep scikit-learn from guessing, of many emotions with few clips each, that their numbers are measurements."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
        yield


def _fit_sklearn(model: models.Model, config: Config, training: Part, classes: int, seed: int) -> _SklearnFitted:
    """Labels come from the estimator itself; probabilities from a calibration inside the training part.

    The two can disagree on a few clips, as they do in scikit-learn's own `SVC(probability=True)`. The folds of that
    calibration are stratified by emotion alone, whatever the split: grouped by speaker they leave each of its models so
    many fewer voices that the probabilities come out too low, for no better log loss.
    """
    from sklearn.base import clone
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import StratifiedKFold

    options = config.model_options()
    estimator = model.build(training.arrays, classes, options, seed)
    counts = np.bincount(training.labels, minlength=classes)
    folds = int(min(5, counts[counts > 0].min()))
    if folds < 2:
        raise RunError(
            f"{int((counts == 1).sum())} of the {classes} classes have a single clip in a training part; "
            f"{config.model!r} needs two to estimate probabilities."
        )
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    columns, labels = side_by_side(training.arrays), training.labels
    with _labels_are_classes():
        estimator.fit(columns, labels)
        if getattr(options, "probabilities", "one-vs-rest") == "pairwise":
            calibrated: Any = PairwiseCalibration.fit(estimator, columns, labels, splitter.split(columns, labels))
        else:
            calibrated = CalibratedClassifierCV(clone(estimator), method="sigmoid", cv=splitter, ensemble=False)
            calibrated.fit(columns, labels)
    return _SklearnFitted(estimator, calibrated, [int(c) for c in estimator.classes_], classes)
