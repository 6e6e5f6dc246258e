"""The run folder written: everything that made a result, and the result, as files a person or a script can read.

`run.Run` reads it; `schema` is what both agree on.
"""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from .. import __version__
from ..atomic_io import write_text
from ..errors import RunError
from ..experiment import backend, config, fitting
from ..experiment.cross_validation import FoldResult, Result
from ..experiment.dataset import Dataset
from ..splits.folds import Fold
from . import figures, schema

_VERSIONED = ("keras", "tensorflow", "jax", "torch", "numpy", "scikit-learn", "scipy", "pandas")
FILES = ("config.yaml", "clips.csv", "folds.csv", "predictions.csv", "history.csv", "metrics.json")


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """A table as CSV with full float precision, whole or not at all."""
    write_text(path, frame.to_csv(index=False))


def prepare(out: Path, overwrite: bool = False) -> None:
    """Make the run folder, or see that the one that is there may be written to.

    Raises:
        RunError: it holds a finished run already, or cannot be made.
    """
    if (out / "metrics.json").exists() and not overwrite:
        raise RunError(f"{out} holds a finished run. Choose another --out, or add --overwrite.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"Cannot write the run folder {out}: {error.strerror}.") from None


def clear(out: Path, keep_models: bool = False) -> None:
    """Remove what an older run left in the run folder (`keep_models`: but for the folds' models).

    Raises:
        RunError: it cannot be removed.
    """
    try:
        for name in (*FILES, "confusion.png", "tsne.png", "tsne.csv"):
            (out / name).unlink(missing_ok=True)
        for model in [] if keep_models else out.glob("fold_*.keras"):
            model.unlink()
    except OSError as error:
        raise RunError(f"Cannot write the run folder {out}: {error.strerror}.") from None


def versions() -> dict[str, str]:
    """Versions of everything that can change a number."""
    return dict(_versions())


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = {"serfuse": __version__, "python": platform.python_version()}
    for name in _VERSIONED:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return tuple(found.items())


def description(
    result_config: config.Config,
    dataset: Dataset,
    threads: Iterable[int] = (),
    *,
    embeddings: Mapping[str, str] | None = None,
) -> schema.Description:
    """What `config.yaml` holds: the configuration with every default, the embeddings' keys, versions, what was heard.

    Args:
        threads: those that the folds are, or were, trained with; a number for each where they differ.
        embeddings: digests of the embeddings that the folds were trained with; by default those of the dataset.

    Raises:
        RunError: a setting that cannot be written down.
    """
    values = yaml.safe_load(config.dump(result_config))
    values["data"]["corpus"] = dataset.corpus
    numbers = sorted(set(threads))
    embeddings = dataset.embedding_digests if embeddings is None else dict(embeddings)
    values |= {
        "embeddings": {name: key.to_dict() for name, key in dataset.keys.items()},
        "corpus": {
            "name": dataset.corpus,
            "clips": len(dataset.clips),
            **({"left_out": len({item["clip"] for item in dataset.left_out})} if dataset.left_out else {}),
            "speakers": int(dataset.clips["speaker"].nunique()),
            "speaker_kind": dataset.speaker_kind,
            "classes": dataset.classes,
            "synthetic": bool(dataset.info.get("synthetic", False)),
        },
        "versions": versions(),
        "backend": dataset.info.get("backend") or fitting.library(result_config),
        **({"threads": numbers[0] if len(numbers) == 1 else numbers} if numbers else {}),
        "digests": {**dataset.digests, **({"embeddings": embeddings} if embeddings else {})},
        **({"made_of": made_of} if (made_of := dataset.info.get("made_of")) else {}),
        **({"environment": switches} if (switches := backend.environment()) else {}),
    }
    return schema.check_description(values, "The run")


def clips_table(dataset: Dataset) -> pd.DataFrame:
    """`clip, label, speaker, text, audio` of every clip: what was learned from, `audio` being what was heard."""
    names = {"id": "clip", "emotion": "label", "speaker": "speaker", "text": "text", "audio": "audio"}
    return dataset.clips[list(names)].rename(columns=names)


def folds_table(parts: Iterable[Fold]) -> pd.DataFrame:
    """`repeat, fold, clip, part` for every clip of every fold."""
    tables = [
        pd.DataFrame({"repeat": fold.repeat, "fold": fold.index, "clip": ids, "part": part})
        for fold in parts
        for part, ids in (("train", fold.train), ("validation", fold.validation), ("test", fold.test))
    ]
    return pd.concat(tables, ignore_index=True)


def write_start(
    out: Path,
    result_config: config.Config,
    dataset: Dataset,
    parts: list[Fold],
    threads: Iterable[int],
    *,
    embeddings: Mapping[str, str] | None = None,
) -> None:
    """Write down what is about to be run, before the first epoch; `threads`, `embeddings` as for `description`."""
    values = description(result_config, dataset, threads, embeddings=embeddings).to_dict()
    write_text(out / "config.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    write_csv(out / "clips.csv", clips_table(dataset))
    write_csv(out / "folds.csv", folds_table(parts))


def model_name(fold: Fold, repeats: int) -> str:
    """File name of a fold's model: `fold_0.keras`, or `fold_0_repeat_1.keras` where the split is repeated; from 0."""
    suffix = f"_repeat_{fold.repeat}" if repeats > 1 else ""
    return f"fold_{fold.index}{suffix}.keras"


def write_fold(out: Path, result: FoldResult, repeats: int = 1) -> None:
    """Keep the trained model of one fold, without its optimizer: Adam's state would triple the file."""
    if result.model is None:
        return
    target = out / model_name(result.fold, repeats)
    temporary = out / f".saving_{target.name}"  # Keras wants the suffix
    fitting.without_optimizer(result.model).save(temporary)
    os.replace(temporary, target)


def write(out: Path, result: Result) -> list[str]:
    """Write the tables, metrics and pictures of a finished run.

    `metrics.json` is the last of the numbers, as the mark of a finished run; the pictures come after it.

    Returns:
        a remark for each picture that could not be drawn. The numbers are there all the same.
    """
    first = result.folds[0]
    points = first.predictions[["clip", "speaker", "repeat", "fold", "label", "predicted"]].copy()
    points[["x", "y"]] = figures.project(first.penultimate, result.config.seed)
    write_csv(out / "tsne.csv", points)
    write_tables(out, result)
    classes, title = result.dataset.classes, description(result.config, result.dataset).title
    note = f"{title}\npenultimate layer, test clips of fold {first.fold.index}"
    remarks = []
    for name, draw in (
        ("confusion.png", partial(figures.confusion, result.predictions, classes, title)),
        ("tsne.png", partial(figures.tsne, points, classes, note)),
    ):
        try:
            draw(out / name)
        except Exception as error:  # whatever matplotlib, its fonts or its settings say
            (out / name).unlink(missing_ok=True)
            remarks.append(
                f"{name} could not be drawn ({type(error).__name__}: {error}). All figures of merit are there."
            )
    return remarks


def write_tables(out: Path, result: Result) -> None:
    """Write a finished run without its figures: predictions, history, and `metrics.json` last."""
    write_csv(out / "predictions.csv", result.predictions)
    history = pd.concat([fold.history for fold in result.folds], ignore_index=True)
    write_csv(out / "history.csv", history)
    values = _plain(result.metrics)
    schema.check_metrics(values, description(result.config, result.dataset), str(out))
    text = json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False)
    write_text(out / "metrics.json", text + "\n")


def _plain(value: Any) -> Any:
    """JSON types only; a figure that is not defined becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.bool_, bool)):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value
