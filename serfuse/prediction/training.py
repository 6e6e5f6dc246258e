"""The model that is kept: the settings of a cross-validated run, trained on all of its clips."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from .. import models
from ..errors import RunError, StoreError
from ..experiment import backend, cross_validation, fitting
from ..experiment.config import Config, from_dict
from ..experiment.cross_validation import Dataset
from ..runs import run_folder
from ..splits import folds
from ..store import EmbeddingStore
from ..store.key import EmbeddingKey
from . import keras_file
from .bundle import FORMAT, Bundle, Card, Evaluation, Input, TrainedOn


def of_run(run: Path, store: EmbeddingStore) -> tuple[Config, Dataset]:
    """The settings of a finished run, and the data it was made with.

    Raises:
        RunError: no finished run, or the store holds other clips or embeddings by now.
        ConfigError: its config.yaml was edited into something that is no configuration.
    """
    run_folder.read_metrics(run)
    values = run_folder.read_description(run)
    try:
        keys = {name: EmbeddingKey.from_dict(key) for name, key in values["embeddings"].items()}
        clips, classes = values["corpus"]["clips"], values["corpus"]["classes"]
    except (KeyError, TypeError, AttributeError, StoreError) as error:
        raise RunError(f"{run}/config.yaml does not say what the run was made with ({error!r}).") from None
    config = from_dict(run_folder.settings_of(values), f"{run}/config.yaml")
    dataset = cross_validation.load_dataset(config, store)
    if dataset.keys != keys or len(dataset.clips) != clips or dataset.classes != classes:
        raise RunError(
            f"The store {store.root} no longer holds what {run} was made with: {len(dataset.clips)} clips of "
            f"{', '.join(dataset.classes)} now, {clips} of {', '.join(map(str, classes))} then. Its figures would not "
            "be about the model. Run `serfuse cv` again, and train from the new run."
        )
    return config, dataset


def train(
    run: Path,
    config: Config,
    dataset: Dataset,
    on_epoch: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Bundle:
    """Train on every clip, but for the inner validation part that early stopping looks at.

    That part is drawn as in each fold of the run: it keeps apart what the run's split keeps apart. No clip is left to
    test on; what to expect of the model is what the run found.

    Args:
        run: the finished run.
        config: its settings, and
        dataset: its data, from `of_run`.
        on_epoch: called with each epoch, from 1, and its figures.

    Raises:
        RunError: a model that cannot stand alone (it needs batch mates), or has no file format; training diverges.
        ModelFileError: a network that could not be read again.
        SplitError: no validation part can be kept apart.
    """
    model = models.get(config.model)
    if model.library != "keras":
        raise RunError(
            f"{run} is a run of {config.model!r}, which has no file format that is safe to load from anybody. "
            "Run and train the model 'fcn', or another network (`serfuse list models`), on the same representation."
        )
    if model.batch_dependent(config.model_options()):
        raise RunError(
            f"{run} is a run of {config.model!r} with points=batch, whose prediction of a clip depends on the clips "
            "predicted beside it; new audio comes alone. Use options.points=features or reference."
        )
    part = folds.whole(
        dataset.clips.reset_index(drop=True),
        config.split.name,
        folds=config.split.folds,
        seed=config.seed,
        validation_fraction=config.training.validation_fraction,
        speaker_kind=dataset.speaker_kind,
        folder=None if config.split.folder is None else Path(config.split.folder),
    )
    codes = pd.Categorical(dataset.clips["emotion"], categories=dataset.classes).codes.astype("int64")

    _check_can_be_kept(config, dataset)

    def rows_of(ids: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        rows = dataset.rows(ids)
        return {name: array[rows] for name, array in dataset.arrays.items()}, codes[rows]

    fitted = fitting.fit(
        config, *rows_of(part.train), *rows_of(part.validation), len(dataset.classes), config.seed, on_epoch
    )
    return Bundle(_card(run, config, dataset, part, len(fitted.history)), fitting.without_optimizer(fitted.model))


def _check_can_be_kept(config: Config, dataset: Dataset) -> None:
    """Build the network once before it is trained: one that could not be read again is not worth training.

    Raises:
        ModelFileError: it has layers that its model does not declare, or takes more than a model file may.
    """
    backend.set_up_backend()
    network = models.get(config.model).build(dataset.arrays, len(dataset.classes), config.model_options(), config.seed)
    keras_file.check_declared(fitting.without_optimizer(network), config.model)
    keras_file.clips_at_once(network, f"The model {config.model!r}")


def _card(run: Path, config: Config, dataset: Dataset, part: folds.Fold, epochs: int) -> Card:
    metrics = run_folder.read_metrics(run)
    try:
        interval = metrics["intervals"]["accuracy"]
        evaluation = Evaluation(
            split=config.split.name,
            folds=len(metrics["folds"]),
            accuracy=metrics["mean"]["accuracy"],
            accuracy_low=interval["low"],
            accuracy_high=interval["high"],
            uar=metrics["mean"]["uar"],
            estimates=metrics["audit"]["sentences"][0],
        )
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise RunError(f"{run}/metrics.json was not written by this version of serfuse ({error!r}).") from None
    lengths = dataset.clips["seconds"].dropna() if "seconds" in dataset.clips else pd.Series(dtype=float)
    return Card(
        format=FORMAT,
        model=config.model,
        options=config.model_options().model_dump(mode="json"),
        training=config.training.model_dump(mode="json"),
        seed=config.seed,
        classes=dataset.classes,
        inputs={
            name: Input(key=key.to_dict(), size=dataset.arrays[name].shape[1]) for name, key in dataset.keys.items()
        },
        trained_on=TrainedOn(
            corpus=dataset.corpus,
            clips=len(dataset.clips),
            validation_clips=len(part.validation),
            speakers=int(dataset.clips["speaker"].nunique()),
            speaker_kind=dataset.speaker_kind,
            synthetic=bool(dataset.info.get("synthetic", False)),
            seconds=(float(lengths.min()), float(lengths.max())) if len(lengths) else None,
            epochs=epochs,
        ),
        evaluation=evaluation,
        versions=run_folder.versions(),
        backend=backend.backend_name(),
    )
