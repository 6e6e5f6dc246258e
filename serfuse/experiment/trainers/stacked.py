"""All networks of a cross-validation in one program, on JAX: every step of theirs at once, an epoch per launch.

What differs from fold to fold is an axis of every array: weights, moments of Adam, seeds of dropout, scales that a
model sets from its training part. The step is that of Keras, made stateless and mapped over that axis; the steps of an
epoch are a loop within the program, and so is the validation behind them. Clips stay on the device.

Each network is taught as `keras.Model.fit` would teach it alone: the same initial weights, batches, dropout and early
stopping. Folds differ in size, so batches are filled up with clips that count nothing, and a fold that has no batch
left, or has stopped, stays as it is.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import models
from ...progress import Observer
from ..backend import backend_name
from . import stacked_epoch, stacked_memory, stacked_network
from .base import Lesson, Trained, Trainer, finite
from .keras_fit import Course, course, optimizer, seeded_network

if TYPE_CHECKING:
    from ..config import Config
    from ..dataset import Part

Batches = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def lacks(config: "Config") -> str:
    """Why the networks of a configuration cannot be stacked here, see `Trainer`."""
    if backend_name() != "jax":
        return "it needs the backend JAX (KERAS_BACKEND=jax)"
    model = models.get(config.model)
    if model.batch_dependent(config.model_options()):
        return "what the network says of a clip depends on its whole batch, which is filled up when folds are stacked"
    build = model.build.func if isinstance(model.build, partial) else model.build
    if not getattr(build, "__module__", "").startswith("serfuse."):
        return "the model is of another package, and its layers may keep a state that cannot be stacked"
    return ""


def train(lessons: Sequence[Lesson], observer: Observer) -> list[Trained]:
    """Train networks of one form side by side, as many as the memory of the device holds; see `Trainer`."""
    found: dict[int, Trained] = {}
    for places in _of_one_form(lessons):
        waiting = [_Pupil.of(lessons[places[0]])]
        most = stacked_memory.fitting(waiting[0].taught.network, [lessons[place] for place in places])
        # As few stacks as possible, all of nearly the same size.
        for chunk in np.array_split(places, math.ceil(len(places) / most)):
            pupils = [*waiting, *(_Pupil.of(lessons[place]) for place in chunk[len(waiting) :])]
            waiting = []
            for same in _of_one_shape(pupils):
                _teach(same, observer)
            found |= {
                int(place): Trained(pupil.network, pupil.history) for place, pupil in zip(chunk, pupils, strict=True)
            }
    return [found[place] for place in range(len(lessons))]


def _of_one_form(lessons: Sequence[Lesson]) -> list[list[int]]:
    """Numbers of the lessons whose networks are built alike."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, lesson in enumerate(lessons):
        sizes = tuple((name, array.shape[1:]) for name, array in lesson.training.arrays.items())
        form = (lesson.config.model_dump_json(), sizes, lesson.classes, len(lesson.validation) > 0)
        groups.setdefault(form, []).append(place)
    return list(groups.values())


def _of_one_shape(pupils: Sequence["_Pupil"]) -> list[list["_Pupil"]]:
    """Those whose weights have one shape: a set of reference clips is smaller in a small fold."""
    groups: dict[tuple[Any, ...], list[_Pupil]] = {}
    for pupil in pupils:
        groups.setdefault(tuple(tuple(one.shape) for one in pupil.taught.network.variables), []).append(pupil)
    return list(groups.values())


@dataclass
class _Pupil:
    """A network that learns, and the random numbers that its batches are drawn with."""

    lesson: Lesson
    network: Any
    taught: Course
    optimizer: Any
    random: np.random.RandomState
    history: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def of(cls, lesson: Lesson) -> "_Pupil":
        with _on_processor():
            network = seeded_network(lesson)
            # `fit` shuffles with numpy's global generator: each goes on from where building its network left it.
            random = np.random.RandomState()
            random.set_state(np.random.get_state())
            taught = course(network, lesson)
            taught_by = optimizer(lesson.config, len(lesson.training))
        if "y" in taught.data:  # to see the shapes of a batch, `fit` draws an order before that of the first epoch
            random.permutation(len(lesson.training))
        return cls(lesson, network, taught, taught_by, random)

    @property
    def mixed(self) -> bool:
        """Whether batches are blends of clips, which a generator gives."""
        return "steps_per_epoch" in self.taught.data

    def order(self) -> np.ndarray:
        """Rows of the training part in the order of the next epoch."""
        return self.random.permutation(len(self.lesson.training))

    def batches(self) -> list[tuple[Any, ...]]:
        """Inputs, targets and weights of the next epoch, where `mixed`."""
        return list(islice(self.taught.data["x"], self.taught.data["steps_per_epoch"]))

    def hear(self, epoch: int, figures: dict[str, float], observer: Observer) -> None:
        """Write an epoch down, and tell of it."""
        self.history.append({"epoch": epoch, **figures})
        finite(self.lesson.config, epoch, figures["loss"])
        observer.epoch_done(epoch, figures)
        observer.advance()


@contextmanager
def _on_processor() -> Iterator[None]:
    """Within this, arrays are made and computed with in the processor's memory, wherever networks are trained.

    Building one takes hundreds of small operations, each of which is compiled for a GPU longer than it runs.
    """
    import jax

    try:
        place = jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX was told to know GPUs only
        place = nullcontext()
    with place:
        yield


def _teach(pupils: Sequence[_Pupil], observer: Observer) -> None:
    """Train all epochs of networks of one form, and leave the best weights in them."""
    first, settings = pupils[0], pupils[0].lesson.config.training
    watched = len(first.lesson.validation) > 0
    patience = settings.patience if watched else None
    program, state, fixed = _program(pupils, patience, watched)
    table = _Table.of([part for pupil in pupils for part in (pupil.lesson.training, pupil.lesson.validation)])
    looked_at = _watched(pupils, table) if watched else ()
    coming = _epoch(pupils, table)
    for epoch in range(settings.epochs):
        active = np.flatnonzero(np.asarray(state["active"]))
        state, found = program(state, fixed, coming, (table.clips, looked_at), np.int32(epoch))
        coming = _epoch(pupils, table)  # while the device computes
        figures = {name: np.asarray(values) for name, values in found.items()}
        for number in active:
            row = {name: float(values[number]) for name, values in figures.items()}
            pupils[number].hear(epoch + 1, row, observer)
        if not np.asarray(state["active"]).any():
            break
    kept = [np.asarray(stack) for stack in [*state["weights" if patience is None else "best"], *state["seeds"]]]
    for number, pupil in enumerate(pupils):
        learned = [*pupil.taught.network.trainable_variables, *_seeds(pupil.taught.network)]
        for variable, stack in zip(learned, kept, strict=True):
            variable.assign(stack[number])


def _epoch(pupils: Sequence[_Pupil], table: "_Table") -> tuple[dict[str, Any], Batches]:
    """The clips of the next epoch, on the device, and its batches."""
    return _mixed(pupils) if pupils[0].mixed else (table.clips, _shuffled(pupils, table))


def _seeds(network: Any) -> list[Any]:
    """The states of its random generators."""
    return [network.non_trainable_variables[number] for number in stacked_epoch.seeds_of(network)]


def _program(pupils: Sequence[_Pupil], patience: int | None, watched: bool) -> tuple[Any, dict[str, Any], Any]:
    """The program of an epoch, the state before the first one, and what does not change."""
    import jax

    networks = [pupil.taught.network for pupil in pupils]
    first = pupils[0]
    with _on_processor():
        first.optimizer.build(networks[0].trainable_variables)
    held = [stacked_network.holders(pupil.taught.network, pupil.optimizer) for pupil in pupils]
    places = stacked_network.differing(held)
    count = len(pupils)

    def stacked(lists: Sequence[Sequence[Any]]) -> list[Any]:
        # By numpy: JAX would compile a program for each shape.
        return [np.stack([np.asarray(variable.value) for variable in same]) for same in zip(*lists, strict=True)]

    state: dict[str, Any] = {
        "weights": stacked([network.trainable_variables for network in networks]),
        "seeds": stacked([_seeds(network) for network in networks]),
        # They begin alike: the learning rate, the number of steps, and zeros.
        "moments": stacked([first.optimizer.variables] * count),
        "active": np.ones(count, bool),
    }
    if patience is not None:
        state |= {"best": [weights.copy() for weights in state["weights"]], "least": np.zeros(count, "float32")}
        state["waited"] = np.zeros(count, "int32")
    fixed = {
        "others": stacked([network.non_trainable_variables for network in networks]),
        "constants": [
            np.stack(same) for same in zip(*(stacked_network.constants(one, places) for one in held), strict=True)
        ],
    }
    program = stacked_epoch.program(
        first.taught,
        first.optimizer,
        places,
        patience=patience,
        watched=watched,
        splits=jax.default_backend() != "cpu",
    )
    return program, *jax.device_put((state, fixed))


@dataclass
class _Table:
    """The clips of all parts on the device, those that several parts share once.

    Attributes:
        clips: `{"a": (N, D_a), ...}`.
        rows: of each part, in the order of the parts, `(clips of the part,)`.
    """

    clips: dict[str, Any]
    rows: list[np.ndarray]

    @classmethod
    def of(cls, parts: Sequence["Part"]) -> "_Table":
        import jax

        for share in (True, False):
            known: dict[Any, int] = {}
            taken: dict[str, list[np.ndarray]] = {name: [] for name in parts[0].arrays}
            rows = []
            for number, part in enumerate(parts):
                names = list(part.ids) if share else [(number, place) for place in range(len(part))]
                new = [place for place, name in enumerate(names) if name not in known]
                known |= {names[place]: len(known) + count for count, place in enumerate(new)}
                for name, array in part.arrays.items():
                    taken[name].append(array[new])
                rows.append(np.array([known[name] for name in names], dtype="int32"))
            clips = {name: np.concatenate(arrays) for name, arrays in taken.items()}
            # Two clips of one name could differ, where parts are not of one data set.
            pairs = zip(parts, rows, strict=True)
            same = (np.array_equal(clips[name][at], part.arrays[name]) for part, at in pairs for name in clips)
            if not share or all(same):
                break
        return cls({name: jax.device_put(array) for name, array in clips.items()}, rows)


def _shuffled(pupils: Sequence[_Pupil], table: _Table) -> Batches:
    """The batches of the next epoch."""
    found = []
    for pupil, rows in zip(pupils, table.rows[::2], strict=True):
        order, data = pupil.order(), pupil.taught.data
        weights = data["sample_weight"][order] if "sample_weight" in data else np.ones(len(order), "float32")
        found.append(_cut(pupil, rows[order], data["y"][order], weights))
    return _filled(found)


def _watched(pupils: Sequence[_Pupil], table: _Table) -> Batches:
    """The batches of the validation parts."""
    found = []
    for pupil, rows in zip(pupils, table.rows[1::2], strict=True):
        _, targets, *weights = pupil.taught.validation
        found.append(_cut(pupil, rows, targets, weights[0] if weights else np.ones(len(rows), "float32")))
    return _filled(found)


def _mixed(pupils: Sequence[_Pupil]) -> tuple[dict[str, Any], Batches]:
    """The blended clips of the next epoch, on the device, and its batches of them."""
    import jax

    inputs, found, begun = [], [], 0
    for pupil in pupils:
        batches = []
        for blend, targets, weights in pupil.batches():
            inputs.append(blend)
            batches.append((begun + np.arange(len(targets), dtype="int32"), targets, weights))
            begun += len(targets)
        found.append(batches)
    clips = {name: jax.device_put(np.concatenate([blend[name] for blend in inputs])) for name in inputs[0]}
    return clips, _filled(found)


Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


def _cut(pupil: _Pupil, *columns: np.ndarray) -> list[Batch]:
    """Rows, targets and weights, batch by batch."""
    size = pupil.lesson.config.training.batch_size
    return [tuple(values[start : start + size] for values in columns) for start in range(0, len(columns[0]), size)]


def _filled(found: Sequence[Sequence[Batch]]) -> Batches:
    """The batches of each network, `(networks, steps, clips of a batch, ...)`, and how many clips of each count.

    Those that do not count are clips that do: nothing that is computed of them is out of the ordinary.
    """
    steps = max(map(len, found))
    size = max(len(batch[0]) for batches in found for batch in batches)

    def column(number: int) -> np.ndarray:
        return np.stack(
            [
                np.stack([batch[number][np.arange(size) % len(batch[number])] for batch in _as_many(batches, steps)])
                for batches in found
            ]
        )

    counts = [[len(batch[0]) for batch in batches] + [0] * (steps - len(batches)) for batches in found]
    return column(0), column(1), column(2).astype("float32"), np.array(counts, dtype="int32")


def _as_many(batches: Sequence[Batch], steps: int) -> list[Batch]:
    return [*batches, *[batches[-1]] * (steps - len(batches))]


STACKED = Trainer(
    "stacked",
    "all folds in one program, an epoch per launch (JAX)",
    lacks,
    train,
    together=True,
)
