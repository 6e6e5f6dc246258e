"""One finished fold on disk, so that interrupted work is taken up where it stopped.

A fold's folder appears whole or not at all: it is written under a temporary name, flushed and renamed.
"""

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..atomic_io import make_durable_folder, sync
from ..errors import RunError
from ..experiment.cross_validation import FoldResult
from ..splits.folds import Fold
from . import reading


def name(fold: Fold) -> str:
    """Folder name of a fold: `r0f1`."""
    return f"r{fold.repeat}f{fold.index}"


def write(folder: Path, result: FoldResult, fingerprint: str, extra: dict[str, Any] | None = None) -> None:
    """Keep a finished fold under `folder/<name>`, durably.

    Args:
        folder: of all folds of one run.
        result: the finished fold; its model is not kept here.
        fingerprint: of everything that decides the result; `read` refuses a fold with another one.
        extra: further facts for the JSON file (peak memory, who ran it ...).
    """
    make_durable_folder(folder)
    temporary = folder / f".{name(result.fold)}-{uuid.uuid4().hex[:8]}"
    replaced = temporary.with_name(f"{temporary.name}-old")
    temporary.mkdir()
    try:
        result.predictions.to_csv(temporary / "predictions.csv", index=False)
        result.history.to_csv(temporary / "history.csv", index=False)
        np.save(temporary / "penultimate.npy", result.penultimate.astype("float32"), allow_pickle=False)
        facts = {
            "fingerprint": fingerprint,
            "parameters": result.parameters,
            "sensitivity": result.sensitivity,
            "neighbours": result.neighbours,
            "seconds": result.seconds,
            "threads": result.threads,
            "embeddings": result.embeddings,
            **({"chosen": result.chosen} if result.chosen else {}),
            **(extra or {}),
        }
        (temporary / "fold.json").write_text(json.dumps(facts, indent=1), "utf-8")
        for path in temporary.iterdir():
            sync(path)
        sync(temporary)
        target = folder / name(result.fold)
        try:
            os.rename(temporary, target)
        except OSError:
            # Somebody else finished the same fold first: theirs is as good unless it is of another run.
            if read(folder, result.fold, fingerprint) is not None:
                return
            os.rename(target, replaced)  # as a whole: half of it must not be taken for a finished fold
            os.rename(temporary, target)
        sync(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def read(folder: Path, fold: Fold, fingerprint: str) -> FoldResult | None:
    """A fold kept by `write`, or `None` when there is none with this fingerprint.

    Raises:
        RunError: the folder is there but cannot be read.
    """
    path = folder / name(fold)
    if not (path / "fold.json").is_file():
        return None
    try:
        facts = reading.json_object(path / "fold.json")
        if facts["fingerprint"] != fingerprint:
            return None
        return FoldResult(
            fold=fold,
            predictions=read_predictions(path / "predictions.csv"),
            history=_history(path / "history.csv"),
            parameters=int(facts["parameters"]),
            sensitivity=facts["sensitivity"],
            neighbours=facts["neighbours"],
            penultimate=np.load(path / "penultimate.npy", allow_pickle=False),
            seconds=float(facts["seconds"]),
            threads=int(facts.get("threads", 0)),
            embeddings=dict(facts.get("embeddings") or {}),
            chosen=dict(facts.get("chosen") or {}),
        )
    except (OSError, ValueError, KeyError, TypeError, RunError) as error:
        raise RunError(
            f"The finished fold {path} cannot be read ({error}). Delete that folder to run it anew."
        ) from None


def _history(path: Path) -> pd.DataFrame:
    """A row for each epoch; only the columns where a model has none."""
    return reading.table(path, ()) if path.stat().st_size > 1 else pd.DataFrame()


def read_predictions(path: Path) -> pd.DataFrame:
    """A `predictions.csv`; ids stay text ("03", not 3), and a missing speaker or text stays missing.

    Raises:
        RunError: it is no such table.
    """
    return reading.table(path, ("clip", "label", "predicted"))
