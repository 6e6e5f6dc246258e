"""What is known of a clip's audio, and of clips that were left out."""

import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What a file system says of a file; while it is the same, the content is taken to be the same."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileStamp":
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What is known of a clip's audio without decoding it.

    Attributes:
        audio: identity of the audio: the file's content hash, with `@start-end` behind it for a part of a file.
            `None` when the file cannot be read.
        seconds: length of the clip, NaN when unknown.
        stamp: of the file when it was hashed, `None` when unknown.
        file_seconds: length of the whole file, NaN when unknown.
        settled: the stamp can be trusted later on; not so for a file written a moment ago, which could change again
            within the resolution of the file system's clock.
        problem: why the audio cannot be used, as far as the file's header tells; `None` when it seems fine.
    """

    audio: str | None
    seconds: float = math.nan
    stamp: FileStamp | None = None
    file_seconds: float = math.nan
    settled: bool = True
    problem: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A clip that an encoder could not use, and that the user agreed to leave out."""

    clip: str
    audio: str | None
    reason: str
