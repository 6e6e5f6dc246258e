"""The file that a path in a table means, also where it is spelt as another system or editor writes it."""

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..errors import CorpusError

_KEPT = 1 << 12


@dataclass(frozen=True)
class Found:
    """A file of a table.

    Attributes:
        path: where it is, or would be.
        name: the path as ids are made from it: forward slashes, without the home folder.
        spelling: what is unusual about how the table writes it, "" for nothing.
    """

    path: Path
    name: str
    spelling: str = ""


class PathFinder:
    """Finds files by the paths of a table.

    A path that leads to a file as it is written is taken so. Otherwise backslashes may be slashes, `~/` the home
    folder, and accents may be composed or not; the last is taken only where one name alone fits. Nothing else is tried.
    """

    def __init__(self) -> None:
        self._listings: dict[str, dict[str, list[str]]] = {}
        self._found: dict[tuple[Path, str], Found] = {}
        self.spellings: Counter[str] = Counter()
        """How many paths were found under another spelling, by what is unusual about it."""

    def find(self, place: Path, written: str) -> Found:
        """The file that `written` means, from the folder `place` on.

        Raises:
            CorpusError: it begins with `~/`, and there is no home folder.
        """
        # Rows that are pieces of one file share its path, and mostly stand together.
        found = self._found.get((place, written))
        if found is None:
            if len(self._found) >= _KEPT:
                self._found.clear()
            found = self._found[place, written] = self._find(place, written)
        if found.spelling:
            self.spellings[found.spelling] += 1
        return found

    def there(self, place: Path, written: str) -> bool:
        """Whether there is such a file."""
        return os.path.exists(self._find(place, written).path)

    def _find(self, place: Path, written: str) -> Found:
        if os.path.exists(place / written):
            return Found(place / written, Path(written).as_posix())
        home = written.startswith(("~/", "~\\"))
        name, root, spelling = (
            (written[2:], _home(written), "from the home folder on") if home else (written, place, "")
        )
        for text, how in ((name, spelling), (name.replace("\\", "/"), "with backslashes")):
            if (text != name or home) and os.path.exists(root / text):
                return Found(root / text, text, how)
            composed = self._composed(root, text)
            if composed is not None:
                return Found(composed, text, "with another composition of accents")
        return Found(root / name, Path(name).as_posix(), "")

    def _composed(self, root: Path, name: str) -> Path | None:
        """The one file whose path is the same letters, composed or not; `None` where there is none or are several."""
        if name.isascii() or "\0" in name:
            return None
        path = Path(root.anchor) if Path(name).is_absolute() else root
        for part in Path(name).relative_to(Path(name).anchor).parts:
            if os.path.exists(path / part):
                path /= part
                continue
            fitting = self._listing(path).get(unicodedata.normalize("NFC", part), [])
            if len(fitting) != 1:
                return None
            path /= fitting[0]
        return path

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        """Names in a folder, by their composed form."""
        key = os.fspath(folder)
        if key not in self._listings:
            names: dict[str, list[str]] = {}
            try:
                for name in os.listdir(key):
                    names.setdefault(unicodedata.normalize("NFC", name), []).append(name)
            except OSError:
                pass
            self._listings[key] = names
        return self._listings[key]


def _home(written: str) -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise CorpusError(
            f"The path {written!r} begins at the home folder, but there is none (HOME is not set). Write whole paths."
        ) from None
