"""Run a cross-validation into a run folder, taking up what an interrupted run there had finished."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

from .. import models
from ..atomic_io import in_use, locked
from ..errors import RunError
from ..experiment import backend, cross_validation, fitting
from ..experiment import threads as processors
from ..experiment.config import Config
from ..experiment.cross_validation import FoldResult, Result
from ..experiment.dataset import Dataset, load_dataset
from ..progress import Observer
from ..splits.folds import Fold
from ..store import EmbeddingStore, StorePath
from . import fold_files, reading, run_folder
from .run import Run

FINISHED_FOLDS = ".folds"
_MOST_NAMED = 150  # characters of a folder's name that are the encoders': a name has at most 255 bytes


def fingerprint(config: Config, dataset: Dataset, threads: Iterable[int] = ()) -> str:
    """A hash of everything that decides the result of any fold: configuration, embeddings, clips, labels, versions.

    Args:
        threads: of each operation. A sweep keeps their number for its whole folder and leaves them out here.
    """
    description = run_folder.description(config, dataset, threads).to_dict()
    del description["digests"]  # the clips are in `digest`, the embeddings in the folds: a plan has no vectors
    text = json.dumps({**description, "clips": dataset.digest}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cross_validate(
    config: Config,
    store: EmbeddingStore | StorePath | str,
    out: Path | str | None = None,
    *,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Run:
    """Cross-validate what a configuration says on the embeddings of a store, and give the finished run.

    Args:
        config: from `serfuse.configure`.
        store: the store, or its folder.
        out: the run folder, by default a free one in `runs/`. An interrupted run there is taken up.
        overwrite: replace a finished run.
        observer: hears of the audit before training, and of each epoch and fold.

    Raises:
        ConfigError: the inputs do not fit the model, which cannot be trained or is to fuse one of them with itself.
        StoreError: the store does not hold what is asked for, or the disk is full.
        SplitError: the clips cannot be split as asked.
        RunError: `out` holds a finished run, or cannot be written; training diverges.
    """
    dataset = load_dataset(config, EmbeddingStore.of(store))
    folder = Path(out) if out is not None else free_folder(Path("runs"), config, dataset)
    execute(config, dataset, folder, overwrite=overwrite, observer=observer)
    return Run.read(folder)


def execute(
    config: Config,
    dataset: Dataset,
    out: Path | None = None,
    *,
    overwrite: bool = False,
    pictures: bool = True,
    keep_models: bool = True,
    twins: bool = False,
    observer: Observer | None = None,
) -> Result:
    """Cross-validate and write the run folder.

    Each finished fold is written down at once. A run that was interrupted goes on from its last finished fold when
    the same command is given again; folds of another configuration are never reused.

    Args:
        config: the experiment.
        dataset: from `serfuse.experiment.dataset.load_dataset`.
        out: the run folder, by default a free one in `runs/`; the result says which.
        overwrite: replace a finished run.
        pictures: also draw the confusion matrix and the t-SNE of a fold, which takes longer than a small model.
        keep_models: also keep the network of each fold.
        twins: see `cross_validation.check`.
        observer: hears of the audit before training, and of each epoch and fold. A fold that it hears of is written
            down.

    Raises:
        ConfigError: the model cannot be trained, or is to fuse a representation with itself.
        RunError: `out` holds a finished run, or cannot be written.
        SplitError: the clips cannot be split as asked.
        FolderInUseError: another process is at work in `out`.
        StoreError: the disk is full.
    """
    cross_validation.check(config, dataset, twins=twins)
    if fitting.trained_with(config) == "keras":
        backend.set_up_backend()
    parts = cross_validation.plan(config, dataset)
    out = out or free_folder(Path("runs"), config, dataset)
    run_folder.prepare(out, overwrite)
    try:
        with locked(out, wait=False, remove=True):
            return _execute(config, dataset, parts, out, observer, pictures=pictures, keep_models=keep_models)
    except OSError as error:
        raise RunError(
            f"Cannot write the run folder {out}: {error.strerror or error}. Finished folds are safe there; the same "
            "command goes on with them."
        ) from error


def _execute(
    config: Config,
    dataset: Dataset,
    parts: list[Fold],
    out: Path,
    observer: Observer | None,
    *,
    pictures: bool,
    keep_models: bool,
) -> Result:
    """`execute`, once the folder is there and nobody else works in it."""
    threads = [processors.threads(fitting.library(config))]
    mark = fingerprint(config, dataset, threads)
    kept = out / FINISHED_FOLDS
    run_folder.remove_leftovers(out)
    fold_files.remove_leftovers(kept)
    before = {fold_files.name(fold): fold_files.read(kept, fold, mark) for fold in parts}
    remarks = []
    for fold in parts:
        name, result = fold_files.name(fold), before[fold_files.name(fold)]
        if result is None:
            continue
        if result.embeddings not in ({}, dataset.embedding_digests):
            before[name] = None  # the embeddings came out otherwise since
        elif keep_models and (remark := _lost_model(config, kept, fold, out)):
            before[name] = None
            remarks.append(remark)
    done = sum(result is not None for result in before.values())
    if not done:
        shutil.rmtree(kept, ignore_errors=True)
    run_folder.clear(out, keep_models=keep_models and done > 0)
    run_folder.write_start(out, config, dataset, parts, threads)

    def keep(result: FoldResult) -> None:
        digest = run_folder.write_fold(out, result, config.split.repeats) if keep_models else ""
        fold_files.write(kept, result, mark, {"model": digest} if digest else None)
        result.model = None  # on disk now; five of them in memory would be a waste

    result = cross_validation.cross_validate(
        config, dataset, parts, recall=lambda fold: before[fold_files.name(fold)], keep=keep, observer=observer
    )
    if pictures:
        remarks = [*remarks, *run_folder.write(out, result)]
    else:
        run_folder.write_tables(out, result)
    result.remarks = list(remarks)
    result.folder = out
    shutil.rmtree(kept, ignore_errors=True)
    return result


def _lost_model(config: Config, kept: Path, fold: Fold, out: Path) -> str:
    """A sentence where the model of a finished fold is not as it was written, so that the fold is run anew."""
    if fitting.trained_with(config) != "keras" or models.get(config.model).fit is not None:  # none is kept
        return ""
    facts = fold_files.read_facts(kept, fold) or {}
    if run_folder.has_model(out, fold, config.split.repeats, facts.get("model")):
        return ""
    file = run_folder.model_name(fold, config.split.repeats)
    return f"{file} was missing, or not as it was written: its fold was trained anew."


def free_folder(root: Path, config: Config, dataset: Dataset) -> Path:
    """A run folder that is not taken: named for the experiment, and numbered where that name is.

    Taken is a folder with a finished run, with finished folds of a run of other settings that was interrupted, or in
    which another process is at work. One with finished folds of this very run is where it goes on.
    """
    mark = fingerprint(config, dataset, [processors.threads(fitting.library(config))])
    for candidate in _folders(root, config, dataset):
        if not ((candidate / "metrics.json").exists() or _marks(candidate) - {mark} or in_use(candidate)):
            return candidate
    raise AssertionError  # there is no end of names


def finished_folder(root: Path, config: Config, dataset: Dataset) -> Path | None:
    """The run folder, among those that `free_folder` names, that holds this very run, finished.

    The very run has the same settings, clips, labels, embeddings, versions and number of threads: made again it would
    come out the same.
    """
    wanted = run_folder.description(config, dataset, [processors.threads(fitting.library(config))]).to_dict()
    for candidate in _folders(root, config, dataset):
        if not candidate.exists():
            return None
        try:
            if Run.read(candidate).description.to_dict() == wanted:
                return candidate
        except RunError:  # one that is not finished, or damaged
            continue
    raise AssertionError


def _folders(root: Path, config: Config, dataset: Dataset) -> Iterator[Path]:
    """The names of an experiment's run folders, one after the other."""
    encoders = "-".join(key.encoder for key in dataset.keys.values())[:_MOST_NAMED]
    base = "-".join([dataset.corpus, config.model, encoders, config.split.name]) + f"-seed{config.seed}"
    yield root / base
    for number in count(2):
        yield root / f"{base}-{number}"


def _marks(out: Path) -> set[str]:
    """Fingerprints of the finished folds in a run folder; "" for one that cannot be read."""
    found = set()
    for path in (out / FINISHED_FOLDS).glob("*/fold.json"):
        try:
            found.add(str(reading.json_object(path)["fingerprint"]))
        except (RunError, KeyError):
            found.add("")
    return found
