"""What a report says about one finished run, read from its folder alone."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ConfigError, RunError, UnknownNameError
from ..published import results as published
from ..published.results import Published
from ..runs import fold_files, run_folder, schema
from . import distinguish

_MAX_BYTES = 256 << 20  # of predictions; a large corpus with many repeats has a tenth of this


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where it is.
        name: the folder's name, made unique among the runs of a report.
        config: `config.yaml`.
        metrics: `metrics.json`.
        predictions: `predictions.csv`.
        history: `history.csv`, empty for scikit-learn models.
        points: `tsne.csv`, empty when there is none.
        published: what the papers print for this corpus, model and encoders.
        twin: the settings that tell it from runs of the report that look alike, see `twins`.
    """

    folder: Path
    name: str
    config: dict[str, Any]
    metrics: dict[str, Any]
    predictions: pd.DataFrame
    history: pd.DataFrame
    points: pd.DataFrame
    published: list[Published] = field(default_factory=list)
    twin: str = ""

    @property
    def model(self) -> str:
        return str(self.config["model"])

    @property
    def title(self) -> str:
        """The model, with what tells this run from others that look alike: "parrot (seed 3)"."""
        return f"{self.model} ({self.twin})" if self.twin else self.model

    @property
    def corpus(self) -> str:
        return str(self.config["corpus"]["name"])

    @property
    def synthetic(self) -> bool:
        return bool(self.config["corpus"].get("synthetic"))

    @property
    def random_weights(self) -> list[str]:
        """Encoders that were never trained."""
        return [key["encoder"] for key in self.config["embeddings"].values() if key["weights"].startswith("random")]

    @property
    def split(self) -> str:
        return str(self.config["split"]["name"])

    @property
    def speaker_kind(self) -> str:
        return str(self.config["corpus"].get("speaker_kind", "speaker"))

    @property
    def inputs(self) -> str:
        """The representations: "prosody + hubert"."""
        return " + ".join(key["encoder"] for key in self.config["embeddings"].values())

    @property
    def classes(self) -> list[str]:
        return [str(name) for name in self.metrics["classes"]]

    @property
    def audit(self) -> list[str]:
        """The leakage audit in plain sentences."""
        return [str(sentence) for sentence in self.metrics["audit"]["sentences"]]

    @property
    def experiment(self) -> tuple[str, ...]:
        """Corpus, model, representations, and all settings: what stays the same when only the split changes."""
        settings = {name: self.config.get(name) for name in ("options", "training", "seed", "embeddings")}
        return self.corpus, self.model, self.inputs, json.dumps(settings, sort_keys=True, default=str)

    def seconds(self) -> str:
        """Wall time for people."""
        whole = round(float(self.metrics.get("seconds", 0)))
        return f"{whole} s" if whole < 120 else f"{whole // 60} min"


def read(folders: list[Path]) -> list[Run]:
    """The runs in these folders.

    Raises:
        RunError: no folder was given, one holds no finished run, or its files are damaged.
    """
    if not folders:
        raise RunError("No run folder was given. Give the folders that `serfuse cv` wrote.")
    names = _unique([folder.resolve() for folder in folders])
    runs = [_read(folder, name) for folder, name in zip(folders, names, strict=True)]
    seen = [(run.corpus, run.model, run.inputs, run.split) for run in runs]
    texts = distinguish.told_apart(seen, [run.config for run in runs], names)
    return [replace(run, twin=text) for run, text in zip(runs, texts, strict=True)]


def _unique(folders: list[Path]) -> list[str]:
    """Folder names, with as much of the path before them as tells them apart."""
    depth = 1
    while depth < 6:
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(set(folders)):
            return names
        depth += 1
    return [str(folder) for folder in folders]


def _read(folder: Path, name: str) -> Run:
    metrics = run_folder.read_metrics(folder)
    config = run_folder.read_description(folder)
    schema.check(metrics, config, str(folder))
    try:
        predictions = _predictions(folder / "predictions.csv", metrics)
        history = _table(folder / "history.csv", ("repeat", "fold", "epoch", "loss"), also=("val_loss",))
        points = _table(folder / "tsne.csv", ("x", "y"))
    except (OSError, ValueError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RunError(f"{folder} is not a whole run folder: {reason}. Run it again.") from None
    run = Run(folder, name, config, metrics, predictions, history, points)
    encoders = [key["encoder"] for key in config["embeddings"].values()]
    try:
        found = published.find(run.corpus, run.model, *encoders)
    except (UnknownNameError, ConfigError):  # a model of a later version
        found = []
    return replace(run, published=found)


def _predictions(path: Path, metrics: dict[str, Any]) -> pd.DataFrame:
    _check_size(path)
    found = fold_files.read_predictions(path)
    missing = {"clip", "speaker", "fold", "label", "predicted"} - set(found.columns)
    if missing:
        raise ValueError(f"predictions.csv lacks {', '.join(sorted(missing))}")
    if len(found) != (clips := metrics["pooled"]["clips"]) or found.empty:
        raise ValueError(f"predictions.csv has {len(found)} rows, metrics.json is about {clips}")
    classes = metrics["classes"]
    strangers = sorted({*found["label"], *found["predicted"]} - set(classes), key=str)
    if strangers:
        raise ValueError(f"predictions.csv has the emotion {strangers[0]!r}, metrics.json {', '.join(classes)}")
    columns = [f"p_{name}" for name in classes if f"p_{name}" in found]
    _check_numbers(found, columns, path.name)
    return found


def _table(path: Path, needed: tuple[str, ...], also: tuple[str, ...] = ()) -> pd.DataFrame:
    """A table that a run may lack, or have without rows."""
    if not path.is_file() or path.stat().st_size < 2:
        return pd.DataFrame()
    _check_size(path)
    found = pd.read_csv(path, dtype={"clip": str, "speaker": str, "label": str, "predicted": str})
    if found.empty or set(found.columns) <= {"repeat", "fold"}:  # a model without epochs
        return pd.DataFrame()
    missing = set(needed) - set(found.columns)
    if missing:
        raise ValueError(f"{path.name} lacks {', '.join(sorted(missing))}")
    _check_numbers(found, [*needed, *(name for name in also if name in found)], path.name)
    return found


def _check_size(path: Path) -> None:
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path.name} is larger than {_MAX_BYTES >> 20} MB, which no run's is")


def _check_numbers(table: pd.DataFrame, columns: list[str], name: str) -> None:
    for column in columns:
        if not pd.api.types.is_numeric_dtype(table[column]) or not np.isfinite(table[column].astype(float)).all():
            raise ValueError(f"{name}: the column {column!r} holds something that is no number")
