"""Folds in EmoBox's layout."""

import io
import json
import re
from pathlib import Path

import numpy as np

from .. import bounded_file
from ..errors import SplitError
from .base import ClipTable, Parts
from .published import published

_MAX_BYTES = 256 << 20  # a million clips
_MAX_LINE = 1 << 20


def read(table: ClipTable, folder: Path) -> list[Parts]:
    """Read folds in EmoBox's layout: `fold_K/<corpus>_{train,valid,test}_fold_K.jsonl`, one JSON object per line.

    An entry is matched to a clip by its `key` (with or without the leading "<corpus>-") or its `wav` file's
    stem, unless several files have that. Clips that EmoBox does not list are in no part.
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
            f"fold_1/<corpus>_test_fold_1.jsonl. Give the folder of one corpus, such as EmoBox/data/emodb."
        )
    stems, counts = np.unique(table.stems, return_counts=True)
    shared = set(stems[counts > 1])  # names of several files tell no clip
    place = {str(stem): i for i, stem in enumerate(table.stems) if stem not in shared}
    place |= {str(clip): i for i, clip in enumerate(table.ids)}
    result = []
    for number in sorted(files):
        masks = {part: np.zeros(len(table.ids), dtype=bool) for part in ("train", "valid", "test")}
        for part, path in files[number].items():
            unknown = []
            text = bounded_file.read_text(path, _MAX_BYTES, SplitError, owner="list of clips")
            for line_number, line in enumerate(io.StringIO(text), start=1):
                if not line.strip():
                    continue
                if len(line) > _MAX_LINE:
                    raise SplitError(f"{path}, line {line_number} is too long for an EmoBox entry: {line[:80]!r} ...")
                at = _clip(line, place, f"{path}, line {line_number}")
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
        result.append(published(masks["train"], masks["valid"], masks["test"], f"fold {number} under {folder}"))
    return result


def _clip(line: str, place: dict[str, int], where: str) -> int | str:
    """Position of the clip that a line names, or the name where the corpus has no such clip."""
    try:
        entry = json.loads(line)
        key = str(entry["key"])
    except (json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
        raise SplitError(f"{where} is not an EmoBox entry (a JSON object with a 'key'): {line[:80]!r}.") from error
    spellings = [key, key.removeprefix(f"{entry.get('dataset', '')}-"), Path(str(entry.get("wav", ""))).stem]
    return next((place[s] for s in spellings if s in place), key)
