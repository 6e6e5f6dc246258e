"""Figures of merit: per fold, over folds, and pooled over all held-out clips with intervals.

A class of which a part has no clip is left out of that part's averages over classes: its recall is 0/0 and
so not defined, and counting it as 0 (or 1) would make the figure depend on how the clips fell into folds.
scikit-learn's `balanced_accuracy_score` does the same; macro-F1 averages over the same classes.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import intervals
from .errors import RunError

if TYPE_CHECKING:
    import pandas as pd

SCORES = ("accuracy", "macro_f1", "uar", "weighted_f1")
"""Figures between 0 and 1, higher is better, that follow from the confusion matrix alone."""
LOSSES = ("log_loss", "ece")
"""Figures of the probabilities, lower is better; `None` where there are no probabilities."""
BINS = 15


def evaluate(
    labels: Sequence[str],
    predicted: Sequence[str],
    probabilities: np.ndarray | None,
    classes: Sequence[str],
) -> dict[str, Any]:
    """Figures of one set of predictions.

    Args:
        labels: (N,) true classes.
        predicted: (N,) predicted classes.
        probabilities: (N, C), columns as `classes`; `None` where the model gives none.
        classes: all classes, also those without a clip here.

    Returns:
        `clips`; `accuracy`, `macro_f1`, `uar` (unweighted average recall, that is balanced accuracy),
        `weighted_f1`, `log_loss` (nats) and `ece` (expected calibration error, see `calibration_error`);
        `per_class`: class -> `support`, `recall`, `precision`, `f1`; `confusion`: C x C counts, rows are
            true classes; `absent`: classes
        without a clip. What is not defined is `None`.

    Raises:
        RunError: no clips, lengths that differ, a label that is no class, probabilities that are none.
    """
    from sklearn import metrics as sk

    labels, predicted = np.asarray(labels, str), np.asarray(predicted, str)
    classes = [str(name) for name in classes]
    _check(labels, predicted, classes)
    present = [name for name in classes if (labels == name).any()]
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=np.nan
    )
    found: dict[str, Any] = {
        "clips": len(labels),
        "accuracy": float(sk.accuracy_score(labels, predicted)),
        "macro_f1": float(sk.f1_score(labels, predicted, labels=present, average="macro", zero_division=0)),
        "uar": float(sk.recall_score(labels, predicted, labels=present, average="macro", zero_division=0)),
        "weighted_f1": float(sk.f1_score(labels, predicted, labels=present, average="weighted", zero_division=0)),
        "log_loss": None,
        "ece": None,
    }
    if probabilities is not None:
        rows = _probabilities(probabilities, len(labels), len(classes))
        found["log_loss"] = float(np.mean(_losses(labels, rows, classes)))
        found["ece"] = calibration_error(labels, rows, classes)
    found["per_class"] = {
        name: {
            "support": int(support[i]),
            "recall": _defined(recall[i]),
            "precision": _defined(precision[i]),
            # F1 = 2 TP / (2 TP + FP + FN): by this definition 0 for a class that was tested and never found.
            "f1": _defined(f1[i]) if name in present else None,
        }
        for i, name in enumerate(classes)
    }
    found["confusion"] = sk.confusion_matrix(labels, predicted, labels=classes).tolist()
    found["absent"] = [name for name in classes if name not in present]
    return found


def _check(labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> None:
    if len(labels) == 0:
        raise RunError("There are no predictions to evaluate.")
    if len(labels) != len(predicted):
        raise RunError(f"{len(predicted)} predictions for {len(labels)} labels; expected one for each.")
    strangers = sorted((set(labels) | set(predicted)) - set(classes))
    if strangers:
        raise RunError(f"{', '.join(strangers)} is not among the classes {', '.join(classes)}.")


def _probabilities(probabilities: np.ndarray, clips: int, classes: int) -> np.ndarray:
    """(N, C) float64 rows that sum to 1 exactly."""
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.shape != (clips, classes):
        raise RunError(f"The probabilities have shape {rows.shape}; expected {(clips, classes)} (clips, classes).")
    if not np.isfinite(rows).all() or (rows < 0).any():
        bad = int((~np.isfinite(rows) | (rows < 0)).any(axis=1).sum())
        raise RunError(f"{bad} of {clips} rows of probabilities hold values that are not finite or are negative.")
    sums = rows.sum(axis=1, keepdims=True)
    if np.abs(sums - 1).max() > 1e-3:
        raise RunError(f"Rows of probabilities sum to {sums.min():.3f} .. {sums.max():.3f}; expected 1.")
    return rows / sums


def _losses(labels: np.ndarray, rows: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """(N,) negative log probability of the true class, cut off as in scikit-learn's `log_loss`."""
    place = {name: i for i, name in enumerate(classes)}
    own = rows[np.arange(len(rows)), [place[label] for label in labels]]
    epsilon = np.finfo(np.float64).eps
    return -np.log(np.clip(own, epsilon, 1 - epsilon))


def calibration_error(
    labels: Sequence[str], probabilities: np.ndarray, classes: Sequence[str], bins: int = BINS
) -> float:
    """Expected calibration error: mean distance between confidence and accuracy.

    The clips are put into `bins` bins of equal width by the probability of their most probable class; the
    distance of each bin counts with its share of the clips (Guo et al. 2017, equation 3).

    Args:
        labels: (N,) true classes.
        probabilities: (N, C), columns as `classes`.
        classes: (C,).
        bins: number of bins.
    """
    table = _calibration_sums(np.asarray(labels, str), probabilities, classes, bins)
    return float(np.abs(table.sum(axis=0)).sum() / len(labels))


def _calibration_sums(labels: np.ndarray, rows: np.ndarray, classes: Sequence[str], bins: int) -> np.ndarray:
    """(N, bins): right (1) or wrong (0) minus confidence, in the column of the clip's bin."""
    confidence, top = rows.max(axis=1), rows.argmax(axis=1)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    right = np.asarray(classes, str)[top] == labels
    table = np.zeros((len(rows), bins))
    table[np.arange(len(rows)), bin_of] = right - confidence
    return table


def scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """`SCORES` of many confusion matrices at once, (..., C, C) with true classes in rows -> (...).

    For the bootstrap, where scikit-learn would be called thousands of times. Classes without a clip are left
    out of the averages, as in `evaluate`.
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, given = confusion.sum(axis=-1), confusion.sum(axis=-2)
    present = support > 0
    number = present.sum(axis=-1)
    recall = right / np.where(present, support, 1)
    f1 = np.where(present, 2 * right / np.where(present, support + given, 1), 0)
    total = support.sum(axis=-1)
    return {
        "accuracy": right.sum(axis=-1) / total,
        "macro_f1": f1.sum(axis=-1) / number,
        "uar": (recall * present).sum(axis=-1) / number,
        "weighted_f1": (f1 * support).sum(axis=-1) / total,
    }


def probability_columns(predictions: "pd.DataFrame", classes: Sequence[str]) -> np.ndarray | None:
    """(N, C) from the columns `p_<class>`, `None` where they are missing or empty."""
    columns = [f"p_{name}" for name in classes]
    if any(column not in predictions.columns for column in columns):
        return None
    found = predictions[columns].to_numpy(dtype=np.float64)
    return None if np.isnan(found).all() else found


def summarize(
    predictions: "pd.DataFrame",
    classes: Sequence[str],
    *,
    speaker_kind: str = "speaker",
    confidence: float = 0.95,
    draws: int = intervals.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of a cross-validation.

    Args:
        predictions: one row per held-out clip (and repeat): `clip`, `label`, `predicted`; `repeat`, `fold`,
            `speaker` and `p_<class>` where there are any.
        classes: all classes.
        speaker_kind: what the speaker column holds.
        confidence: nominal coverage of the intervals.
        draws: bootstrap draws.
        seed: of the bootstrap.

    Returns:
        `folds`: `evaluate` of each fold with its `repeat` and `fold`; `mean` and `std` (n - 1) over all
            folds of
        all repeats, over those in which a figure is defined; `pooled`: `evaluate` of all held-out clips
        together; `repeats`: pooled scores of each repeat; `intervals`: for each pooled figure `low` and
        `high`, and under `per_class` those of each class's recall; `interval`: `confidence`, `clusters`,
        `unit`, `draws`, and `note`, a sentence that says what the interval is.

    Raises:
        RunError: as `evaluate`, or a column is missing.
    """
    for column in ("clip", "label", "predicted"):
        if column not in predictions.columns:
            raise RunError(f"The predictions have no column {column!r}; they have {', '.join(predictions.columns)}.")
    table = predictions.assign(
        repeat=predictions.get("repeat", 0),
        fold=predictions.get("fold", 0),
    )
    folds = [
        {"repeat": int(repeat), "fold": int(fold), **_evaluate(part, classes)}
        for (repeat, fold), part in table.groupby(["repeat", "fold"], sort=True)
    ]
    pooled = _evaluate(table, classes)
    repeats = []
    for repeat, part in table.groupby("repeat", sort=True):
        whole = _evaluate(part, classes)
        repeats.append({"repeat": int(repeat), **{name: whole[name] for name in (*SCORES, *LOSSES)}})
    values = {name: [f[name] for f in folds if f[name] is not None] for name in (*SCORES, *LOSSES)}
    speakers = table["speaker"].tolist() if "speaker" in table else None
    speakers = None if speakers is None else [None if _missing(s) else s for s in speakers]
    clusters = intervals.Clusters.of(speakers, table["clip"].tolist(), speaker_kind)
    return {
        "classes": [str(name) for name in classes],
        "folds": folds,
        "mean": {name: float(np.mean(v)) if v else None for name, v in values.items()},
        "std": {name: float(np.std(v, ddof=1)) if len(v) > 1 else None for name, v in values.items()},
        "pooled": pooled,
        "repeats": repeats,
        "intervals": _intervals(table, classes, pooled, clusters, confidence, draws, seed),
        "interval": {
            "confidence": confidence,
            "clusters": clusters.number,
            "unit": clusters.unit,
            "draws": draws,
            "note": interval_note(clusters, confidence, speaker_kind),
        },
    }


def interval_note(clusters: intervals.Clusters, confidence: float, speaker_kind: str = "speaker") -> str:
    """One sentence that says what an interval is."""
    level = f"{100 * confidence:g} % intervals"
    if clusters.unit == "clip":
        return (
            f"{level}: bootstrap over {clusters.number} clips, since the {speaker_kind}s are unknown or only one; "
            f"too narrow where {speaker_kind}s differ."
        )
    few = f" With so few {clusters.unit}s they are wide." if clusters.number < 6 else ""
    return f"{level}: bootstrap over {clusters.number} {clusters.unit}s.{few}"


def _missing(value: Any) -> bool:
    return value is None or value != value or value == ""


def _evaluate(table: "pd.DataFrame", classes: Sequence[str]) -> dict[str, Any]:
    return evaluate(table["label"], table["predicted"], probability_columns(table, classes), classes)


def _intervals(
    table: "pd.DataFrame",
    classes: Sequence[str],
    pooled: Mapping[str, Any],
    clusters: intervals.Clusters,
    confidence: float,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    size = table["clip"].nunique()
    weights = intervals.resample(clusters.number, draws, seed) if clusters.number > 1 else np.ones((2, 1))
    number = len(classes)
    matrices = confusion_by_cluster(table["label"], table["predicted"], classes, clusters)
    drawn = (weights @ matrices.reshape(clusters.number, -1)).reshape(-1, number, number)

    def interval(low_high: tuple[float, float]) -> dict[str, float | None]:
        return {"low": _defined(low_high[0]), "high": _defined(low_high[1])}

    found: dict[str, Any] = {
        name: interval(intervals.bounded(pooled[name], values, clusters.number, size, confidence))
        for name, values in scores(drawn).items()
    }
    found.update({name: {"low": None, "high": None} for name in LOSSES})
    rows = probability_columns(table, classes)
    if rows is not None:
        rows = _probabilities(rows, len(table), number)
        labels = table["label"].to_numpy(dtype=str)
        losses = _losses(labels, rows, classes)
        clips = weights @ np.bincount(clusters.codes, minlength=clusters.number)
        loss_sums = weights @ np.bincount(clusters.codes, weights=losses, minlength=clusters.number)
        # No interval for the calibration error: its estimate is biased upwards and each draw more so (with a true error
        # of 0.02, 530 clips and ten speakers a bootstrap interval covers it a quarter of the time).
        found["log_loss"] = interval(
            intervals.positive(pooled["log_loss"], loss_sums / clips, clusters.number, confidence)
        )
    found["per_class"] = {}
    for i, name in enumerate(classes):
        recall, support = pooled["per_class"][name]["recall"], pooled["per_class"][name]["support"]
        held = drawn[:, i].sum(axis=1)
        if recall is None or clusters.number < 2:
            found["per_class"][str(name)] = {"low": None, "high": None}
            continue
        values = drawn[held > 0, i, i] / held[held > 0]
        found["per_class"][str(name)] = interval(
            intervals.bounded(recall, values, clusters.number, support, confidence)
        )
    return found


def confusion_by_cluster(
    labels: Sequence[str], predicted: Sequence[str], classes: Sequence[str], clusters: intervals.Clusters
) -> np.ndarray:
    """(clusters, C, C) counts, true classes in rows."""
    place = {str(name): i for i, name in enumerate(classes)}
    true = np.array([place[str(label)] for label in labels])
    given = np.array([place[str(label)] for label in predicted])
    shape = (len(classes), len(classes))
    return intervals.per_cluster(clusters.codes, clusters.number, true * len(classes) + given, shape)


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
