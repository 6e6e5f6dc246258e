"""The model that is kept: the settings of a cross-validated run, trained on all of its clips."""

from pathlib import Path

import pandas as pd

from .. import models
from ..atomic_io import make_folder
from ..errors import ModelFileError, RunError, StoreError
from ..experiment import backend, cross_validation, fitting, search
from ..experiment.config import Config
from ..experiment.dataset import Dataset, load_dataset
from ..progress import Observer
from ..runs import run_folder
from ..runs.run import Run
from ..splits import folds
from ..store import EmbeddingStore, StorePath
from . import keras_file, plain_model
from .bundle import FORMAT, PLAIN_FORMAT, Bundle, Card, Evaluation, Input, TrainedOn, save


def train(
    run: Run | Path | str,
    store: EmbeddingStore | StorePath | str,
    out: Path | str | None = None,
    *,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Bundle:
    """Train the model of a finished run on all of its clips, and keep it as one file.

    Args:
        run: the finished run, or its folder.
        store: the store that it was made with, or its folder.
        out: the file to write, by default `<name of the run>.serfuse`.
        overwrite: replace a file that is there.
        observer: hears of each epoch.

    Raises:
        ModelFileError: `out` is there already, or the network could not be read again.
        RunError: no finished run, data that have changed since, or a model that cannot be kept.
        StoreError: the file cannot be written.
    """
    run = _finished(run)
    target = Path(out) if out is not None else Path(f"{run.folder.resolve().name}.serfuse")
    if target.exists() and not overwrite:
        raise ModelFileError(f"{target} is there already. Choose another file, or have it overwritten (--overwrite).")
    config, dataset = of_run(run, EmbeddingStore.of(store))
    make_folder(target.parent)  # what cannot be written is said before the training
    made = fit_whole(run, config, dataset, observer)
    save(made, target)
    return made


def _finished(run: Run | Path | str) -> Run:
    return run if isinstance(run, Run) else Run.read(run)


def of_run(run: Run | Path | str, store: EmbeddingStore) -> tuple[Config, Dataset]:
    """The settings of a finished run, and the data it was made with.

    Raises:
        RunError: no finished run, or clips, labels, recordings or embeddings have changed since.
        ConfigError: its model cannot be trained, or its config.yaml was edited into something that is no configuration.
    """
    run = _finished(run)
    config = run.config
    models.get(config.model).check_trainable()
    try:
        dataset = load_dataset(config, store)
    except StoreError as error:
        if type(error) is not StoreError:  # a damaged file says what to do
            raise
        raise StoreError(
            f"{error}\nIf {run.folder} was made with another store, name that one (--store): a run does not keep the "
            "place of its store, since stores are moved, and reached from elsewhere by other addresses."
        ) from error
    if changes := run.changes(dataset):
        raise RunError(
            f"The store {store.root} no longer holds what {run.folder} was made with: {'; '.join(changes)}. The "
            "figures of the run would not be about the model. Run `serfuse cv` again, and train from the new run."
        )
    return config, dataset


def fit_whole(run: Run | Path | str, config: Config, dataset: Dataset, observer: Observer | None = None) -> Bundle:
    """Train on every clip, but for the inner validation part that early stopping looks at.

    That part is drawn as in each fold of the run: it keeps apart what the run's split keeps apart. No clip is left to
    test on; what to expect of the model is what the run found.

    Args:
        run: the finished run, or its folder.
        config: its settings, and
        dataset: its data, from `of_run`.
        observer: hears of each epoch.

    Raises:
        RunError: a model that cannot stand alone (it needs batch mates), or has no file format; training diverges.
        ModelFileError: a network that could not be read again.
        SplitError: no validation part can be kept apart.
    """
    run, model = _finished(run), models.get(config.model)
    plain = fitting.trained_with(config) == "scikit-learn"
    model.check_trainable()
    if model.fit is not None and not plain:
        raise RunError(
            f"{run.folder} is a run of {config.model!r} with networks as heads, which has no file format yet. Use the "
            "head 'svm', or a network that takes all representations itself (`serfuse list models`)."
        )
    if model.batch_dependent(config.model_options()):
        raise RunError(
            f"{run.folder} is a run of {config.model!r} with points=batch, whose prediction of a clip depends on the "
            "clips predicted beside it; new audio comes alone. Use options.points=features or reference."
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
    if not plain:
        _check_can_be_kept(config, dataset)
    learned, watched = cross_validation.learned_from(config, part)
    training, validation = dataset.part(learned, part.apart), dataset.part(watched, part.apart)
    observer = observer or Observer()
    unit, items = ("fold", 1) if plain else ("epoch", fitting.epochs(config))
    with observer.working("training", items, unit):
        fitted = fitting.fit(config, training, validation, len(dataset.classes), config.seed, observer=observer)
    if chosen := getattr(fitted, "chosen", {}):  # what the card says is what the model is
        config = next(one for values, one in search.candidates(config) if values == chosen)
    card = _card(run, config, dataset, len(watched), len(fitted.history))
    if not plain:
        return Bundle(card, fitting.without_optimizer(fitted.model))
    sizes = {name: part.size for name, part in card.inputs.items()}
    return Bundle(card.model_copy(update={"format": PLAIN_FORMAT}), plain_model.plain(fitted, len(card.classes), sizes))


def _check_can_be_kept(config: Config, dataset: Dataset) -> None:
    """Build the network once before it is trained: one that could not be read again is not worth training.

    Raises:
        ModelFileError: it has layers that its model does not declare, or takes more than a model file may.
    """
    backend.set_up_backend()
    network = models.get(config.model).build(dataset.arrays, len(dataset.classes), config.model_options(), config.seed)
    keras_file.check_declared(fitting.without_optimizer(network), config.model)
    keras_file.clips_at_once(network, f"The model {config.model!r}")


def evaluation(run: Run) -> Evaluation:
    """What a finished run found, as the file of a model keeps it."""
    interval = run.metrics["intervals"]["accuracy"]
    return Evaluation(
        split=run.split,
        folds=len(run.metrics["folds"]),
        accuracy=run.metrics["mean"]["accuracy"],
        accuracy_low=interval["low"],
        accuracy_high=interval["high"],
        uar=run.metrics["mean"]["uar"],
        estimates=run.audit[0],
    )


def _card(run: Run, config: Config, dataset: Dataset, validation_clips: int, epochs: int) -> Card:
    lengths = dataset.clips["seconds"].dropna() if "seconds" in dataset.clips else pd.Series(dtype=float)
    return Card(
        format=FORMAT,
        model=config.model,
        options=config.model_options().model_dump(mode="json", context=models.EVERY_SETTING),
        training=config.training.model_dump(mode="json", exclude=None if config.training.search else {"search"}),
        seed=config.seed,
        classes=dataset.classes,
        inputs={
            name: Input(key=key.to_dict(), size=dataset.arrays[name].shape[-1]) for name, key in dataset.keys.items()
        },
        trained_on=TrainedOn(
            corpus=dataset.corpus,
            clips=len(dataset.clips),
            validation_clips=validation_clips,
            speakers=int(dataset.clips["speaker"].nunique()),
            speaker_kind=dataset.speaker_kind,
            synthetic=bool(dataset.info.get("synthetic", False)),
            seconds=(float(lengths.min()), float(lengths.max())) if len(lengths) else None,
            epochs=epochs,
        ),
        evaluation=evaluation(run),
        versions=run_folder.versions(),
        backend=fitting.library(config),
    )
