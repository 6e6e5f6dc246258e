"""Whole run folders made from predictions alone, for what needs no training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from serfuse import metrics


@pytest.fixture
def write_run() -> Callable[..., Path]:
    """`write_run(folder, predictions, parts=..., recordings=..., digests=..., kind=...)`: a finished run of an SVM.

    `parts` are rows of folds.csv, by default none; `recordings` is `{clip: audio}`, by default no clips.csv.
    """

    def write(
        folder: Path,
        predictions: pd.DataFrame,
        *,
        parts: pd.DataFrame | None = None,
        recordings: dict[str, str] | None = None,
        digests: dict[str, Any] | None = None,
        kind: str = "speaker",
        weights: str = "none",
    ) -> Path:
        folder.mkdir()
        table = predictions if "speaker" in predictions else predictions.assign(speaker="")
        classes = sorted({*table["label"], *table["predicted"]})
        table.to_csv(folder / "predictions.csv", index=False)
        if parts is not None:
            parts.to_csv(folder / "folds.csv", index=False)
        if recordings is not None:
            told = table.drop_duplicates("clip").reindex(columns=["clip", "label", "speaker", "text"])
            told.assign(audio=told["clip"].map(recordings)).to_csv(folder / "clips.csv", index=False)
        description = {
            "model": "svm",
            "options": {},
            "data": {"corpus": "made", "a": "hubert"},
            "split": {"name": "random", "folds": 2, "repeats": 1},
            "training": {},
            "seed": 0,
            "embeddings": {
                "a": {"encoder": "hubert", "weights": weights, "layer": "last", "pooling": "time", "pad": "none"}
            },
            "corpus": {"name": "made", "clips": table["clip"].nunique(), "speakers": 4, "speaker_kind": kind},
            "versions": {"serfuse": "0.2"},
            **({"digests": digests} if digests else {}),
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(description), "utf-8")
        found = metrics.summarize(table, classes, speaker_kind=kind, draws=20)
        counts = dict.fromkeys(("shared_speakers", "shared_texts", "repeated", "identical"))
        audits = [{"train": 1, "validation": 0, "test": fold["clips"], **counts} for fold in found["folds"]]
        found["audit"] = {"folds": audits, "sentences": ["Nobody looked."]}
        (folder / "metrics.json").write_text(json.dumps(found), "utf-8")
        return folder

    return write
