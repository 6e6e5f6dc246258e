"""Cross-validation of one configuration: join, split, audit, train, predict, measure."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import metrics, models
from ..errors import ConfigError, SplitError
from ..models.heads import HeadOptions
from ..progress import Observer
from ..splits import folds, leakage
from ..splits.folds import Fold
from ..store import encoder_notes
from . import fitting, search
from . import threads as processors
from .config import Config
from .dataset import Dataset, Part
from .permutation_importance import batch_dependence, permutation_importance


@dataclass
class FoldResult:
    """What one fold gave; everything in it concerns clips that the model did not see.

    Attributes:
        fold: the parts.
        predictions: one row per test clip.
        history: one row per epoch.
        parameters: trainable parameters, 0 for scikit-learn.
        sensitivity: see `permutation_importance`; empty for one representation.
        neighbours: see `batch_dependence`; empty unless the model depends on the batch.
        penultimate: `(N, F)` of the test clips, rows as in `predictions`.
        seconds: wall time of training and prediction.
        threads: of each operation; the last digits depend on it. 0 where that is not known.
        embeddings: what it was trained on and tested with, see `Dataset.embedding_digests`; empty where not known.
        model: the trained `keras.Model`, `None` for scikit-learn and for models of models.
        chosen: the settings that `training.search` chose; empty without one.
        layer_weights: by input, what each of its layers weighs, where it has several layers of an encoder.
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
    embeddings: dict[str, str] = field(default_factory=dict)
    model: Any = None
    chosen: dict[str, Any] = field(default_factory=dict)
    layer_weights: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Result:
    """A finished cross-validation.

    Attributes:
        config: the experiment.
        dataset: what it was made with.
        audit: what stands on both sides of the folds.
        folds: one result per fold, in their order.
        metrics: see `measure`.
        folder: where it is written down, `None` if nowhere.
        remarks: what went wrong beside it, such as a picture that was not drawn.
    """

    config: Config
    dataset: Dataset
    audit: leakage.Audit
    folds: list[FoldResult]
    metrics: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def predictions(self) -> pd.DataFrame:
        """All held-out predictions, every clip once per repeat."""
        return pd.concat([result.predictions for result in self.folds], ignore_index=True)


def check(config: Config, dataset: Dataset, *, twins: bool = False) -> None:
    """Refuse what cannot be trained, or is a fusion of nothing, before anything is begun.

    One representation given twice adds nothing to what it says once. Other layers or poolings of an encoder are other
    representations; and models of models may have another head for the second time.

    Args:
        config: the experiment.
        dataset: what it is to be trained on.
        twins: let a representation be given twice, as in runs that were made before that was refused.

    Raises:
        ConfigError: the model cannot be trained, or two inputs are the same in all that the model makes of them; or one
            has several layers of an encoder, and no network that could weigh them.
    """
    model = models.get(config.model)
    model.check_trainable()
    for one in (one for _, one in search.candidates(config)):
        _check_layers(one, dataset)
    options = config.model_options()
    heads = options.heads if isinstance(options, HeadOptions) else None  # another model's option may be called so
    made_of = heads(len(dataset.keys)) if heads else [None] * len(dataset.keys)
    first: dict[str, Any] = {}
    for (side, key), head in zip(dataset.keys.items(), made_of, strict=True):
        twin = next((other for other, like in first.items() if like == (key, head)), None)
        if twin and not twins:
            advice = ", or another head for each (options.head)" if heads else ""
            raise ConfigError(
                f"The inputs {twin} and {side} of {config.model!r} are the same representation ({key.folder}), and a "
                f"fusion of it with itself knows nothing more. Give another encoder, layer or pooling{advice}; or use "
                "--head for one representation."
            )
        first[side] = (key, head)


def _check_layers(config: Config, dataset: Dataset) -> None:
    """Refuse several layers of an encoder where they cannot be weighed by gradient."""
    model, options = models.get(config.model), config.model_options()
    heads = options.heads if isinstance(options, HeadOptions) else None
    made_of = heads(len(dataset.keys)) if heads else [(config.model, None)] * len(dataset.keys)
    for (side, key), (name, values) in zip(dataset.keys.items(), made_of, strict=True):
        if not key.joint:
            continue
        head = models.get(name)
        if (head.trained_with(head.options(**values)) if heads else model.trained_with(options)) == "scikit-learn":
            raise ConfigError(
                f"{name!r} cannot learn what the layers of {key.encoder} (input {side}) weigh: that takes a network, "
                "trained by gradient. Use --head fcn or another network, or name one layer: "
                f"{key.encoder}@layer={key.layers[-1]}. `serfuse layers` shows the accuracy of each."
            )


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
    if fitting.trained_with(config) == "scikit-learn":
        _check_single_clips(config, dataset, parts)
    return parts


def _check_single_clips(config: Config, dataset: Dataset, parts: Sequence[Fold]) -> None:
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
    if fitting.trained_with(config) == "scikit-learn":  # nothing is stopped early: those clips may be learned from
        return np.concatenate([fold.train, fold.validation]), fold.validation[:0]
    return fold.train, fold.validation


def run_fold(config: Config, dataset: Dataset, fold: Fold, observer: Observer | None = None) -> FoldResult:
    """Train on one fold's training part and predict its test clips."""
    start = time.perf_counter()
    observer = observer or Observer()
    training, validation, seed = _lesson(config, dataset, fold)
    observer.fold_begun(fold)
    fitted = fitting.fit(config, training, validation, len(dataset.classes), seed, observer=observer)
    return _tested(config, dataset, fold, fitted, start)


def run_folds(
    config: Config, dataset: Dataset, parts: Sequence[Fold], observer: Observer | None = None
) -> Iterator[FoldResult]:
    """Train on the training parts of several folds at once, see `fitting.together`, and predict the test clips of each.

    The time of training is shared out evenly among the folds.
    """
    begun = time.perf_counter()
    observer = observer or Observer()
    lessons = []
    for fold in parts:
        lessons.append(_lesson(config, dataset, fold))
        observer.fold_begun(fold)
    found = fitting.fit_together(config, lessons, len(dataset.classes), observer=observer)
    share = (time.perf_counter() - begun) / max(1, len(parts))
    for fold, fitted in zip(parts, found, strict=True):
        yield _tested(config, dataset, fold, fitted, time.perf_counter() - share)


def _lesson(config: Config, dataset: Dataset, fold: Fold) -> tuple[Part, Part, int]:
    """What is learned from, what early stopping looks at, and the seed."""
    training, validation = (dataset.part(ids, fold.apart) for ids in learned_from(config, fold))
    return training, validation, fold_seed(config, fold)


def _tested(config: Config, dataset: Dataset, fold: Fold, fitted: fitting.Fitted, start: float) -> FoldResult:
    """Predict the test clips of a fold; `start` is when its training began."""
    classes, seed, test = dataset.classes, fold_seed(config, fold), dataset.part(fold.test)
    depends = models.get(config.model).batch_dependent(config.model_options())
    batch_size = config.training.batch_size if depends else None
    probabilities = fitted.probabilities(test.arrays, batch_size)
    predicted = fitted.predict(test.arrays, batch_size)
    clips = dataset.clips.iloc[dataset.rows(fold.test)]
    predictions = pd.DataFrame(
        {
            "clip": clips["id"].to_numpy(),
            "speaker": clips["speaker"].to_numpy(),
            "text": clips["text"].to_numpy(),
            "repeat": fold.repeat,
            "fold": fold.index,
            "label": np.asarray(classes)[test.labels],
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
            permutation_importance(fitted, test, predicted, seed, batch_size) if len(dataset.arrays) > 1 else {}
        ),
        neighbours=batch_dependence(fitted, test) if depends else {},
        penultimate=fitted.penultimate(test.arrays),
        seconds=time.perf_counter() - start,
        threads=processors.threads(fitting.library(config)),
        embeddings=dataset.embedding_digests,
        model=getattr(fitted, "model", None),
        chosen=getattr(fitted, "chosen", {}),
        layer_weights=getattr(fitted, "layer_weights", {}),
    )


def cross_validate(
    config: Config,
    dataset: Dataset,
    parts: list[Fold] | None = None,
    *,
    recall: Callable[[Fold], FoldResult | None] | None = None,
    keep: Callable[[FoldResult], None] | None = None,
    observer: Observer | None = None,
) -> Result:
    """Run every fold of a configuration.

    Args:
        config: the experiment.
        dataset: from `load_dataset`.
        parts: from `plan`, which is called when they are left out.
        recall: gives a fold that was finished before, or `None`.
        keep: called with each fold that was trained now, to write it down before the observer hears of it.
        observer: hears of the audit, of each epoch and of each fold, and counts epochs (folds, where nothing is
            trained in epochs).

    Raises:
        SplitError: the clips cannot be split as asked.
        RunError: training diverges.
    """
    observer = observer or Observer()
    parts = plan(config, dataset) if parts is None else parts
    audit = leakage.audit(
        dataset.clips.reset_index(drop=True),
        parts,
        speaker_kind=dataset.speaker_kind,
        fitted=_fitted(config, dataset, parts),
        notes=[*encoder_notes(dataset.corpus, dataset.keys.values()), *_padding(dataset)],
    )
    known = [recall(fold) if recall else None for fold in parts]
    observer.audit_known(audit, parts, sum(result is not None for result in known))
    unit = "epoch" if fitting.trained_with(config) == "keras" else "fold"
    items = fitting.epochs(config) if unit == "epoch" else 1
    finished: list[FoldResult] = []
    with observer.working(f"{unit}s", items * len(parts), unit):
        missing = [fold for fold, before in zip(parts, known, strict=True) if before is None]
        trained = (
            run_folds(config, dataset, missing, observer)
            if missing and fitting.together(config)
            else (run_fold(config, dataset, fold, observer) for fold in missing)
        )
        for before in known:
            result = before or next(trained)
            if before is None and keep:
                keep(result)
            finished.append(result)
            observer.fold_done(result)
            observer.advance(len(finished) * items)  # also where training stopped early
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
        result.predictions,
        result.dataset.classes,
        speaker_kind=result.dataset.speaker_kind,
        seed=result.config.seed,
        further=result.config.metrics,
    )
    found["parameters"] = result.folds[0].parameters
    found["seconds"] = round(sum(fold.seconds for fold in result.folds), 3)
    found["audit"] = result.audit.to_dict()
    found["left_out"] = list(result.dataset.left_out)
    found["random_weights"] = [key.encoder for key in result.dataset.keys.values() if key.random]
    if result.config.training.search is not None:
        found["chosen"] = [
            {"repeat": one.fold.repeat, "fold": one.fold.index, "settings": dict(one.chosen)} for one in result.folds
        ]
    if result.folds[0].layer_weights:
        found["layer_weights"] = _layer_weights(result)
    for name in ("sensitivity", "neighbours"):
        if tables := [getattr(fold, name) for fold in result.folds if getattr(fold, name)]:
            found[name] = _means(tables)
    return found


def _layer_weights(result: Result) -> dict[str, Any]:
    """By input: its encoder, its layers, their mean weights and those of each fold."""
    found = {}
    for side in result.folds[0].layer_weights:
        key = result.dataset.keys[side]
        each = [fold.layer_weights[side] for fold in result.folds]
        found[side] = {
            "encoder": key.encoder,
            "layers": [int(layer) for layer in key.layers],
            "mean": np.mean(each, axis=0).tolist(),
            "folds": each,
        }
    return found


def _means(tables: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Of each figure over the folds."""
    return {
        key: {name: float(np.mean([table[key][name] for table in tables])) for name in figures}
        for key, figures in tables[0].items()
    }
