"""One finished fold on disk, so that interrupted work is taken up where it stopped.

A fold's folder appears whole or not at all: it is written under a temporary name, flushed and renamed.
"""

import io
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..atomic_io import make_durable_folder, sync
from ..errors import RunError
from ..experiment.cross_validation import FoldResult
from ..splits.folds import Fold
from . import reading

_DIGEST = "digest"


def name(fold: Fold) -> str:
    """Folder name of a fold: `r0f1`."""
    return f"r{fold.repeat}f{fold.index}"


def write(folder: Path, result: FoldResult, fingerprint: str, extra: dict[str, Any] | None = None) -> None:
    """Keep a finished fold under `folder/<name>`, durably.

    Args:
        folder: of all folds of one run.
        result: the finished fold; its model is not kept here (`run_folder.write_fold`).
        fingerprint: of everything that decides the result; `read` refuses a fold with another one.
        extra: further facts for the JSON file (peak memory, who ran it ...).
    """
    make_durable_folder(folder)
    remove_leftovers(folder, name(result.fold))
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
            **({"layer_weights": result.layer_weights} if result.layer_weights else {}),
            **(extra or {}),
            "files": {path.name: reading.digest(path.read_bytes()) for path in sorted(temporary.iterdir())},
        }
        facts[_DIGEST] = _digest(facts)
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


def remove_leftovers(folder: Path, which: str = "r") -> None:
    """Remove what processes left that were killed while they wrote a fold; nobody else may write it now.

    Args:
        folder: of all folds of one run.
        which: the fold's name; by default any.
    """
    for left in folder.glob(f".{which}*-*"):
        shutil.rmtree(left, ignore_errors=True)


def read(folder: Path, fold: Fold, fingerprint: str) -> FoldResult | None:
    """A fold kept by `write`, or `None` when there is none with this fingerprint.

    Raises:
        RunError: the folder is there but cannot be read, or is not as it was written.
    """
    path = folder / name(fold)
    try:
        facts = read_facts(folder, fold)
        if facts is None or facts["fingerprint"] != fingerprint:
            return None
        digests = facts.get("files")
        return FoldResult(
            fold=fold,
            predictions=read_predictions(path / "predictions.csv", digests),
            history=_history(path / "history.csv", digests),
            parameters=int(facts["parameters"]),
            sensitivity=facts["sensitivity"],
            neighbours=facts["neighbours"],
            penultimate=_array(path / "penultimate.npy", digests),
            seconds=float(facts["seconds"]),
            threads=int(facts.get("threads", 0)),
            embeddings=dict(facts.get("embeddings") or {}),
            chosen=dict(facts.get("chosen") or {}),
            layer_weights=dict(facts.get("layer_weights") or {}),
        )
    except (OSError, ValueError, KeyError, TypeError, RunError) as error:
        raise RunError(
            f"The finished fold {path} cannot be read ({error}). Delete that folder to run it anew."
        ) from None


def read_facts(folder: Path, fold: Fold) -> dict[str, Any] | None:
    """What `fold.json` of a finished fold holds, or `None` where there is none.

    Raises:
        RunError: it cannot be read, or is not as it was written (folds of serfuse 0.1 do not tell).
    """
    path = folder / name(fold) / "fold.json"
    if not path.is_file():
        return None
    facts = reading.json_object(path)
    if _DIGEST in facts and _digest(facts) != facts[_DIGEST]:
        raise RunError(f"{path} is not as it was written: it was damaged, or edited")
    return facts


def _digest(facts: Mapping[str, Any]) -> str:
    """Of everything in `fold.json` but itself."""
    told = json.loads(json.dumps({key: value for key, value in facts.items() if key != _DIGEST}))
    return reading.digest(json.dumps(told, sort_keys=True).encode())


def _history(path: Path, digests: Mapping[str, str] | None) -> pd.DataFrame:
    """A row for each epoch; only the columns where a model has none."""
    if path.stat().st_size > 1:
        return reading.table(path, (), digests=digests)
    reading.file_bytes(path, 1, digests)
    return pd.DataFrame()


def _array(path: Path, digests: Mapping[str, str] | None) -> np.ndarray:
    data = reading.file_bytes(path, reading.MOST_TABLE_BYTES, digests)
    return np.load(io.BytesIO(data), allow_pickle=False)


def read_predictions(path: Path, digests: Mapping[str, str] | None = None) -> pd.DataFrame:
    """A `predictions.csv`; ids stay text ("03", not 3), and a missing speaker or text stays missing.

    Raises:
        RunError: it is no such table, or not the one of which `digests` tells.
    """
    return reading.table(path, ("clip", "label", "predicted"), digests=digests)
