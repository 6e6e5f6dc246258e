"""The run folder written: everything that made a result, and the result, as files a person or a script can read.

`run.Run` reads it; `schema` is what both agree on.
"""

import hashlib
import json
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

from .. import __version__, models
from ..atomic_io import encoded, make_durable_folder, put_in_place, remove_stale, write_text
from ..errors import RunError
from ..experiment import backend, config, fitting
from ..experiment.cross_validation import FoldResult, Result
from ..experiment.dataset import Dataset
from ..splits.folds import Fold
from . import figures, reading, schema

_VERSIONED = ("keras", "tensorflow", "jax", "torch", "numpy", "scikit-learn", "scipy", "pandas")
FILES = ("config.yaml", "clips.csv", "folds.csv", "predictions.csv", "history.csv", "metrics.json")


_SAVING = ".saving_"  # Keras wants the suffix, so a model's temporary name is told by its beginning


def _write(out: Path, texts: Mapping[str, str], *, anew: bool = False) -> None:
    """Write files, each whole or not at all, with their digests, see `reading.read_digests`.

    Args:
        out: the run folder.
        texts: by name; the last one is written behind the digests, as the mark of what is finished.
        anew: forget the digests of other files.
    """
    digests = {} if anew else reading.read_digests(out)
    digests |= {name: reading.digest(encoded(text)) for name, text in texts.items()}
    *others, last = texts
    for name in others:
        write_text(out / name, texts[name])
    write_text(out / reading.DIGESTS, reading.digest_lines(digests))
    write_text(out / last, texts[last])


def _csv(frame: pd.DataFrame) -> str:
    """A table as CSV with full float precision."""
    return frame.to_csv(index=False)


def prepare(out: Path, overwrite: bool = False) -> None:
    """Make the run folder, or see that the one that is there may be written to.

    Raises:
        RunError: it holds a finished run already, or cannot be made.
    """
    if (out / "metrics.json").exists() and not overwrite:
        raise RunError(f"{out} holds a finished run. Choose another --out, or add --overwrite.")
    try:
        make_durable_folder(out)
    except OSError as error:
        raise RunError(f"Cannot write the run folder {out}: {error.strerror}.") from None


def clear(out: Path, keep_models: bool = False) -> None:
    """Remove what an older run left in the run folder (`keep_models`: but for the folds' models).

    Raises:
        RunError: it cannot be removed.
    """
    try:
        for name in ("metrics.json", reading.DIGESTS, *FILES, "confusion.png", "layers.png", "tsne.png", "tsne.csv"):
            (out / name).unlink(missing_ok=True)
        for model in [] if keep_models else out.glob("fold_*.keras"):
            model.unlink()
    except OSError as error:
        raise RunError(f"Cannot write the run folder {out}: {error.strerror}.") from None


def remove_leftovers(out: Path) -> None:
    """Remove what processes left in the run folder that were killed while they wrote; nobody else may write it now."""
    remove_stale(out, alone=True)
    for left in out.glob(f"{_SAVING}*"):
        with suppress(OSError):
            left.unlink()


def versions() -> dict[str, str]:
    """Versions of everything that can change a number."""
    return dict(_versions())


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = {"serfuse": __version__, "python": platform.python_version()}
    for name in _VERSIONED:
        for distribution in (name, f"{name}-cpu"):
            with suppress(metadata.PackageNotFoundError):
                found.setdefault(name, metadata.version(distribution))
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
        **({"trainer": trainer} if (trainer := _trainer(result_config, dataset)) else {}),
        **({"threads": numbers[0] if len(numbers) == 1 else numbers} if numbers else {}),
        "digests": {**dataset.digests, **({"embeddings": embeddings} if embeddings else {})},
        **({"made_of": made_of} if (made_of := dataset.info.get("made_of")) else {}),
        **({"environment": switches} if (switches := backend.environment()) else {}),
    }
    return schema.check_description(values, "The run")


def _trainer(result_config: config.Config, dataset: Dataset) -> str:
    """What trained the networks, or is about to; of a fusion of finished runs, what trained theirs."""
    return dataset.info["trainer"] if "trainer" in dataset.info else fitting.trainer(result_config)


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
    texts = {
        "clips.csv": _csv(clips_table(dataset)),
        "folds.csv": _csv(folds_table(parts)),
        "config.yaml": yaml.safe_dump(values, sort_keys=False, allow_unicode=True),
    }
    _write(out, texts, anew=True)


def model_name(fold: Fold, repeats: int) -> str:
    """File name of a fold's model: `fold_0.keras`, or `fold_0_repeat_1.keras` where the split is repeated; from 0."""
    suffix = f"_repeat_{fold.repeat}" if repeats > 1 else ""
    return f"fold_{fold.index}{suffix}.keras"


def write_fold(out: Path, result: FoldResult, repeats: int = 1) -> str:
    """Keep the trained model of one fold, durably, without its optimizer: Adam's state would triple the file.

    Returns:
        the digest of the file, "" for a fold without a model.
    """
    if result.model is None:
        return ""
    target = out / model_name(result.fold, repeats)
    temporary = out / f"{_SAVING}{target.name}"
    try:
        backend.save(fitting.without_optimizer(result.model), temporary)
        digest = _file_digest(temporary)
        put_in_place(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def has_model(out: Path, fold: Fold, repeats: int, digest: str | None) -> bool:
    """Whether the model of a finished fold is there as it was written.

    Args:
        out: the run folder.
        fold: the fold.
        repeats: of the split.
        digest: what `write_fold` gave; `None` in folds of serfuse 0.1, whose file must only not be empty.
    """
    path = out / model_name(fold, repeats)
    if not path.is_file():
        return False
    return path.stat().st_size > 0 if digest is None else _file_digest(path) == digest


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(out: Path, result: Result) -> list[str]:
    """Write the tables, metrics and pictures of a finished run.

    `metrics.json` is the last of the numbers, as the mark of a finished run; the pictures come after it.

    Returns:
        a remark for each picture that could not be drawn. The numbers are there all the same.
    """
    first = result.folds[0]
    points = first.predictions[["clip", "speaker", "repeat", "fold", "label", "predicted"]].copy()
    points[["x", "y"]] = figures.project(first.penultimate, result.config.seed)
    write_tables(out, result, {"tsne.csv": _csv(points)})
    classes, title = result.dataset.classes, description(result.config, result.dataset).title
    shown = models.get(result.config.model).shown
    note = f"{title}\n{shown}, test clips of fold {first.fold.index}"
    remarks = []
    weights = result.metrics.get("layer_weights")
    for name, draw in (
        *([("layers.png", partial(figures.layers, weights, title))] if weights else []),
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


def write_tables(out: Path, result: Result, further: Mapping[str, str] | None = None) -> None:
    """Write a finished run without its figures: predictions, history, and `metrics.json` last.

    Args:
        out: the run folder, in which `write_start` was called.
        result: the run.
        further: other files of numbers, their texts by name.
    """
    history = pd.concat([fold.history for fold in result.folds], ignore_index=True)
    values = _plain(result.metrics)
    schema.check_metrics(values, description(result.config, result.dataset), str(out))
    texts = {
        **(further or {}),
        "predictions.csv": _csv(result.predictions),
        "history.csv": _csv(history),
        "metrics.json": json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n",
    }
    _write(out, texts)


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
