"""Cross-validation of one configuration: join, split, audit, train, predict, measure."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import metrics, models
from ..errors import ConfigError, SplitError, StoreError
from ..splits import folds, leakage
from ..splits.folds import Fold
from ..store import EmbeddingKey, EmbeddingStore
from . import fitting
from . import permutation_importance as sensitivity
from . import threads as processors
from .config import Config

_SELECTORS = ("pooling", "layer", "pad", "weights", "dtype")


@dataclass(frozen=True)
class Dataset:
    """One corpus with the embeddings that an experiment uses, joined by clip id.

    Attributes:
        corpus: name.
        info: what the store knows of it (`speaker_kind`, `synthetic`, ...).
        clips: one row per clip with `id, emotion, speaker, text, fold, audio`, sorted by id.
        arrays: `{"a": (N, D_a)}` or with "b", float32, rows as in `clips`.
        keys: the embedding key of each array.
        left_out: clips of the corpus that lack an embedding (they were skipped as unusable): `clip`, `name` ("a" or
            "b") and `reason`.
    """

    corpus: str
    info: Mapping[str, Any]
    clips: pd.DataFrame
    arrays: dict[str, np.ndarray]
    keys: dict[str, EmbeddingKey]
    left_out: tuple[dict[str, str], ...] = ()

    @property
    def classes(self) -> list[str]:
        """Emotions, sorted."""
        return sorted(self.clips["emotion"].unique())

    @cached_property
    def digest(self) -> str:
        """A hash of the clips and of all that is known of them, for telling whether a result is of these data."""
        rows = self.clips[["id", "emotion", "speaker", "text", "fold", "audio"]].astype(str)
        return hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()[:16]

    @property
    def speaker_kind(self) -> str:
        return str(self.info.get("speaker_kind", "speaker"))

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """Row numbers of clip ids."""
        return self.clips.index.get_indexer(pd.Index(ids))


@dataclass
class FoldResult:
    """What one fold gave; everything in it concerns clips that the model did not see.

    Attributes:
        fold: the parts.
        predictions: one row per test clip.
        history: one row per epoch.
        parameters: trainable parameters, 0 for scikit-learn.
        sensitivity: see `sensitivity.input_sensitivity`; empty for one representation.
        neighbours: see `sensitivity.neighbour_dependence`; empty unless the model depends on the batch.
        penultimate: `(N, F)` of the test clips, rows as in `predictions`.
        seconds: wall time of training and prediction.
        threads: of each operation; the last digits depend on it. 0 where that is not known.
        model: the trained `keras.Model`, `None` for scikit-learn.
    """

    fold: Fold
    predictions: pd.DataFrame
    history: pd.DataFrame
    parameters: int
    sensitivity: dict[str, Any]
    neighbours: dict[str, Any]
    penultimate: np.ndarray
    seconds: float
    threads: int = 0
    model: Any = None


@dataclass
class Result:
    """A finished cross-validation; `remarks` say what went wrong beside it, such as a picture that was not drawn."""

    config: Config
    dataset: Dataset
    audit: leakage.Audit
    folds: list[FoldResult]
    metrics: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def predictions(self) -> pd.DataFrame:
        """All held-out predictions, every clip once per repeat."""
        return pd.concat([result.predictions for result in self.folds], ignore_index=True)


def parse_input(text: str) -> tuple[str, dict[str, str]]:
    """`"hubert@pooling=time,layer=6"` -> `("hubert", {"pooling": "time", "layer": "6"})`.

    Raises:
        ConfigError: a selector that does not exist.
    """
    name, _, rest = text.partition("@")
    selectors = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        key = {"pool": "pooling"}.get(key, key)
        if not equals or key not in _SELECTORS:
            raise ConfigError(
                f"Cannot read {part!r} in {text!r}: after '@' come selectors such as pooling=time, out of "
                f"{', '.join(_SELECTORS)}."
            )
        selectors[key] = value
    return name, selectors


def load_dataset(config: Config, store: EmbeddingStore) -> Dataset:
    """Join labels and embeddings for a configuration.

    Raises:
        ConfigError: the number of encoders does not fit the model.
        UnknownNameError: an encoder that neither the store nor serfuse knows.
        StoreError: the store holds no such corpus or embedding, several that fit, or one with missing clips.
    """
    model = models.get(config.model)
    wanted = {"a": config.data.a, "b": config.data.b}
    given = {side: text for side, text in wanted.items() if text}
    if sorted(given) != ["a", "b"][: model.inputs]:
        need = "one encoder: --a NAME" if model.inputs == 1 else "two encoders: --a NAME --b NAME"
        have = ", ".join(f"--{side} {text}" for side, text in given.items()) or "none"
        raise ConfigError(f"The model {config.model!r} takes {need}; received {have}.")
    corpus = config.data.corpus or _only_corpus(store)
    keys = {}
    for side, text in given.items():
        encoder, selectors = parse_input(text)
        if config.data.pooling:
            selectors.setdefault("pooling", config.data.pooling)
        keys[side] = store.find(corpus, encoder, **selectors)
    clips, arrays = store.join(corpus, keys)
    left_out = tuple(clips.attrs["dropped"])
    clips = clips.set_index("id", drop=False)
    return Dataset(corpus, store.corpus_info(corpus), clips, arrays, keys, left_out)


def _only_corpus(store: EmbeddingStore) -> str:
    corpora = store.corpora()
    if len(corpora) == 1:
        return corpora[0]
    if not corpora:
        raise StoreError(
            f"The store {store.root} holds no corpus yet. Fill it first, for example: serfuse extract --corpus emodb "
            "--data DIR --encoder logmel --encoder prosody"
        )
    raise StoreError(f"The store {store.root} holds several corpora. Add --corpus with one of: {', '.join(corpora)}.")


def plan(config: Config, dataset: Dataset) -> list[Fold]:
    """The folds of an experiment. They depend on the clips, the split and the seed, never on the model.

    Raises:
        SplitError: the clips cannot be split as asked, or a training part holds too few of an emotion for the model.
    """
    parts = folds.split(
        dataset.clips.reset_index(drop=True),
        config.split.name,
        folds=config.split.folds,
        repeats=config.split.repeats,
        seed=config.seed,
        validation_fraction=config.training.validation_fraction,
        speaker_kind=dataset.speaker_kind,
        folder=None if config.split.folder is None else Path(config.split.folder),
    )
    if models.get(config.model).library == "scikit-learn":
        _check_single_clips(config, dataset, parts)
    return parts


def _check_single_clips(config: Config, dataset: Dataset, parts: Iterable[Fold]) -> None:
    """Refuse a training part with one clip of an emotion: probabilities are estimated on folds inside of it."""
    for fold in parts:
        counts = dataset.clips["emotion"].iloc[dataset.rows(learned_from(config, fold)[0])].value_counts()
        single = sorted(counts.index[counts == 1])
        if single:
            raise SplitError(
                f"The training part of fold {fold.index} holds a single clip of {', '.join(single)}; the model "
                f"{config.model!r} needs two to estimate probabilities. Add clips of it, or leave the emotion out."
            )


def fold_seed(config: Config, fold: Fold) -> int:
    """The seed of one fold, so that a fold gives the same result whichever process runs it, and when."""
    return int(np.random.SeedSequence([config.seed, fold.repeat, fold.index]).generate_state(1)[0] % (2**31))


def learned_from(config: Config, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Clip ids that weights and input statistics are fitted on, and those that early stopping looks at."""
    if models.get(config.model).library == "scikit-learn":  # nothing is stopped early: those clips may be learned from
        return np.concatenate([fold.train, fold.validation]), fold.validation[:0]
    return fold.train, fold.validation


def run_fold(
    config: Config,
    dataset: Dataset,
    fold: Fold,
    on_epoch: Callable[[int, Mapping[str, float]], None] | None = None,
) -> FoldResult:
    """Train on one fold's training part and predict its test clips."""
    start = time.perf_counter()
    classes = dataset.classes
    codes = pd.Categorical(dataset.clips["emotion"], categories=classes).codes.astype("int64")
    model = models.get(config.model)

    def part(ids: Iterable[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        rows = dataset.rows(ids)
        return {name: array[rows] for name, array in dataset.arrays.items()}, codes[rows]

    train_ids, validation_ids = learned_from(config, fold)
    training, labels = part(train_ids)
    validation, validation_labels = part(validation_ids)
    test, truth = part(fold.test)
    seed = fold_seed(config, fold)
    fitted = fitting.fit(config, training, labels, validation, validation_labels, len(classes), seed, on_epoch)

    depends = model.batch_dependent(config.model_options())
    batch_size = config.training.batch_size if depends else None
    probabilities = fitted.probabilities(test, batch_size)
    predicted = fitted.predict(test, batch_size)
    clips = dataset.clips.iloc[dataset.rows(fold.test)]
    predictions = pd.DataFrame(
        {
            "clip": clips["id"].to_numpy(),
            "speaker": clips["speaker"].to_numpy(),
            "text": clips["text"].to_numpy(),
            "repeat": fold.repeat,
            "fold": fold.index,
            "label": np.asarray(classes)[truth],
            "predicted": np.asarray(classes)[predicted],
            **{f"p_{name}": probabilities[:, number] for number, name in enumerate(classes)},
        }
    )
    history = pd.DataFrame(fitted.history)
    history.insert(0, "fold", fold.index)
    history.insert(0, "repeat", fold.repeat)
    return FoldResult(
        fold=fold,
        predictions=predictions,
        history=history,
        parameters=fitted.parameters,
        sensitivity=(
            sensitivity.input_sensitivity(fitted, test, truth, predicted, seed, batch_size)
            if len(dataset.arrays) > 1
            else {}
        ),
        neighbours=sensitivity.neighbour_dependence(fitted, test, truth) if depends else {},
        penultimate=fitted.penultimate(test),
        seconds=time.perf_counter() - start,
        threads=processors.threads(fitting.library(config)),
        model=getattr(fitted, "model", None),
    )


def cross_validate(
    config: Config,
    dataset: Dataset,
    parts: list[Fold] | None = None,
    *,
    recall: Callable[[Fold], FoldResult | None] | None = None,
    on_audit: Callable[[leakage.Audit], None] | None = None,
    on_fold: Callable[[FoldResult], None] | None = None,
    on_epoch: Callable[[Fold, int, Mapping[str, float]], None] | None = None,
) -> Result:
    """Run every fold of a configuration.

    Args:
        config: the experiment.
        dataset: from `load_dataset`.
        parts: from `plan`, which is called when they are left out.
        recall: gives a fold that was finished before, or `None`.
        on_audit: called before training with what stands on both sides of the folds.
        on_fold: called with each fold, so that a finished one can be written down at once.
        on_epoch: called with each finished epoch.

    Raises:
        SplitError: the clips cannot be split as asked.
        RunError: training diverges.
    """
    parts = plan(config, dataset) if parts is None else parts
    audit = leakage.audit(
        dataset.clips.reset_index(drop=True),
        parts,
        speaker_kind=dataset.speaker_kind,
        fitted=_fitted(config, dataset, parts),
        notes=_padding(dataset),
    )
    if on_audit:
        on_audit(audit)
    finished = []
    for fold in parts:
        result = recall(fold) if recall else None
        if result is None:
            report = (lambda epoch, logs, fold=fold: on_epoch(fold, epoch, logs)) if on_epoch else None
            result = run_fold(config, dataset, fold, report)
        finished.append(result)
        if on_fold:
            on_fold(result)
    result = Result(config, dataset, audit, finished)
    result.metrics = measure(result)
    return result


def _fitted(config: Config, dataset: Dataset, parts: list[Fold]) -> dict[str, list[Any]]:
    """What is estimated from clips, by name: for each fold the clips it is estimated from."""
    found: dict[str, list[Any]] = {}
    if getattr(config.model_options(), "standardize", True):
        found["input normalisation"] = [learned_from(config, fold)[0] for fold in parts]
    if any(key.pad.startswith("max") for key in dataset.keys.values()):
        found["pad length (--pad max)"] = [dataset.clips["id"].to_numpy() for _ in parts]
    return found


def _padding(dataset: Dataset) -> list[str]:
    """What the pad length rests on where it is not that of the longest clip, which `_fitted` tells of."""
    pads = {key.pad for key in dataset.keys.values() if not key.pad.startswith("max")}
    lengths = sorted(pads - {"none"})
    found = [f"Clips are padded or cut to {' and '.join(lengths)} s, which no clip decides."] if lengths else []
    return [*found, "Clips are not padded: no pad length is estimated."] if pads == {"none"} else found


def measure(result: Result) -> dict[str, Any]:
    """Figures of merit of a finished cross-validation, for `metrics.json`."""
    found = metrics.summarize(
        result.predictions, result.dataset.classes, speaker_kind=result.dataset.speaker_kind, seed=result.config.seed
    )
    found["parameters"] = result.folds[0].parameters
    found["seconds"] = round(sum(fold.seconds for fold in result.folds), 3)
    found["audit"] = result.audit.to_dict()
    found["left_out"] = list(result.dataset.left_out)
    found["random_weights"] = [key.encoder for key in result.dataset.keys.values() if key.random]
    if result.folds[0].sensitivity:
        found["sensitivity"] = {
            side: {
                name: float(np.mean([fold.sensitivity[side][name] for fold in result.folds]))
                for name in ("changed", "accuracy_drop")
            }
            for side in result.folds[0].sensitivity
        }
    if result.folds[0].neighbours:
        found["neighbours"] = {
            size: {
                name: float(np.mean([fold.neighbours[size][name] for fold in result.folds]))
                for name in ("accuracy", "changed_from_alone")
            }
            for size in result.folds[0].neighbours
        }
    return found
