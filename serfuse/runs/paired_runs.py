"""Runs side by side: their predictions read, and that they were tested on the same clips in the same folds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, RunError
from ..experiment.config import read_yaml

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ["repeat", "fold", "clip"]
_MAX_BYTES = 1 << 30  # folds.csv names every clip once per fold: a hundred folds of ten thousand clips have 40 MB


@dataclass(frozen=True)
class PairedRun:
    """Predictions sorted by repeat and clip; `parts` as in `folds.csv` where known.

    `random_weights`: its encoders that were never trained, as far as is known.
    """

    name: str
    table: "pd.DataFrame"
    parts: "pd.DataFrame | None"
    classes: tuple[str, ...]
    speaker_kind: str
    random_weights: tuple[str, ...] = ()


def read(run: "Path | str | pd.DataFrame", place: int) -> PairedRun:
    """A run folder, or a table of predictions; `place` (0 ..) names a table in messages.

    Raises:
        RunError: no finished run, a file that cannot be read, a missing column, a clip predicted twice, files that do
            not agree.
    """
    import pandas as pd

    if isinstance(run, pd.DataFrame):
        return _paired_run(f"run {place + 1}", run, None, "speaker", f"run {place + 1}")
    folder = Path(run)
    if folder.is_file():
        folder = folder.parent
    file = folder / "predictions.csv"
    if not file.is_file():
        raise RunError(
            f"{folder} is no finished run: it has no predictions.csv. Give a folder that `serfuse cv` wrote."
        )
    parts_file = folder / "folds.csv"
    parts = _csv(parts_file) if parts_file.is_file() else None
    if parts is not None:
        _need(parts, ["repeat", "fold", "clip", "part"], str(parts_file))
        for column in ("repeat", "fold"):
            parts[column] = _whole(parts[column], column, str(parts_file))
    found = _paired_run(folder.name, _csv(file), parts, _speaker_kind(folder), str(file))
    if parts is not None:
        _check_tested(found.table, parts, folder)
    return replace(found, random_weights=_random_weights(folder))


def _check_tested(table: "pd.DataFrame", parts: "pd.DataFrame", folder: Path) -> None:
    """What is predicted is what `folds.csv` has for testing; else one of them was edited, or belongs elsewhere."""
    tested = parts.loc[parts["part"] == "test", _KEYS]
    both = table[_KEYS].merge(tested, on=_KEYS, how="outer", indicator=True, sort=True)
    alone = both[both["_merge"] != "both"]
    if len(alone):
        row = alone.iloc[0]
        here, there = "predictions.csv", "folds.csv"
        if row["_merge"] == "right_only":
            here, there = there, here
        raise RunError(
            f"{folder} is not a whole run folder: {here} tests clip {row['clip']!r} in fold {row['fold']} (repeat "
            f"{row['repeat']}), {there} does not; {len(alone)} places differ so. Run it again."
        )


def _csv(path: Path) -> "pd.DataFrame":
    """A table of strings: speaker "03" must not become 3, nor a clip called "NA" missing."""
    import pandas as pd

    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RunError(f"{path} is larger than {_MAX_BYTES >> 20} MB, which no run's is.")
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' own errors of reading are ValueErrors
        raise RunError(f"{path} cannot be read: {error}") from error


def _speaker_kind(folder: Path) -> str:
    """What the speaker column holds, for messages; a folder whose configuration does not tell has speakers."""
    try:
        return str(read_yaml(folder / "config.yaml")["corpus"]["speaker_kind"])
    except (ConfigError, KeyError, TypeError):
        return "speaker"


def _random_weights(folder: Path) -> tuple[str, ...]:
    """Encoders that were never trained, by the run's configuration; none where it does not tell."""
    try:
        keys = read_yaml(folder / "config.yaml")["embeddings"].values()
        return tuple(str(key["encoder"]) for key in keys if str(key["weights"]).startswith("random"))
    except (ConfigError, KeyError, TypeError, AttributeError):
        return ()


def _need(table: "pd.DataFrame", columns: Sequence[str], where: str) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise RunError(f"{where} has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.")


def _whole(column: "pd.Series", name: str, where: str) -> "pd.Series":
    try:
        found = column.astype(float)
        if not ((found == found.round()) & (found.abs() < 2**53)).all():
            raise ValueError("expected whole numbers")
    except ValueError as error:
        raise RunError(f"{where}: the column {name!r} holds something that is no number ({error}).") from error
    return found.astype(int)


def _paired_run(name: str, table: "pd.DataFrame", parts: "pd.DataFrame | None", kind: str, where: str) -> PairedRun:
    import pandas as pd

    _need(table, ["clip", "label", "predicted"], where)
    if table.empty:
        raise RunError(f"{where} holds no predictions.")
    clean = table[["clip", "label", "predicted"]].astype(str)
    for column in ("repeat", "fold"):
        clean[column] = _whole(table[column], column, where) if column in table.columns else 0
    if "speaker" in table.columns:
        clean["speaker"] = table["speaker"].astype(object).where(table["speaker"].notna(), "").astype(str)
    else:
        clean["speaker"] = ""
    named = [str(c)[2:] for c in table.columns if str(c).startswith("p_")]
    for column in (f"p_{one}" for one in named):
        # For metrics that need them; a column that is no number is none, and such a metric then says so.
        clean[column] = pd.to_numeric(table[column], errors="coerce")
    clean = clean.sort_values(["repeat", "clip"], kind="stable").reset_index(drop=True)
    twice = clean.duplicated(["repeat", "clip"])
    if twice.any():
        clip = clean.loc[twice.idxmax(), "clip"]
        raise RunError(f"{where}: clip {clip!r} is predicted more than once in one repeat; expected once.")
    classes = tuple(sorted({*named, *clean["label"], *clean["predicted"]}))
    return PairedRun(name, clean, parts, classes, kind)


def named(runs: list[PairedRun], names: Sequence[str] | None) -> list[PairedRun]:
    """The runs under `names`, or under their own; equal ones are numbered.

    Raises:
        RunError: not one name for each run.
    """
    chosen = [run.name for run in runs] if names is None else list(names)
    if len(chosen) != len(runs):
        raise RunError(f"{len(chosen)} names for {len(runs)} runs; expected one for each.")
    if len(set(chosen)) < len(chosen):
        chosen = [f"{name} ({i + 1})" if chosen.count(name) > 1 else name for i, name in enumerate(chosen)]
    return [replace(run, name=name) for name, run in zip(chosen, runs, strict=True)]


_SAME = "Run both with the same corpus, --split, --folds and --seed."


def check(a: PairedRun, b: PairedRun) -> None:
    """Refuses two runs that were not tested on the same clips in the same folds.

    Raises:
        RunError: they part; the message says at which clip and fold.
    """
    keys = ["repeat", "clip"]
    both = a.table.merge(b.table, on=keys, how="outer", indicator=True, suffixes=("_a", "_b"), sort=True)
    alone = both[both["_merge"] != "both"]
    if len(alone):
        row = alone.iloc[0]
        where, other = (a, b) if row["_merge"] == "left_only" else (b, a)
        fold = int(row["fold_a"] if row["_merge"] == "left_only" else row["fold_b"])
        raise RunError(
            f"The runs were not tested on the same clips: {row['clip']!r} (repeat {row['repeat']}, fold {fold}) is "
            f"tested in {where.name!r} but not in {other.name!r}; such are {len(alone)} in all. {_SAME}"
        )
    moved = both[both["fold_a"] != both["fold_b"]]
    if len(moved):
        row = moved.iloc[0]
        raise RunError(
            f"The runs were not tested in the same folds: clip {row['clip']!r} (repeat {row['repeat']}) is tested in "
            f"fold {int(row['fold_a'])} of {a.name!r} and in fold {int(row['fold_b'])} of {b.name!r}; {len(moved)} of "
            f"{len(both)} predictions differ so. {_SAME}"
        )
    for column, what in (("label", "label"), ("speaker", a.speaker_kind)):
        differ = both[both[f"{column}_a"] != both[f"{column}_b"]]
        if len(differ):
            row = differ.iloc[0]
            raise RunError(
                f"The runs disagree on the {what} of {len(differ)} clips: {row['clip']!r} is {row[f'{column}_a']!r} in "
                f"{a.name!r} and {row[f'{column}_b']!r} in {b.name!r}. {_SAME}"
            )
    if a.classes != b.classes:
        raise RunError(
            f"The runs do not know the same classes: {', '.join(a.classes)} in {a.name!r}, {', '.join(b.classes)} in "
            f"{b.name!r}."
        )
    if a.parts is not None and b.parts is not None:
        _check_training(a, b)


def _check_training(a: PairedRun, b: PairedRun) -> None:
    """Training and validation together must be the same: how they share it is the model's affair."""
    fit = [run.parts.loc[run.parts["part"] != "test", _KEYS] for run in (a, b)]
    both = fit[0].merge(fit[1], on=_KEYS, how="outer", indicator=True, sort=True)
    alone = both[both["_merge"] != "both"]
    if len(alone):
        row = alone.iloc[0]
        where, other = (a, b) if row["_merge"] == "left_only" else (b, a)
        raise RunError(
            f"The runs were not trained on the same clips: in fold {row['fold']} (repeat {row['repeat']}) clip "
            f"{row['clip']!r} is in the training part of {where.name!r} but not of {other.name!r}; {len(alone)} places "
            f"differ so. {_SAME}"
        )
