"""How clips are split into training, validation and test parts.

A split is asked for by name (see `serfuse.splits`). Whatever the name, the same clips and the same seed give the same
folds, in whatever order the clips stand in the table, and the inner validation part keeps apart what the
split itself keeps apart: under `speaker` no speaker is both in training and in validation.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import splits
from ..errors import SplitError
from . import validation as inner
from .base import ClipTable, SplitMethod

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Rows:
    """Ids as rows of the table that they are from, so that the parts of many folds hold each id just once.

    Attributes:
        ids: of the whole table.
        rows: which of them.
    """

    ids: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, ids: np.ndarray, rows: np.ndarray) -> "Rows":
        """These rows, in as few bytes as their numbers take."""
        return cls(ids, rows.astype(np.min_scalar_type(max(len(ids) - 1, 0))))


class _Part:
    """A field of a fold: set to ids or to rows, and always read as ids."""

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, fold: "Fold | None", _owner: type | None = None) -> np.ndarray:
        if fold is None:
            raise AttributeError(self._name)  # the field has no default
        held = fold.__dict__[self._name]
        return held.ids[held.rows] if isinstance(held, Rows) else held

    def __set__(self, fold: "Fold", value: np.ndarray | Rows) -> None:
        fold.__dict__[self._name] = value


@dataclass(frozen=True, eq=False)
class Fold:
    """One round of training and testing.

    A clip may be in none of the three parts (`speaker-text` leaves out clips that share only the speaker or
    only the text with the test part; a published split may not list every clip), and is never in two.

    Its parts may be given as `Rows` of a table of ids; they are read as arrays of ids, put together when asked for.

    Attributes:
        repeat: 0 .. repeats - 1; repeat r is drawn with `seed + r`.
        index: 0 .. , the fold's place within its repeat.
        train: clip ids, sorted.
        validation: clip ids, sorted; for early stopping and nothing else. May be empty.
        test: clip ids, sorted; never looked at before the model is final.
        apart: which of "speaker" and "text" the split has on one side only; what is chosen within the training part
            is chosen with folds that keep them apart as well.
        note: a sentence, where the split is another than its name says.
    """

    repeat: int
    index: int
    train: np.ndarray = _Part()
    validation: np.ndarray = _Part()
    test: np.ndarray = _Part()
    apart: tuple[str, ...] = ()
    note: str = ""


def split(
    clips: "pd.DataFrame",
    method: str,
    *,
    folds: int = 5,
    seed: int = 0,
    repeats: int = 1,
    validation_fraction: float = 0.1,
    speaker_kind: str = "speaker",
    folder: Path | None = None,
) -> list[Fold]:
    """Split clips into folds.

    Every clip is tested exactly once per repeat, except under a published single split (`cremad-tfds`,
    `given` with train and test, an EmoBox folder), which tests only its test part.

    Args:
        clips: columns `id` (unique) and `emotion`; `speaker`, `text` and `fold` where the method needs them.
        method: a name of `serfuse.splits`.
        folds: number of folds. `loso` of up to 100 speakers, `loso-all`, `given` and `cremad-tfds` have a number of
            their own and ignore it;
            `speaker-text` makes `folds * folds`, one for each block of speakers with each block of texts.
        seed: repeat r of seed s is repeat 0 of seed s + r.
        repeats: how often the whole split is drawn anew.
        validation_fraction: share of the training clips that the validation part should hold, 0 for none.
            Under a grouped split it is made of whole groups, so the share is only approximate.
        speaker_kind: what the speaker column holds, for messages ("voice type" on MESD).
        folder: for `given`: an EmoBox corpus folder with `fold_1`, `fold_2` ... instead of the `fold` column.

    Raises:
        SplitError: the clips cannot be split so.
        UnknownNameError: no such method.
    """
    _check_number("repeats", repeats, 1)
    chosen, table = _checked(
        clips, method, folds, seed, validation_fraction=validation_fraction, speaker_kind=speaker_kind, folder=folder
    )
    result = []
    for repeat in range(repeats):
        drawn = chosen.assign(table, folds, seed + repeat, folder)
        apart = inner.kept_apart(table, drawn) if chosen.apart is None else chosen.apart
        for index, parts in enumerate(drawn):
            train, validation = parts.train, parts.validation
            _check_classes(table, train, parts.test, index, method)
            if validation is None:
                rng = np.random.default_rng([seed + repeat, index, 1])
                train, validation = inner.draw(table, train, apart, validation_fraction, rng)
            ids = (Rows.of(table.ids, places) for places in (train, validation, parts.test))
            result.append(Fold(repeat, index, *ids, apart, parts.note))
    return result


def whole(
    clips: "pd.DataFrame",
    method: str,
    *,
    folds: int = 5,
    seed: int = 0,
    validation_fraction: float = 0.1,
    speaker_kind: str = "speaker",
    folder: Path | None = None,
) -> Fold:
    """Give all clips to training, but for the inner validation part, which keeps apart what the split does.

    For the model that is kept after a cross-validation. Its `test` is empty. Arguments and errors as for `split`.
    """
    chosen, table = _checked(
        clips, method, folds, seed, validation_fraction=validation_fraction, speaker_kind=speaker_kind, folder=folder
    )
    apart = chosen.apart
    if apart is None:
        apart = inner.kept_apart(table, chosen.assign(table, folds, seed, folder))
    everything = np.arange(len(table.ids))
    train, validation = inner.draw(table, everything, apart, validation_fraction, np.random.default_rng([seed, 2]))
    return Fold(0, 0, table.ids[train], table.ids[validation], table.ids[:0], apart)


def _checked(
    clips: "pd.DataFrame",
    method: str,
    folds: int,
    seed: int,
    *,
    validation_fraction: float,
    speaker_kind: str,
    folder: Path | None,
) -> tuple[SplitMethod, ClipTable]:
    """The method and the clips, once everything about them is known to fit."""
    chosen = splits.get(method)
    if folder is not None and not chosen.reads_folder:
        raise SplitError(f"A folder of folds was given, but the split is {method!r}. Use the split 'given' with it.")
    _check_number("folds", folds, 2)
    _check_number("seed", seed, 0)
    if not 0 <= validation_fraction < 1:
        raise SplitError(f"validation_fraction is {validation_fraction}; expected a number from 0 to below 1.")
    table = _table(clips, speaker_kind)
    _check_emotions(table)
    for column in chosen.needs if folder is None else ():
        _require(table, column, chosen)
    return chosen, table


def _check_number(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise SplitError(f"{name} is {value!r}; expected a whole number of at least {least}.")


def _table(clips: "pd.DataFrame", speaker_kind: str) -> ClipTable:
    for column in ("id", "emotion"):
        if column not in clips.columns:
            raise SplitError(f"The clips have no column {column!r}; they have {', '.join(map(str, clips.columns))}.")
        missing = int(clips[column].isna().sum())
        if missing:
            raise SplitError(f"{missing} of {len(clips)} clips have no {column}. Every clip needs one.")
    if clips.empty:
        raise SplitError("There are no clips to split.")
    ids = clips["id"].astype(str).to_numpy(dtype=str)
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        raise SplitError(f"The clip id {str(twice[0])!r} stands in the table more than once; ids must be unique.")
    columns = {}
    for column in ("speaker", "text", "fold"):
        if column in clips.columns:
            values = clips[column].to_numpy(dtype=object)[order]
            known = clips[column].notna().to_numpy()[order]
            columns[column] = np.array(
                [str(v) if k else None for v, k in zip(values, known, strict=True)], dtype=object
            )
        else:
            columns[column] = np.full(len(ids), None, dtype=object)
    paths = clips["path"].astype(str).to_numpy(dtype=str)[order] if "path" in clips.columns else ids
    stem = {path: Path(path).stem for path in set(paths.tolist())}
    stems = np.array([stem[path] for path in paths.tolist()], dtype=str)
    labels = clips["emotion"].astype(str).to_numpy(dtype=str)[order]
    return ClipTable(ids, labels, columns, stems, speaker_kind)


def _require(table: ClipTable, column: str, method: splits.SplitMethod) -> None:
    missing = [clip for clip, value in zip(table.ids, table.columns[column], strict=True) if value is None]
    if missing:
        raise SplitError(
            f"The split {method.name!r} needs the {table.name(column)} of every clip, but {len(missing)} of "
            f"{len(table.ids)} have none (the first is {str(missing[0])!r}). Add it to the corpus, "
            f"{'give a folder of folds (--set split.folder=DIR), ' if method.reads_folder else ''}or use another "
            f"split ({', '.join(n for n in splits.names() if n != method.name)})."
        )


def _check_emotions(table: ClipTable) -> None:
    """Refuses clips of one emotion only, of which nothing can be learned."""
    names = sorted(set(table.labels))
    if len(names) < 2:
        raise SplitError(
            f"All {len(table.ids)} clips are {names[0]}: there is nothing to tell apart. A classifier needs clips of "
            "at least two emotions."
        )


def _check_classes(table: ClipTable, train: np.ndarray, test: np.ndarray, index: int, method: str) -> None:
    """Refuse a fold that would train on one class only, or test one of which training holds no clip."""
    trained = sorted(set(table.labels[train].tolist()))
    if len(trained) < 2:
        held = f"only {trained[0]}" if trained else "no clip at all"
        raise SplitError(
            f"Under the split {method!r}, the training part of fold {index} holds {held}: there is nothing to tell "
            "apart. Use another split."
        )
    unseen = sorted(set(table.labels[test].tolist()) - set(trained))
    if unseen:
        raise SplitError(
            f"Under the split {method!r}, fold {index} tests {', '.join(unseen)} but its training part has no clip "
            "of it: too few groups hold that class. Use another split, or leave the class out."
        )
