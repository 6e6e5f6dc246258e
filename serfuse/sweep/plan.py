"""What a sweep has to do: its cells joined with what the store holds, folds, and what is missing."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from ..encoders import ENCODERS, canonical
from ..errors import SerfuseError, SplitError, StoreError, UnknownNameError
from ..experiment import cross_validation
from ..experiment.config import Config, DataConfig
from ..experiment.dataset import Dataset, load_dataset, parse_input
from ..progress import Observer
from ..runs import execution, fold_files
from ..splits.folds import Fold
from ..store import Chosen, EmbeddingKey, EmbeddingStore
from ..store.key import TOGETHER
from .grid import Experiment, Grid

_CACHED_BYTES = 2 << 30


class CachedStore(EmbeddingStore):
    """A store that reads everything once. For a process that asks for the same embeddings again and again.

    Args:
        root: as `EmbeddingStore`.
        vectors: False knows which clips have embeddings but gives vectors of length 0: enough to plan with.
    """

    def __init__(self, root: Any = None, *, vectors: bool = True) -> None:
        super().__init__(root)
        self._vectors = vectors
        self._loaded: dict[tuple[str, str], tuple[list[str], np.ndarray]] = {}
        self._tables: dict[tuple[str, str], Any] = {}

    def _once(self, what: str, corpus: str, read: Any) -> Any:
        if (what, corpus) not in self._tables:
            self._tables[what, corpus] = read(corpus)
        return self._tables[what, corpus]

    def keys(self, corpus: str, *, empty: bool = False) -> list[EmbeddingKey]:
        return super().keys(corpus, empty=True) if empty else self._once("keys", corpus, super().keys)

    def _clip_table(self, corpus: str) -> Any:
        return self._once("clips", corpus, super()._clip_table)

    def _ahead(self, corpus: str, key: EmbeddingKey, clips: int, pool: Any) -> tuple[()]:
        return ()  # nothing may have to be read

    def _choose(self, corpus: str, key: EmbeddingKey, table: Any = None, parts: Any = None) -> Chosen:
        ids, matrix = self.load(corpus, key)
        return Chosen(pa.array(ids, pa.large_string()), _Held(matrix))

    def load(self, corpus: str, key: EmbeddingKey) -> tuple[list[str], np.ndarray]:
        place = (corpus, key.digest)
        if place in self._loaded:
            self._loaded[place] = self._loaded.pop(place)  # the latest used stand last
            return self._loaded[place]
        if self._vectors:
            found = super().load(corpus, key)
        else:
            current = self._audio(corpus)
            present = self.present(corpus, key)
            ids = sorted(clip for clip, audio in present.items() if current.get(clip) == audio)
            found = (ids, np.empty((len(ids), 0), np.float32)) if ids else super().load(corpus, key)
        self._loaded[place] = found
        while sum(matrix.nbytes for _, matrix in self._loaded.values()) > _CACHED_BYTES and len(self._loaded) > 2:
            del self._loaded[next(iter(self._loaded))]
        return found


class _Held:
    """Rows that are in memory, in the shape in which a store selects them."""

    def __init__(self, matrix: np.ndarray) -> None:
        self._matrix = matrix

    def matrix(self, which: np.ndarray | None = None) -> np.ndarray:
        return self._matrix if which is None else self._matrix[which]


class Datasets:
    """Datasets of many configurations, each joined once.

    Args:
        store: usually a `CachedStore`.
        keep: how many are kept; `None` for all.
    """

    def __init__(self, store: EmbeddingStore, keep: int | None = None) -> None:
        self.store = store
        self._keep = keep
        self._found: dict[DataConfig, Dataset] = {}

    def get(self, config: Config) -> Dataset:
        """As `load_dataset`."""
        place = config.data
        if place in self._found:
            self._found[place] = self._found.pop(place)
        else:
            self._found[place] = load_dataset(config, self.store)
            while self._keep is not None and len(self._found) > self._keep:
                del self._found[next(iter(self._found))]
        return self._found[place]


@dataclass(frozen=True)
class Missing:
    """Embeddings that a sweep needs and the store does not have, or a corpus that cannot be split as asked.

    Attributes:
        corpus: name.
        inputs: encoders with their selectors; empty where the whole corpus is meant.
        reason: one line.
        command: that makes them; empty where no command can (several kinds of embeddings fit).
    """

    corpus: str
    inputs: tuple[str, ...]
    reason: str
    command: str


@dataclass(frozen=True, eq=False)
class Planned:
    """One cross-validation with its data, or the reason why it cannot run.

    Attributes:
        experiment: what is asked for.
        dataset: labels and clips (vectors of length 0), `None` where embeddings are missing.
        parts: the folds.
        fingerprint: of everything that decides the result, see `runs.fingerprint`.
        problem: why it cannot run, "" when it can.
    """

    experiment: Experiment
    dataset: Dataset | None = None
    parts: tuple[Fold, ...] = ()
    fingerprint: str = ""
    problem: str = ""

    @cached_property
    def units(self) -> tuple["Unit", ...]:
        """One for each fold."""
        return tuple(Unit(self, fold) for fold in self.parts)

    @property
    def expected(self) -> int:
        """Number of units, also where embeddings are missing."""
        split = self.experiment.config.split
        return len(self.parts) or split.folds * split.repeats

    @cached_property
    def kind(self) -> str:
        """What decides how much memory a unit takes: model, corpus and encoders."""
        config = self.experiment.config
        return "|".join((config.model, str(config.data.corpus), *self.experiment.row.encoders))


@dataclass(frozen=True, eq=False)
class Unit:
    """One fold of one cross-validation: what is run, retried and written as a whole."""

    planned: Planned
    fold: Fold

    @cached_property
    def name(self) -> str:
        return f"{self.planned.experiment.name}/{fold_files.name(self.fold)}"

    @property
    def label(self) -> str:
        """For people: "W2 + SS, emodb, hyfuse, fold 2"."""
        repeat = f" of repeat {self.fold.repeat}" if self.planned.experiment.config.split.repeats > 1 else ""
        return f"{self.planned.experiment.label}, fold {self.fold.index}{repeat}"


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything a sweep has to do.

    Attributes:
        grid: the table.
        store: the store it reads.
        planned: one for each cross-validation of the grid, in its order.
        missing: embeddings that are missing.
    """

    grid: Grid
    store: EmbeddingStore
    planned: tuple[Planned, ...]
    missing: tuple[Missing, ...]

    @cached_property
    def _by_name(self) -> dict[str, Planned]:
        return {planned.experiment.name: planned for planned in self.planned}

    def of(self, experiment: Experiment) -> Planned:
        """The plan of one cross-validation."""
        return self._by_name[experiment.name]

    @property
    def units(self) -> list[Unit]:
        """All units that can run, in the table's order."""
        return [unit for planned in self.planned for unit in planned.units]


def make(grid: Grid, store: EmbeddingStore, observer: Observer | None = None) -> Plan:
    """Join a table with a store. Nothing is trained, and no vectors are read.

    Args:
        grid: the table.
        store: the store.
        observer: hears of each cross-validation that is looked at.

    Raises:
        StoreError: the store is damaged.
        SplitError: no corpus can be split as asked; one that cannot, beside others, is left out and listed as missing.
    """
    datasets = Datasets(CachedStore(store.root, vectors=False))
    problems = {
        need: _problem(datasets.store, *need)
        for need in dict.fromkeys(
            (experiment.column.corpus, text) for experiment in grid.experiments for text in experiment.row.inputs
        )
    }
    split: dict[tuple[Any, ...], tuple[Fold, ...]] = {}
    unsplit: dict[tuple[Any, ...], SplitError] = {}
    planned = []
    for experiment in (observer or Observer()).each(grid.experiments, "planning", "cell"):
        config = experiment.config
        found = [problems[experiment.column.corpus, text] for text in experiment.row.inputs]
        problem = next((item.reason for item in found if item), "")
        dataset = None
        if not problem:
            try:
                dataset = datasets.get(config)
            except StoreError as error:  # clips are missing
                problem = str(error)
        if dataset is None:
            planned.append(Planned(experiment, problem=problem))
            continue
        cross_validation.check(config, dataset)
        place = (dataset.corpus, config.split, config.seed, config.training.validation_fraction, dataset.digest)
        if place not in split:
            try:
                split[place] = tuple(cross_validation.plan(config, dataset))
            except SplitError as error:
                unsplit[place] = error
                split[place] = ()
        if place in unsplit:
            planned.append(Planned(experiment, problem=str(unsplit[place])))
            continue
        planned.append(Planned(experiment, dataset, split[place], execution.fingerprint(config, dataset)))
    if unsplit and not any(one.parts for one in planned):
        raise next(iter(unsplit.values()))
    missing = _grouped(item for item in problems.values() if item)
    missing += dict.fromkeys(Missing(str(place[0]), (), str(error), "") for place, error in unsplit.items())
    return Plan(grid, store, tuple(planned), tuple(missing))


def _problem(store: EmbeddingStore, corpus: str, text: str) -> Missing | None:
    """Why the store cannot give one representation of a corpus."""
    encoder, selectors = parse_input(text)
    unknown = Missing(corpus, (text,), "no encoder of that name, see `serfuse list encoders`", "")
    if corpus not in store.corpora():
        if encoder not in ENCODERS:
            return unknown
        words = ["serfuse", "extract", "--corpus", corpus, "--data", "DIR", "--encoder", encoder]
        if "pooling" in selectors:
            words += ["--pool", selectors["pooling"]]
        for name in ("pad", "layer", "dtype"):
            if name in selectors:
                words += [f"--{name}", selectors[name].replace(TOGETHER, ",")]
        command = shlex.join([*words, "--store", str(store.root)])
        return Missing(corpus, (text,), "the store does not have this corpus", command)
    try:
        key = store.find(corpus, encoder, **selectors)
    except UnknownNameError:
        return unknown
    except StoreError as error:
        fitting = [
            key
            for key in store.keys(corpus)
            if key.encoder == canonical(encoder) and _fits(store, corpus, key, selectors)
        ]
        if len(fitting) > 1:
            return Missing(corpus, (text,), str(error), "")
        return Missing(corpus, (text,), "not extracted", store.command(corpus, encoder, selectors))
    try:
        store.join(corpus, {layer: key.of_layer(layer) for layer in key.layers})
    except StoreError:
        single = [key.of_layer(layer) for layer in key.layers]
        there = [len(store.load(corpus, one)[0]) if store.present(corpus, one) else 0 for one in single]
        lacking = len(store.clips(corpus)) - min(there)
        return Missing(corpus, (text,), f"{lacking} clips are not extracted", store.command(corpus, encoder, selectors))
    return None


def _fits(store: EmbeddingStore, corpus: str, key: EmbeddingKey, selectors: dict[str, str]) -> bool:
    try:
        store.find(corpus, key.folder, **selectors)
    except SerfuseError:
        return False
    return True


def _grouped(items: Iterable[Missing]) -> list[Missing]:
    """Encoders that one command can make together: the commands that differ in the encoder only."""
    found: dict[tuple[str, str, str], list[Missing]] = {}
    for item in items:
        encoder = parse_input(item.inputs[0])[0]
        pattern = item.command.replace(f"--encoder {encoder}", "--encoder", 1) or item.inputs[0]
        found.setdefault((item.corpus, item.reason, pattern), []).append(item)
    grouped = []
    for (corpus, reason, pattern), members in found.items():
        inputs = tuple(item.inputs[0] for item in members)
        encoders = " ".join(f"--encoder {parse_input(text)[0]}" for text in inputs)
        command = pattern.replace("--encoder", encoders, 1) if members[0].command else ""
        grouped.append(Missing(corpus, inputs, reason, command))
    return grouped
