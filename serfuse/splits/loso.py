"""Leave one speaker out."""

from pathlib import Path

from ..errors import SplitError
from .base import ClipTable, Parts, SplitMethod, one_part_each
from .grouping import codes


def _loso(table: ClipTable, folds: int, seed: int, folder: Path | None) -> list[Parts]:
    distinct, code = codes(table.columns["speaker"])
    if len(distinct) < 2:
        raise SplitError(
            f"Leaving one {table.speaker_kind} out needs at least two, but all {len(table.ids)} clips have one "
            f"({distinct[0]!r}). Use the split 'random'."
        )
    return one_part_each(code, len(distinct))


LOSO = SplitMethod("loso", "leave one speaker out", _loso, needs=("speaker",), apart=("speaker",))
