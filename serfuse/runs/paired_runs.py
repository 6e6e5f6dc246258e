"""Runs side by side: their predictions read, and that they were tested on the same clips in the same folds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RunError
from . import reading
from .run import Run

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ["repeat", "fold", "clip"]


@dataclass(frozen=True)
class PairedRun:
    """Predictions ready to be paired.

    Attributes:
        name: what it is called.
        table: predictions sorted by repeat and clip.
        parts: as in `folds.csv`, where known.
        classes: sorted.
        speaker_kind: what a speaker is called.
        run: the run that they are of; `None` for a table.
    """

    name: str
    table: "pd.DataFrame"
    parts: "pd.DataFrame | None"
    classes: tuple[str, ...]
    speaker_kind: str
    run: Run | None = None


def read(run: "Run | Path | str | pd.DataFrame", place: int) -> PairedRun:
    """A finished run, its folder, or a table of predictions; `place` (0 ..) names a table in messages.

    Raises:
        RunError: no finished run, a file that cannot be read, a missing column, a clip predicted twice, files that do
            not agree.
    """
    import pandas as pd

    if isinstance(run, pd.DataFrame):
        return _paired_run(f"run {place + 1}", run, None, "speaker", f"run {place + 1}")
    if not isinstance(run, Run):
        run = Run.read(run)
    parts = None if run.parts.empty else run.parts
    found = _paired_run(run.name, run.predictions, parts, run.speaker_kind, str(run.folder / "predictions.csv"))
    if parts is not None:
        _check_tested(found.table, parts, run.folder)
    return replace(found, run=run)


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


def _need(table: "pd.DataFrame", columns: Sequence[str], where: str) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise RunError(f"{where} has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.")


def _paired_run(name: str, table: "pd.DataFrame", parts: "pd.DataFrame | None", kind: str, where: str) -> PairedRun:
    import pandas as pd

    _need(table, ["clip", "label", "predicted"], where)
    if table.empty:
        raise RunError(f"{where} holds no predictions.")
    clean = table[["clip", "label", "predicted"]].astype(str)
    for column in ("repeat", "fold"):
        clean[column] = reading.whole_numbers(table[column], where) if column in table.columns else 0
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
    if a.run is not None and b.run is not None:
        _check_heard(a, b)


def _check_heard(a: PairedRun, b: PairedRun) -> None:
    """The recordings under the ids must be the same, as far as both runs tell."""
    if not a.run.clips.empty and not b.run.clips.empty:
        both = a.run.clips.merge(b.run.clips, on="clip", suffixes=("_a", "_b"))
        other = both.loc[both["audio_a"] != both["audio_b"], "clip"].tolist()
        if other:
            raise RunError(
                f"The runs did not hear the same recordings: {', '.join(map(repr, other[:3]))} "
                f"{'was' if len(other) == 1 else 'were'} another in {b.name!r} than in {a.name!r}; {len(other)} of "
                f"{len(both)} clips differ so. Run both again on the recordings as they are now."
            )
    digests = [run.run.description.digests.recordings for run in (a, b)]
    if None not in digests and digests[0] != digests[1]:
        raise RunError(
            f"The runs did not hear the same recordings: those of {a.name!r} and of {b.name!r} have other digests in "
            "config.yaml. Run both again on the recordings as they are now."
        )


def heard(runs: Sequence[PairedRun]) -> list[str]:
    """What a reader must know of what the runs heard, where they are not refused."""
    of = [paired for paired in runs if paired.run is not None]
    silent = [paired.name for paired in of if paired.run.description.digests.recordings is None]
    found = []
    if silent and len(of) > 1:
        found.append(
            f"{', '.join(silent)} {'does' if len(silent) == 1 else 'do'} not tell which recordings were heard (written "
            "before serfuse 0.2): clips are taken for the same by their ids and labels."
        )
    seen: dict[str, tuple[str, str]] = {}
    for paired in of:
        digests = paired.run.description.digests.embeddings
        for side, key in paired.run.description.embeddings.items():
            if side in digests:
                name, digest = seen.setdefault(key.model_dump_json(), (paired.name, digests[side]))
                if digest != digests[side]:
                    found.append(
                        f"The embeddings of {key.encoder} are not the same numbers in {name} and {paired.name}, though "
                        "of one encoder, weights and settings: they were computed again in between."
                    )
    return found


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
