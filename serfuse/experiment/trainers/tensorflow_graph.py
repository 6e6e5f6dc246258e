"""Training in one lean TensorFlow graph: what `keras.Model.fit` computes, without what it does beside.

The clips lie in memory once and batches are gathered by row number within the graph, in which several steps are a loop;
Adam walks over the weights once (TensorFlow's kernel of the same formula) where Keras' walks over them a dozen times;
the folds of a run share two graphs, and the validation part is one batch. The order of the clips, initial weights and
dropout are those of Keras.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ...progress import Observer
from ..backend import backend_name
from ..config import Config
from ..rows import are_mapped
from . import tensorflow_blocks, tensorflow_layers, tensorflow_shared
from .base import Lesson, Trained, Trainer, finite
from .keras_fit import Course, course, optimizer, seeded_network

_WATCHED_AT_ONCE = 1024  # clips of the validation part
_STEPS_AT_ONCE = 16  # in one launch; whoever interrupts a training waits for it
_COLUMNS = ("x", "y", "sample_weight")


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
    form = tensorflow_shared.form_of(taught.network, lesson.config.model_dump(mode="json"))
    teach, write_back = _teaching(taught, lesson, form)
    watch = _watching(taught, form) if len(lesson.validation) else None
    best = _Best(taught.network, settings.patience) if watch and settings.patience is not None else None
    history: list[dict[str, float]] = []
    for epoch in range(1, settings.epochs + 1):
        figures = teach()
        if watch:
            write_back()
            figures |= watch()
        history.append({"epoch": epoch, **figures})
        finite(lesson.config, epoch, figures["loss"])
        observer.epoch_done(epoch, figures)
        observer.advance()
        if best and best.over(figures["val_loss"]):
            break
    if not watch:  # otherwise each epoch has
        write_back()
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
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> Any:
            place = self._get_variable_index(variable)
            done = tf.cast(self.iterations + 1, variable.dtype)
            return tf.raw_ops.ResourceApplyAdam(
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


def _teaching(taught: Course, lesson: Lesson, form: str) -> tuple[Callable[[], dict[str, float]], Callable[[], None]]:
    """What trains an epoch, and says how it went; and what gives the network all that was learned since."""
    import keras
    import tensorflow as tf

    adam = optimizer(
        lesson.config, len(lesson.training), _one_pass(keras.optimizers.Adam), _one_pass(keras.optimizers.AdamW)
    )
    network = taught.network
    # The decay of weights is a pass of its own, over whole kernels.
    blocks = [] if lesson.config.training.weight_decay else tensorflow_blocks.large(network)
    in_blocks, pieces = {id(one.layer.kernel) for one in blocks}, [block for one in blocks for block in one.variables]
    variables = [variable for variable in network.trainable_variables if id(variable) not in in_blocks]
    adam.build([*variables, *pieces])

    def learn(gradient: Any, block: Any) -> Any:
        return adam.update_step(gradient, block, adam.learning_rate)

    def one(lost: Any, right: Any, x: Any, y: Any, weights: Any = None) -> tuple[Any, Any]:
        """Learn from a batch; the sums of losses and of right answers so far to those with this batch."""
        values = [variable.value for variable in variables]
        # Blocks learn on the way to a gradient; that of the first is asked for in case that nothing lies before them.
        reached = [*values, *(one.variables[0].value for one in blocks)]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(reached)
            with tensorflow_layers.lean(network), tensorflow_blocks.used(blocks, learn):
                said = network(x, training=True)
            loss = taught.loss(y, said, sample_weight=weights)
            if network.losses:
                loss = loss + tf.add_n(network.losses)
        adam.apply(tape.gradient(loss, reached)[: len(values)], variables)
        return lost + loss * tf.cast(tf.shape(y)[0], "float32"), right + _right(taught, y, said)

    teach = (_by_rows if "y" in taught.data and not are_mapped(taught.data["x"]) else _as_given)(
        taught,
        one,
        lambda body, given: tensorflow_shared.bound(
            "teach", form, network, body=body, given=given, adam=adam, beside=pieces
        ),
    )
    count = np.float32(len(lesson.training))

    def epoch() -> dict[str, float]:
        lost, right = teach()
        return {"accuracy": float(right.numpy() / count), "loss": float(lost.numpy() / count)}

    def write_back() -> None:
        for kernel in blocks:
            kernel.write_back()

    return epoch, write_back


def _right(taught: Course, y: Any, said: Any) -> Any:
    """How many answers are right, as the metric has it."""
    import tensorflow as tf

    [accuracy] = taught.metrics
    return tf.reduce_sum(accuracy._fn(y, said, **accuracy._fn_kwargs))


Bind = Callable[[Callable[..., Any], list[Any]], Callable[..., Any]]


def _by_rows(taught: Course, one: Callable[..., Any], bind: Bind) -> Callable[[], Any]:
    """An epoch on clips that lie in memory, many steps per launch."""
    import tensorflow as tf

    parts, size = [taught.data[name] for name in _COLUMNS if name in taught.data], taught.data["batch_size"]
    count = len(taught.data["y"])
    held = [tf.nest.map_structure(tf.convert_to_tensor, part) for part in parts]
    order = _order(count)

    def some(held: Any, order: Any, begin: Any, end: Any, lost: Any, right: Any) -> Any:
        def step(number: Any, lost: Any, right: Any) -> Any:
            rows = order[number * size : (number + 1) * size]
            batch = tf.nest.map_structure(lambda array: tf.gather(array, rows), held)
            return number + 1, *one(lost, right, *batch)

        return tf.while_loop(lambda number, *_: number < end, step, (begin, lost, right), parallel_iterations=1)[1:]

    number, total = tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.float32)
    run = bind(some, [tensorflow_shared.like(held), tf.TensorSpec([None], tf.int64), number, number, total, total])
    steps = math.ceil(count / size)
    begins = [
        (tf.constant(begin, tf.int64), tf.constant(min(begin + _STEPS_AT_ONCE, steps), tf.int64))
        for begin in range(0, steps, _STEPS_AT_ONCE)
    ]

    def epoch() -> Any:
        sums = (tf.constant(0.0), tf.constant(0.0))
        for begin, end in begins:
            sums = run(held, order, begin, end, *sums)
        return sums

    return epoch


def _order(count: int) -> Any:
    """The rows of the training part in the order of an epoch, int64.

    As in Keras' adapter of arrays, whose order depends on where in a graph it is drawn. With a seed that is set, `fit`
    draws that same order in every epoch.
    """
    import tensorflow as tf

    (rows,) = tf.data.Dataset.range(1).map(lambda _: tf.random.shuffle(tf.range(count, dtype=tf.int64)))
    return rows


def _as_given(taught: Course, one: Callable[..., Any], bind: Bind) -> Callable[[], Any]:
    """An epoch on batches that are made or read one by one."""
    import tensorflow as tf

    data, found = taught.data, []
    parts = [data[name] for name in _COLUMNS if name in data]
    order = _order(len(data["y"])).numpy() if "y" in data else None

    def batches() -> Iterator[Any]:
        if order is None:
            yield from islice(data["x"], data["steps_per_epoch"])
            return
        for start in range(0, len(order), data["batch_size"]):
            yield _some(parts, order[start : start + data["batch_size"]])

    def epoch() -> Any:
        sums = (tf.constant(0.0), tf.constant(0.0))
        for batch in batches():
            if not found:
                total = tf.TensorSpec([], tf.float32)
                kinds = [total, total, tensorflow_shared.like(batch)]
                found.append(bind(lambda lost, right, batch: one(lost, right, *batch), kinds))
            sums = found[0](*sums, tf.nest.map_structure(tf.convert_to_tensor, batch))
        return sums

    return epoch


def _some(parts: Sequence[Any], rows: Any) -> tuple[Any, ...]:
    """Some rows of arrays, of which some are mapped from a file."""
    import tensorflow as tf

    return tuple(tf.nest.map_structure(lambda array: array[rows], part) for part in parts)


def _watching(taught: Course, form: str) -> Callable[[], dict[str, float]]:
    """What measures loss and accuracy of the validation part."""
    import tensorflow as tf

    count = len(taught.validation[1])

    def judge(batch: Any) -> Any:
        x, y, *weights = batch
        said = taught.network(x, training=False)
        loss = taught.loss(y, said, sample_weight=weights[0] if weights else None)
        return loss * tf.cast(tf.shape(y)[0], "float32"), _right(taught, y, said)

    def pieces() -> Iterator[Any]:
        for start in range(0, count, _WATCHED_AT_ONCE):
            batch = _some(taught.validation, slice(start, start + _WATCHED_AT_ONCE))
            yield tf.nest.map_structure(tf.convert_to_tensor, batch)

    kinds = tensorflow_shared.like(tuple(taught.validation))
    run = tensorflow_shared.bound("watch", form, taught.network, body=judge, given=[kinds])
    held = None if are_mapped(taught.validation[0]) else list(pieces())

    def watch() -> dict[str, float]:
        found = [run(batch) for batch in held or pieces()]
        lost, right = (sum(float(values) for values in column) for column in zip(*found, strict=True))
        return {"val_accuracy": float(np.float32(right) / np.float32(count)), "val_loss": lost / count}

    return watch


TENSORFLOW = Trainer(
    "tensorflow",
    "one lean TensorFlow graph with Adam in one pass, one network after the other",
    lacks,
    train,
)
