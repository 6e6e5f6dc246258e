"""Errors that a user of serfuse can act on.

Every one derives from `SerfuseError`; the command line prints its message without a traceback. A message says
what was received, what was expected and what to do about it.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any


class SerfuseError(Exception):
    """Base of every error that is about the user's input rather than about a defect in serfuse."""


class AudioError(SerfuseError):
    """A file cannot be used as audio: missing, empty, truncated, not audio, silent, too short, NaN."""


class CorpusError(SerfuseError):
    """A corpus folder or table does not hold what its reader expects."""


class WeightsError(SerfuseError):
    """An encoder's weights are absent, incomplete, unsafe or of another model."""


class EncoderError(SerfuseError):
    """An encoder's library fails whatever the clip: something about the installation, not about the clips."""


class StoreError(SerfuseError):
    """The embedding store cannot be read or written, or does not hold what was asked for."""


class WriteError(StoreError):
    """A file or folder cannot be written, in the store or anywhere else. What was there before is intact.

    Which setting names another place depends on who writes, so the message does not say: commands add it.

    Attributes:
        path: what could not be written: a path, or an address in a storage of objects.
        reason: why, in the operating system's words.
        full: there is no space left, or a quota is used up.
    """

    def __init__(self, path: Any, reason: str, *, full: bool = False) -> None:
        self.path = Path(path) if isinstance(path, str | os.PathLike) else path
        self.reason, self.full = reason, full
        super().__init__(self.path, reason, full)

    def __reduce__(self) -> tuple[Any, ...]:  # it crosses processes
        return partial(type(self), full=self.full), (self.path, self.reason)

    def __str__(self) -> str:
        if self.full:
            return (
                f"Cannot write {self.path}: no space left on the disk, or a quota is used up ({self.reason}). "
                "What was written before is intact; free some space and run the same command again."
            )
        return f"Cannot write {self.path}: {self.reason}. Give a place that you may write to."


class StoreWriteError(WriteError):
    """The embedding store cannot be written."""


class FolderInUseError(StoreError):
    """Another process is at work in a folder.

    Attributes:
        folder: which.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        super().__init__(self.folder)

    def __str__(self) -> str:
        return f"Another process is at work in {self.folder}. Wait for it to end, or give another folder."


class ConfigError(SerfuseError):
    """A configuration value is unknown, of the wrong type or out of range."""


class SplitError(SerfuseError):
    """The clips cannot be split as asked (too few clips of a class, one speaker only, no texts ...)."""


class RunError(SerfuseError):
    """A run folder cannot be read, or runs cannot be compared."""


class ModelFileError(SerfuseError):
    """A file of a trained model cannot be read, is not what it says, or does not fit what is asked of it."""


class ExtensionError(SerfuseError, ValueError):
    """Something that another package or the caller adds cannot be used: its name is taken, it fails to import ..."""


class UnknownNameError(SerfuseError, KeyError):
    """A name is not in a registry. The message lists the choices."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0])
