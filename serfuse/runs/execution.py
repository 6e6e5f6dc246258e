"""Run a cross-validation into a run folder, taking up what an interrupted run there had finished."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from .. import models
from ..atomic_io import LOCK, in_use, locked
from ..errors import RunError
from ..experiment import backend, cross_validation, fitting
from ..experiment import threads as processors
from ..experiment.config import Config
from ..experiment.cross_validation import Dataset, FoldResult, Result
from ..splits import leakage
from ..splits.folds import Fold
from . import fold_files, run_folder

FINISHED_FOLDS = ".folds"


def fingerprint(config: Config, dataset: Dataset, threads: Iterable[int] = ()) -> str:
    """A hash of everything that decides the result of any fold: configuration, embeddings, clips, labels, versions.

    Args:
        threads: of each operation. A sweep keeps their number for its whole folder and leaves them out here.
    """
    description = run_folder.description(config, dataset, threads)
    text = json.dumps({**description, "clips": dataset.digest}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def execute(
    config: Config,
    dataset: Dataset,
    out: Path,
    *,
    overwrite: bool = False,
    on_audit: Callable[[leakage.Audit, list[Fold], int], None] | None = None,
    on_fold: Callable[[FoldResult], None] | None = None,
    on_epoch: Callable[[Fold, int, Mapping[str, float]], None] | None = None,
) -> Result:
    """Cross-validate and write the run folder.

    Each finished fold is written down at once. A run that was interrupted goes on from its last finished fold when
    the same command is given again; folds of another configuration are never reused.

    Args:
        config: the experiment.
        dataset: from `crossval.load_dataset`.
        out: the run folder.
        overwrite: replace a finished run.
        on_audit: called before training with the leakage audit, the folds and how many of them are done already.
        on_fold: called with each fold, trained now or taken up.
        on_epoch: called with each epoch.

    Raises:
        RunError: `out` holds a finished run, or cannot be written.
        SplitError: the clips cannot be split as asked.
        FolderInUseError: another process is at work in `out`.
        StoreError: the disk is full.
    """
    if models.get(config.model).library == "keras":
        backend.set_up_backend()
    parts = cross_validation.plan(config, dataset)
    run_folder.prepare(out, overwrite)
    try:
        with locked(out, wait=False):
            try:
                return _execute(config, dataset, parts, out, overwrite, on_audit, on_fold, on_epoch)
            finally:
                (out / LOCK).unlink(missing_ok=True)
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
    overwrite: bool,
    on_audit: Callable[[leakage.Audit, list[Fold], int], None] | None,
    on_fold: Callable[[FoldResult], None] | None,
    on_epoch: Callable[[Fold, int, Mapping[str, float]], None] | None,
) -> Result:
    """`execute`, once the folder is there and nobody else works in it."""
    threads = [processors.threads(fitting.library(config))]
    mark = fingerprint(config, dataset, threads)
    kept = out / FINISHED_FOLDS
    before = {fold_files.name(fold): fold_files.read(kept, fold, mark) for fold in parts}
    done = sum(result is not None for result in before.values())
    if not done:
        shutil.rmtree(kept, ignore_errors=True)
    run_folder.clear(out, keep_models=done > 0)
    run_folder.write_start(out, config, dataset, parts, threads)

    def finish(result: FoldResult) -> None:
        if before[fold_files.name(result.fold)] is None:
            run_folder.write_fold(out, result, config.split.repeats)
            fold_files.write(kept, result, mark)
            result.model = None  # on disk now; five of them in memory would be a waste
        if on_fold:
            on_fold(result)

    result = cross_validation.cross_validate(
        config,
        dataset,
        parts,
        recall=lambda fold: before[fold_files.name(fold)],
        on_audit=(lambda audit: on_audit(audit, parts, done)) if on_audit else None,
        on_fold=finish,
        on_epoch=on_epoch,
    )
    result.remarks = run_folder.write(out, result)
    shutil.rmtree(kept, ignore_errors=True)
    return result


def free_folder(root: Path, config: Config, dataset: Dataset) -> Path:
    """A run folder that is not taken: named for the experiment, and numbered where that name is.

    Taken is a folder with a finished run, with finished folds of a run of other settings that was interrupted, or in
    which another process is at work. One with finished folds of this very run is where it goes on.
    """
    parts = [dataset.corpus, config.model, *(key.encoder for key in dataset.keys.values()), config.split.name]
    base = "-".join(parts) + f"-seed{config.seed}"
    mark = fingerprint(config, dataset, [processors.threads(fitting.library(config))])
    candidate, number = root / base, 2
    while (candidate / "metrics.json").exists() or _marks(candidate) - {mark} or in_use(candidate):
        candidate, number = root / f"{base}-{number}", number + 1
    return candidate


def _marks(out: Path) -> set[str]:
    """Fingerprints of the finished folds in a run folder; "" for one that cannot be read."""
    found = set()
    for path in (out / FINISHED_FOLDS).glob("*/fold.json"):
        try:
            found.add(str(json.loads(path.read_text("utf-8"))["fingerprint"]))
        except (OSError, ValueError, KeyError, TypeError):
            found.add("")
    return found
