"""Rows of one kind as they come in, whoever stores them."""

from collections.abc import Iterator

from .key_folder import KeyFolder

_TRIES = 50
_STEP_ROWS = 1 << 14


class Arrivals:
    """Tells of each row once it is stored, reading only parts that it has not seen.

    Args:
        folder: of the kind; it need not exist yet.
    """

    def __init__(self, folder: KeyFolder) -> None:
        self._folder = folder
        self._seen: set[str] = set()

    def new(self) -> Iterator[tuple[str, str]]:
        """Clip id and audio identity of the rows of parts that came since the last call; of all at the first.

        A row may come again, in the part that a compaction writes.

        Raises:
            DamageError: a part is damaged.
            StoreError: a part is of another kind or format, or parts keep coming and going.
        """
        for texts in self._texts():
            for start in range(0, len(texts[0]), _STEP_ROWS):
                yield from zip(*(column[start : start + _STEP_ROWS].to_pylist() for column in texts), strict=True)

    def _texts(self) -> list[tuple]:
        for _ in range(_TRIES):
            paths = self._folder.paths()
            fresh = [path for path in paths if path.name not in self._seen]
            try:
                found = [self._folder.part(path).texts() for path in fresh]
            except FileNotFoundError:  # a compaction has taken it away: its rows are in a new part
                continue
            self._seen = {path.name for path in paths}
            return found
        raise self._folder.restless()
