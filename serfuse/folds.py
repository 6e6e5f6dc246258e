"""How clips are split into training, validation and test parts.

A split is asked for by name (`SPLITS`). Whatever the name, the same clips and the same seed give the same
folds, in whatever order the clips stand in the table, and the inner validation part keeps apart what the
split itself keeps apart: under `speaker` no speaker is both in training and in validation.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import SplitError
from .registry import Registry

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Fold:
    """One round of training and testing.

    A clip may be in none of the three parts (`speaker-text` leaves out clips that share only the speaker or
    only the text with the test part; a published split may not list every clip), and is never in two.

    Attributes:
        repeat: 0 .. repeats - 1; repeat r is drawn with `seed + r`.
        index: 0 .. , the fold's place within its repeat.
        train: clip ids, sorted.
        validation: clip ids, sorted; for early stopping and nothing else. May be empty.
        test: clip ids, sorted; never looked at before the model is final.
    """

    repeat: int
    index: int
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class _Table:
    """The clips, sorted by id. `columns`: "speaker", "text", "fold" as strings, `None` where unknown."""

    ids: np.ndarray
    labels: np.ndarray
    columns: dict[str, np.ndarray]
    stems: np.ndarray
    speaker_kind: str

    def name(self, column: str) -> str:
        """What a column is called in messages."""
        return self.speaker_kind if column == "speaker" else column


@dataclass(frozen=True)
class _Parts:
    """Positions into a `_Table`. `validation` is `None` where it is still to be drawn from `train`."""

    train: np.ndarray
    test: np.ndarray
    validation: np.ndarray | None = None


@dataclass(frozen=True)
class SplitMethod:
    """One way of splitting.

    Attributes:
        name: registry name.
        summary: one line for listings.
        needs: the columns that must be known for every clip.
        apart: the columns no value of which stands on both sides; the validation part keeps them apart as
            well. `None`: found out from the folds themselves (`given`).
        seeded: whether the test parts depend on the seed. Where they do not, repeats differ in the
            validation part (and in whatever training draws) only.
        assign: `(table, folds, seed, folder) -> parts`.
    """

    name: str
    summary: str
    needs: tuple[str, ...]
    apart: tuple[str, ...] | None
    seeded: bool
    assign: Callable[[_Table, int, int, Path | None], list[_Parts]]


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
    """Splits clips into folds.

    Every clip is tested exactly once per repeat, except under a published single split (`cremad-tfds`,
    `given` with train and test, an EmoBox folder), which tests only its test part.

    Args:
        clips: columns `id` (unique) and `emotion`; `speaker`, `text` and `fold` where the method needs them.
        method: a name of `SPLITS`.
        folds: number of folds. `loso`, `given` and `cremad-tfds` have a number of their own and ignore it;
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
    chosen = SPLITS.get(method)
    if folder is not None and method != "given":
        raise SplitError(f"A folder of folds was given, but the split is {method!r}. Use the split 'given' with it.")
    _check_number("folds", folds, 2)
    _check_number("repeats", repeats, 1)
    _check_number("seed", seed, 0)
    if not 0 <= validation_fraction < 1:
        raise SplitError(f"validation_fraction is {validation_fraction}; expected a number from 0 to below 1.")
    table = _table(clips, speaker_kind)
    for column in chosen.needs:
        _require(table, column, method)

    result = []
    for repeat in range(repeats):
        drawn = chosen.assign(table, folds, seed + repeat, folder)
        apart = _apart(table, drawn) if chosen.apart is None else chosen.apart
        for index, parts in enumerate(drawn):
            train, validation = parts.train, parts.validation
            _check_classes(table, train, parts.test, index, method)
            if validation is None:
                rng = np.random.default_rng([seed + repeat, index, 1])
                train, validation = _draw_validation(table, train, apart, validation_fraction, rng)
            result.append(Fold(repeat, index, table.ids[train], table.ids[validation], table.ids[parts.test]))
    return result


def _check_number(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise SplitError(f"{name} is {value!r}; expected a whole number of at least {least}.")


def _table(clips: "pd.DataFrame", speaker_kind: str) -> _Table:
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
    stems = np.array([Path(p).stem for p in paths], dtype=str)
    labels = clips["emotion"].astype(str).to_numpy(dtype=str)[order]
    return _Table(ids, labels, columns, stems, speaker_kind)


def _require(table: _Table, column: str, method: str) -> None:
    missing = [clip for clip, value in zip(table.ids, table.columns[column], strict=True) if value is None]
    if missing:
        raise SplitError(
            f"The split {method!r} needs the {table.name(column)} of every clip, but {len(missing)} of "
            f"{len(table.ids)} have none (the first is {str(missing[0])!r}). Add it to the corpus, or use another "
            f"split ({', '.join(n for n in SPLITS if n != method)})."
        )


def _check_classes(table: _Table, train: np.ndarray, test: np.ndarray, index: int, method: str) -> None:
    """Refuses a fold that would test a class of which training holds no clip."""
    unseen = sorted(set(table.labels[test]) - set(table.labels[train]))
    if unseen:
        raise SplitError(
            f"Under the split {method!r}, fold {index} tests {', '.join(unseen)} but its training part has no clip "
            "of it: too few groups hold that class. Use another split, or leave the class out."
        )


# --- partitions into groups -----------------------------------------------------------------------------


def _codes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sorted distinct values, code of each value)."""
    distinct = np.array(sorted(set(values)), dtype=object)
    place = {value: i for i, value in enumerate(distinct)}
    return distinct, np.array([place[value] for value in values], dtype=int)


def _partition(labels: np.ndarray, groups: np.ndarray, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Part (0 .. parts - 1) of each clip: whole groups, classes spread evenly, another draw for another seed.

    scikit-learn's StratifiedGroupKFold breaks only ties at random: on Emo-DB every seed gives the same five
    folds, so repeats over seeds would repeat one partition. Here groups are placed greedily, the larger ones
    first but in a perturbed order, each where it overlaps least with what is there; of `tries` such draws
    the best spread is kept.
    """
    tries, spread = 10, 0.6
    _, group = _codes(groups)
    _, label = _codes(labels)
    counts = np.zeros((group.max() + 1, label.max() + 1))
    np.add.at(counts, (group, label), 1)
    total = counts.sum(axis=0)
    # Each class in units of its own size, and the number of clips as one more "class".
    weighted = np.hstack([counts / np.sqrt(total), counts.sum(axis=1, keepdims=True) / np.sqrt(total.sum())])
    keys = np.log(counts.sum(axis=1)) + spread * rng.standard_normal((tries, len(counts)))
    order = np.argsort(-keys, axis=1, kind="stable")
    held = np.zeros((tries, parts, weighted.shape[1]))
    part = np.zeros((tries, len(counts)), dtype=int)
    rows = np.arange(tries)
    for step in range(len(counts)):
        chosen = order[:, step]
        incoming = weighted[chosen]
        # Growth of the summed squared deviation from even parts, up to a constant. An empty part has 0, the
        # least.
        target = np.argmin(np.einsum("tpc,tc->tp", held, incoming), axis=1)
        held[rows, target] += incoming
        part[rows, chosen] = target
    best = int(np.argmin(((held - held.mean(axis=1, keepdims=True)) ** 2).sum(axis=(1, 2))))
    return part[best][group]


def _grouped(table: _Table, column: str, folds: int, rng: np.random.Generator, method: str) -> np.ndarray:
    distinct = set(table.columns[column])
    kind = table.name(column)
    if len(distinct) < 2:
        raise SplitError(
            f"The split {method!r} needs at least two {kind}s, but all {len(table.ids)} clips have one "
            f"({next(iter(distinct))!r}). Use the split 'random'."
        )
    if len(distinct) < folds:
        other = f", or the split 'loso' (one {kind} at a time)" if column == "speaker" else ""
        raise SplitError(
            f"{folds} folds under the split {method!r} need at least {folds} {kind}s, but there are {len(distinct)}. "
            f"Use --folds {len(distinct)}{other}."
        )
    return _partition(table.labels, table.columns[column], folds, rng)


def _each(part: np.ndarray, folds: int) -> list[_Parts]:
    return [_Parts(np.flatnonzero(part != k), np.flatnonzero(part == k)) for k in range(folds)]


# --- the methods ----------------------------------------------------------------------------------------


def _random(table: _Table, folds: int, seed: int, folder: Path | None) -> list[_Parts]:
    from sklearn.model_selection import StratifiedKFold

    classes, sizes = np.unique(table.labels, return_counts=True)
    small = [f"{c} ({n})" for c, n in zip(classes, sizes, strict=True) if n < folds]
    if small:
        raise SplitError(
            f"{folds} stratified folds need at least {folds} clips of every class, but there are fewer of: "
            f"{', '.join(small)}. Use --folds {max(2, int(sizes.min()))}, add clips or leave the class out."
        )
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return [_Parts(train, test) for train, test in splitter.split(table.ids, table.labels)]


def _speaker(table: _Table, folds: int, seed: int, folder: Path | None) -> list[_Parts]:
    part = _grouped(table, "speaker", folds, np.random.default_rng([seed, 0]), "speaker")
    return _each(part, folds)


def _text(table: _Table, folds: int, seed: int, folder: Path | None) -> list[_Parts]:
    part = _grouped(table, "text", folds, np.random.default_rng([seed, 0]), "text")
    return _each(part, folds)


def _loso(table: _Table, folds: int, seed: int, folder: Path | None) -> list[_Parts]:
    distinct, code = _codes(table.columns["speaker"])
    if len(distinct) < 2:
        raise SplitError(
            f"Leaving one {table.speaker_kind} out needs at least two, but all {len(table.ids)} clips have one "
            f"({distinct[0]!r}). Use the split 'random'."
        )
    return _each(code, len(distinct))


def _speaker_text(table: _Table, folds: int, seed: int, folder: Path | None) -> list[_Parts]:
    # One fold per pair (block of speakers, block of texts). The pairs tile the corpus, so every clip is
    # tested exactly once; training takes the clips that share neither block, and those that share one are
    # left out of that fold.
    rng = np.random.default_rng([seed, 0])
    speaker = _grouped(table, "speaker", folds, rng, "speaker-text")
    text = _grouped(table, "text", folds, rng, "speaker-text")
    result = []
    for i in range(folds):
        for j in range(folds):
            test = np.flatnonzero((speaker == i) & (text == j))
            if len(test):
                result.append(_Parts(np.flatnonzero((speaker != i) & (text != j)), test))
    return result


_PART_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "validation",
    "devel": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


def _given(table: _Table, folds: int, seed: int, folder: Path | None) -> list[_Parts]:
    if folder is not None:
        return _emobox(table, Path(folder))
    _require(table, "fold", "given")
    values = np.array([value.strip() for value in table.columns["fold"]], dtype=object)
    named = np.array([_PART_NAMES.get(value.lower()) for value in values], dtype=object)
    if all(name is not None for name in named):
        return [_published(named == "train", named == "validation", named == "test", "the fold column")]
    distinct = sorted(set(values), key=_natural)
    parts = sorted({value for value, name in zip(values, named, strict=True) if name is not None})
    if parts:
        unknown = [value for value in distinct if value not in parts]
        raise SplitError(
            f"The fold column holds names of parts ({', '.join(parts)}) and others ({', '.join(unknown[:5])}). "
            "Expected one of train, validation and test for every clip, or one value per fold and no such name. Leave "
            "the other clips out of the table, or rename the values."
        )
    if len(distinct) < 2:
        raise SplitError(
            f"The fold column holds one value only ({distinct[0]!r}). It needs one value per fold (at least two), or "
            "'train' and 'test' (and 'validation') for one published split."
        )
    return [_Parts(np.flatnonzero(values != value), np.flatnonzero(values == value)) for value in distinct]


def _natural(value: str) -> tuple:
    """Sorts "fold_10" behind "fold_9"."""
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", value) if p)


def _published(train: np.ndarray, validation: np.ndarray, test: np.ndarray, where: str) -> _Parts:
    for name, mask in (("training", train), ("test", test)):
        if not mask.any():
            raise SplitError(f"No clip of the corpus is in the {name} part of {where}.")
    return _Parts(np.flatnonzero(train), np.flatnonzero(test), np.flatnonzero(validation) if validation.any() else None)


def _emobox(table: _Table, folder: Path) -> list[_Parts]:
    """Folds in EmoBox's layout: `fold_K/<corpus>_{train,valid,test}_fold_K.jsonl`, one JSON object per line.

    An entry is matched to a clip by its `key` (with or without the leading "<corpus>-") or its `wav` file's
    stem. Clips that EmoBox does not list are in no part.
    """
    name = re.compile(r"_(train|valid|test)_fold_?(\d+)\.jsonl$")
    files: dict[int, dict[str, Path]] = {}
    for path in sorted(folder.glob("fold_*/*.jsonl")):
        found = name.search(path.name)
        if found:
            # "..._fold_1" sorts behind "..._fold1": where a folder holds both spellings, the documented one
            # stays.
            files.setdefault(int(found[2]), {})[found[1]] = path
    if not files:
        raise SplitError(
            f"No EmoBox folds under {folder}: expected fold_1/<corpus>_train_fold_1.jsonl and "
            f"fold_1/<corpus>_test_fold_1.jsonl."
        )
    place: dict[str, int] = {}
    for keys in (table.stems, table.ids):
        place.update({str(key): i for i, key in enumerate(keys)})
    result = []
    for number in sorted(files):
        masks = {part: np.zeros(len(table.ids), dtype=bool) for part in ("train", "valid", "test")}
        for part, path in files[number].items():
            unknown = []
            for line_number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if not line.strip():
                    continue
                at = _emobox_clip(line, place, f"{path}, line {line_number}")
                if isinstance(at, str):
                    unknown.append(at)
                else:
                    masks[part][at] = True
            if unknown:
                raise SplitError(
                    f"{path} lists {len(unknown)} clips that the corpus does not hold, the first is {unknown[0]!r}. "
                    "Use the folder that belongs to this corpus, and extract all of its clips."
                )
        both = (masks["train"] | masks["valid"]) & masks["test"]
        if both.any():
            raise SplitError(
                f"Fold {number} under {folder} lists {int(both.sum())} clips in training and in test, the first is "
                f"{str(table.ids[both][0])!r}."
            )
        masks["train"] &= ~masks["valid"]
        result.append(_published(masks["train"], masks["valid"], masks["test"], f"fold {number} under {folder}"))
    return result


def _emobox_clip(line: str, place: dict[str, int], where: str) -> int | str:
    """Position of the clip that a line names, or the name where the corpus has no such clip."""
    try:
        entry = json.loads(line)
        key = str(entry["key"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise SplitError(f"{where} is not an EmoBox entry (a JSON object with a 'key'): {line[:80]!r}.") from error
    spellings = [key, key.removeprefix(f"{entry.get('dataset', '')}-"), Path(str(entry.get("wav", ""))).stem]
    return next((place[s] for s in spellings if s in place), key)


_CREMAD_SPEAKERS = tuple(str(number) for number in range(1001, 1092))


def cremad_tfds_speakers() -> dict[str, tuple[str, ...]]:
    """CREMA-D's published speaker-disjoint split: part -> speaker ids (63 train, 9 validation, 19 test).

    As TensorFlow Datasets' `crema_d` 1.0.0 makes it: the 91 sorted ids, shuffled by `RandomState(0)`, cut at
    70 and 80 per cent.
    """
    speakers = list(_CREMAD_SPEAKERS)
    np.random.RandomState(0).shuffle(speakers)
    first, second = int(0.7 * len(speakers)), int((0.7 + 0.1) * len(speakers))
    return {
        "train": tuple(speakers[:first]),
        "validation": tuple(speakers[first:second]),
        "test": tuple(speakers[second:]),
    }


def _cremad_tfds(table: _Table, folds: int, seed: int, folder: Path | None) -> list[_Parts]:
    speakers = table.columns["speaker"]
    unknown = sorted(set(speakers) - set(_CREMAD_SPEAKERS))
    if unknown:
        raise SplitError(
            f"The split 'cremad-tfds' is published for CREMA-D's speakers 1001 to 1091 only; the clips have "
            f"{', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}. Use the split 'speaker'."
        )
    masks = {part: np.isin(speakers.astype(str), names) for part, names in cremad_tfds_speakers().items()}
    return [_published(masks["train"], masks["validation"], masks["test"], "CREMA-D's published split")]


# --- the inner validation part --------------------------------------------------------------------------


def _apart(table: _Table, drawn: Sequence[_Parts]) -> tuple[str, ...]:
    """Which of speaker and text no fold has on both sides."""
    result = []
    for column in ("speaker", "text"):
        values = table.columns[column]
        if all(value is not None for value in values) and all(
            not set(values[parts.train]) & set(values[parts.test]) for parts in drawn
        ):
            result.append(column)
    return tuple(result)


def _draw_validation(
    table: _Table, train: np.ndarray, apart: tuple[str, ...], fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(training, validation) positions out of `train`; nothing named in `apart` is on both sides."""
    if fraction == 0:
        return train, train[:0]
    if not apart:
        chosen = _stratified(table.labels[train], fraction, rng)
        return train[~chosen], train[chosen]
    for column in apart:
        values = set(table.columns[column][train])
        if len(values) < 2:
            raise SplitError(
                f"The training part of a fold holds one {table.name(column)} only ({next(iter(values))!r}), so no "
                "validation part can be kept apart from it. Set validation_fraction to 0 (no early stopping)."
            )
    # Held out in one column: a block of 1/k of its values. In two: 1/sqrt(k) of each, since only clips in
    # both held-out blocks can validate.
    blocks = max(2, round(fraction ** (-1 / len(apart))))
    parts = []
    for column in apart:
        values = table.columns[column][train]
        parts.append(_partition(table.labels[train], values, min(blocks, len(set(values))), rng))
    best: tuple[int, np.ndarray, np.ndarray] | None = None
    classes = len(set(table.labels[train]))
    counts = [part.max() + 1 for part in parts]
    for cell in rng.permutation(int(np.prod(counts))):
        held = [part == k for part, k in zip(parts, np.unravel_index(cell, counts), strict=True)]
        inside, outside = np.logical_and.reduce(held), ~np.logical_or.reduce(held)
        if not inside.any() or len(set(table.labels[train[outside]])) < classes:
            continue
        covered = len(set(table.labels[train[inside]]))
        if best is None or covered > best[0]:
            best = covered, outside, inside
    if best is None:
        kinds = " and ".join(table.name(column) for column in apart)
        raise SplitError(
            f"No validation part can be kept apart by {kinds} without taking the last clips of a class out of "
            "training. Set validation_fraction to 0 (no early stopping)."
        )
    return train[best[1]], train[best[2]]


def _stratified(labels: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Marks the share `fraction` of each class, at least one clip of a class that has two, never all of
    one."""
    chosen = np.zeros(len(labels), dtype=bool)
    for label in sorted(set(labels)):
        places = np.flatnonzero(labels == label)
        number = min(max(round(fraction * len(places)), 1), len(places) - 1)
        chosen[rng.permutation(places)[:number]] = True
    return chosen


RANDOM = SplitMethod("random", "stratified at random, as in the papers", (), (), True, _random)
SPEAKER = SplitMethod("speaker", "no speaker on both sides, stratified", ("speaker",), ("speaker",), True, _speaker)
LOSO = SplitMethod("loso", "leave one speaker out", ("speaker",), ("speaker",), False, _loso)
TEXT = SplitMethod("text", "no sentence or word on both sides", ("text",), ("text",), True, _text)
SPEAKER_TEXT = SplitMethod(
    "speaker-text",
    "neither a test speaker nor a test text in training; folds x folds rounds",
    ("speaker", "text"),
    ("speaker", "text"),
    True,
    _speaker_text,
)
GIVEN = SplitMethod("given", "the corpus's fold column, or an EmoBox folder", (), None, False, _given)
CREMAD_TFDS = SplitMethod(
    "cremad-tfds",
    "CREMA-D's published speaker-disjoint 70/10/20 split (TensorFlow Datasets)",
    ("speaker",),
    ("speaker",),
    False,
    _cremad_tfds,
)

SPLITS: Registry[SplitMethod] = Registry(
    "split",
    [
        ("random", "serfuse.folds:RANDOM"),
        ("speaker", "serfuse.folds:SPEAKER"),
        ("loso", "serfuse.folds:LOSO"),
        ("text", "serfuse.folds:TEXT"),
        ("speaker-text", "serfuse.folds:SPEAKER_TEXT"),
        ("given", "serfuse.folds:GIVEN"),
        ("cremad-tfds", "serfuse.folds:CREMAD_TFDS"),
    ],
)
names = SPLITS.names
get = SPLITS.get
