"""Finding the audio files of a corpus on disk. Nothing here opens a file."""

import os
import unicodedata
from pathlib import Path

from ..errors import CorpusError

AUDIO = frozenset(
    f".{name}"
    for name in (
        *("wav", "wave", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff"),
        *("aifc", "au", "snd", "caf", "w64", "rf64", "sph", "nist"),
    )
)
"""What the name of a file that libsndfile reads may end in, in lower case."""

OTHER = frozenset(
    f".{name}"
    for name in (
        *("m4a", "m4b", "m4r", "mp4", "m4v", "mov", "3gp", "3g2", "aac", "adts", "webm", "weba", "mka", "mkv", "amr"),
        *("awb", "wma", "wmv", "asf", "avi", "flv", "f4v", "mpg", "mpeg", "mp1", "mp2", "mpga", "m2ts", "mts", "vob"),
        *("ogv", "ogx", "spx", "rm", "ra", "rmvb", "ape", "wv", "tta", "mpc", "ac3", "eac3", "dts", "alac", "dsf"),
        *("dff", "voc", "vox", "gsm", "qcp", "pcm", "raw", "aax", "avr", "8svx", "sd2"),
    )
)
"""What names of other audio, and of video, end in. Such files are clips like the others: whether one can be read, and
what it needs, is said of each when it is."""

EXTENSIONS = AUDIO | OTHER
"""What an audio file's name may end in, in lower case."""

MAX_ENTRIES = 1_000_000
"""Most files and folders that are looked at: a corpus has thousands, a home folder millions."""


def folder(root: str | os.PathLike[str], *preferred: str) -> Path:
    """`root` as a path, or its first subfolder among `preferred` that exists (in any case).

    Raises:
        CorpusError: `root` is missing or not a folder.
    """
    path = Path(root)
    if not path.exists():
        raise CorpusError(f"{path}: there is no such folder. Give the folder that holds the corpus.")
    if not path.is_dir():
        raise CorpusError(f"{path}: is a file, expected the folder that holds the corpus.")
    below = {entry.name.lower(): entry for entry in _scan(path)}
    for name in preferred:
        found = below.get(name.lower())
        if found is not None and found.is_dir():
            return Path(found.path)
    return path


def audio_files(root: Path, *, limit: int = MAX_ENTRIES) -> list[Path]:
    """All files below `root` whose name ends like audio or video, sorted by their path from there.

    Hidden files and folders are left out (macOS puts a `._name.wav` beside each wav it copies). Links to folders
    are followed, each folder once, so a link to a folder above does no harm.

    Raises:
        CorpusError: a folder cannot be read, or there are more than `limit` files and folders.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting: list[str] = [os.fspath(root)]
    links: list[str] = []
    count = 0
    while waiting or links:
        # Links come last, so that a folder is known by its own name where it also has one.
        current = waiting.pop() if waiting else links.pop(0)
        try:
            status = os.stat(current)
        except OSError:
            continue  # went away meanwhile
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in sorted(_scan(Path(current)), key=lambda entry: entry.name):
            count += 1
            if count > limit:
                raise CorpusError(
                    f"{root}: more than {limit} files and folders below it. Give the folder of the corpus itself."
                )
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if entry.is_dir():
                (links if entry.is_symlink() else waiting).append(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                # Also a link to nowhere: reading it gives the reason, leaving it out here would lose it unseen.
                found.append(Path(entry.path))
    return sorted(found, key=lambda path: relative(path, root))


def without_twins(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """The files, and those left out: of a kind of `OTHER` (mostly video) beside a file of `AUDIO` of the same name.

    Corpora with films hold the sound of each once more as a file of its own.
    """
    sounds = {path.with_suffix("") for path in files if path.suffix.lower() in AUDIO}
    twins = [path for path in files if path.suffix.lower() in OTHER and path.with_suffix("") in sounds]
    gone = set(twins)
    return [path for path in files if path not in gone], twins


def relative(path: Path, root: Path) -> str:
    """The path from `root`, the same text on every machine: forward slashes, composed Unicode."""
    return unicodedata.normalize("NFC", path.relative_to(root).as_posix())


def _scan(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be listed: {error.strerror}.") from None
