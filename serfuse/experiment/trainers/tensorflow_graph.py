"""Training in one lean TensorFlow graph: what `keras.Model.fit` computes, without what it does beside.

The clips lie in memory once and batches are gathered by row number within the graph; Adam walks over the weights once
(TensorFlow's kernel of the same formula) where Keras' walks over them a dozen times; a fold traces two graphs, and the
validation part is one batch. The order of the clips, initial weights and dropout are those of Keras.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...progress import Observer
from ..backend import backend_name
from ..config import Config
from ..rows import are_mapped
from .base import Lesson, Trained, Trainer, finite
from .keras_fit import Course, course, optimizer, seeded_network

_WATCHED_AT_ONCE = 1024  # clips of the validation part


def lacks(config: Config) -> str:
    """Why this trainer cannot train here, see `Trainer`."""
    return "" if backend_name() == "tensorflow" else f"the backend is {backend_name()}, it needs tensorflow"


def train(lessons: Sequence[Lesson], observer: Observer) -> list[Trained]:
    """Train one network after the other, see `Trainer`."""
    return [_fit(lesson, observer) for lesson in lessons]


def _fit(lesson: Lesson, observer: Observer) -> Trained:
    network = seeded_network(lesson)
    settings = lesson.config.training
    taught = course(network, lesson)
    step, batches = _teaching(taught, lesson)
    watch = _watching(taught) if len(lesson.validation) else None
    best = _Best(taught.network, settings.patience) if watch and settings.patience is not None else None
    history: list[dict[str, float]] = []
    for epoch in range(1, settings.epochs + 1):
        figures = step(next(batches))
        if watch:
            figures |= watch()
        history.append({"epoch": epoch, **figures})
        finite(lesson.config, epoch, figures["loss"])
        observer.epoch_done(epoch, figures)
        observer.advance()
        if best and best.over(figures["val_loss"]):
            break
    if best:
        best.restore()
    return Trained(network, history)


class _Best:
    """Early stopping as `keras.callbacks.EarlyStopping` of the validation loss does it, with the best weights kept."""

    def __init__(self, network: Any, patience: int) -> None:
        self.network, self.patience = network, patience
        self.loss, self.epochs, self.waited = math.inf, 0, 0
        self.weights: list[Any] | None = None

    def over(self, loss: float) -> bool:
        """Whether the losses of `patience` epochs were no better than the best before."""
        self.epochs, self.waited = self.epochs + 1, self.waited + 1
        better = loss < self.loss
        if better or self.weights is None:
            self.weights = [weight.numpy() for weight in self.network.weights]
        if better:
            self.loss, self.waited = loss, 0
        return self.waited >= self.patience and self.epochs > 1

    def restore(self) -> None:
        """Give the network the weights of its best epoch."""
        self.network.set_weights(self.weights)


def _one_pass(base: type) -> type:
    """Keras' Adam or AdamW with TensorFlow's kernel for the step: the same formula, each array passed once."""
    import tensorflow as tf

    class OnePass(base):  # type: ignore[misc, valid-type]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            place = self._get_variable_index(variable)
            done = tf.cast(self.iterations + 1, variable.dtype)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,  # Keras hands over the variable of TensorFlow
                m=self._momentums[place].value.handle,
                v=self._velocities[place].value.handle,
                beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), done),
                beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), done),
                lr=tf.cast(learning_rate, variable.dtype),
                beta1=tf.cast(self.beta_1, variable.dtype),
                beta2=tf.cast(self.beta_2, variable.dtype),
                epsilon=tf.cast(self.epsilon, variable.dtype),
                grad=tf.convert_to_tensor(gradient),
            )

    OnePass.__name__ = base.__name__
    return OnePass


def _teaching(taught: Course, lesson: Lesson) -> tuple[Callable[[Iterator[Any]], dict[str, float]], Iterator[Any]]:
    """What trains an epoch, given its batches, and the batches of each epoch."""
    import keras
    import tensorflow as tf

    adam = optimizer(
        lesson.config, len(lesson.training), _one_pass(keras.optimizers.Adam), _one_pass(keras.optimizers.AdamW)
    )
    network, variables = taught.network, taught.network.trainable_variables
    adam.build(variables)
    loss_metric, [accuracy] = keras.metrics.Mean(name="loss"), taught.metrics
    values = [variable.value for variable in variables]

    def one(x: Any, y: Any, weights: Any = None) -> None:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            said = network(x, training=True)
            loss = taught.loss(y, said, sample_weight=weights)
            if network.losses:
                loss = loss + tf.add_n(network.losses)
        adam.apply(tape.gradient(loss, values), variables)
        loss_metric.update_state(loss, sample_weight=tf.shape(y)[0])
        accuracy.update_state(y, said)

    if "y" in taught.data:
        step, batches = _by_rows(taught, one)
    else:
        step, batches = _given(taught, one)

    def epoch(rows: Iterator[Any]) -> dict[str, float]:
        loss_metric.reset_state()
        accuracy.reset_state()
        for batch in rows:
            step(batch)
        return {"accuracy": float(accuracy.result()), "loss": float(loss_metric.result())}

    return epoch, batches


def _by_rows(taught: Course, one: Callable[..., None]) -> tuple[Callable[[Any], None], Iterator[Any]]:
    """A step on the clips of some rows, and the rows of each epoch's batches, in Keras' order."""
    import tensorflow as tf

    names = [name for name in ("x", "y", "sample_weight") if name in taught.data]
    parts, count, size = [taught.data[name] for name in names], len(taught.data["y"]), taught.data["batch_size"]
    # As in Keras' adapter of arrays, whose order depends on where in a graph it is drawn.
    order = tf.data.Dataset.range(1).map(lambda _: tf.random.shuffle(tf.range(count, dtype=tf.int64)))

    def batches() -> Iterator[Iterator[Any]]:
        while True:
            (rows,) = order
            yield (rows[start : start + size] for start in range(0, count, size))

    if are_mapped(taught.data["x"]):
        fed = _fed(one)
        return lambda rows: fed(_some(parts, rows.numpy())), batches()
    held = [tf.nest.map_structure(tf.convert_to_tensor, part) for part in parts]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)], autograph=False)
    def step(rows: Any) -> None:
        one(*(tf.nest.map_structure(lambda array: tf.gather(array, rows), part) for part in held))

    return step, batches()


def _some(parts: Sequence[Any], rows: Any) -> tuple[Any, ...]:
    """Some rows of arrays, of which some are mapped from a file."""
    import tensorflow as tf

    return tuple(tf.nest.map_structure(lambda array: array[rows], part) for part in parts)


def _fed(one: Callable[..., Any]) -> Callable[[Any], Any]:
    """What does that with clips as they are given: a tuple of arrays, or of dicts of them."""
    import tensorflow as tf

    found: list[Any] = []

    def fed(batch: Any) -> Any:
        if not found:
            kinds = tf.nest.map_structure(lambda array: tf.TensorSpec([None, *array.shape[1:]], array.dtype), batch)
            found.append(tf.function(lambda given: one(*given), input_signature=[kinds], autograph=False))
        return found[0](tf.nest.map_structure(tf.convert_to_tensor, batch))

    return fed


def _given(taught: Course, one: Callable[..., None]) -> tuple[Callable[[Any], None], Iterator[Any]]:
    """A step on clips as they are given, and those of each epoch."""

    def batches() -> Iterator[Iterator[Any]]:
        while True:
            yield (next(taught.data["x"]) for _ in range(taught.data["steps_per_epoch"]))

    return _fed(one), batches()


def _watching(taught: Course) -> Callable[[], dict[str, float]]:
    """What measures loss and accuracy of the validation part."""
    import tensorflow as tf

    [accuracy] = taught.metrics
    count = len(taught.validation[1])

    def judge(x: Any, y: Any, weights: Any = None) -> Any:
        said = taught.network(x, training=False)
        accuracy.update_state(y, said)
        return taught.loss(y, said, sample_weight=weights) * tf.cast(tf.shape(y)[0], "float32")

    if are_mapped(taught.validation[0]):
        fed = _fed(judge)

        def measure(start: int) -> Any:
            return fed(_some(taught.validation, slice(start, start + _WATCHED_AT_ONCE)))

    else:
        held = [tf.nest.map_structure(tf.convert_to_tensor, part) for part in taught.validation]

        @tf.function(input_signature=[tf.TensorSpec([], tf.int64)], autograph=False)
        def traced(start: Any) -> Any:
            return judge(*tf.nest.map_structure(lambda array: array[start : start + _WATCHED_AT_ONCE], held))

        def measure(start: int) -> Any:
            return traced(tf.constant(start, tf.int64))

    def watch() -> dict[str, float]:
        accuracy.reset_state()
        starts = range(0, count, _WATCHED_AT_ONCE)
        loss = sum(float(measure(start)) for start in starts) / count
        return {"val_accuracy": float(accuracy.result()), "val_loss": loss}

    return watch


TENSORFLOW = Trainer(
    "tensorflow",
    "one lean TensorFlow graph with Adam in one pass, one network after the other",
    lacks,
    train,
)
