"""Errors that a user of serfuse can act on.

Every one derives from `SerfuseError`; the command line prints its message without a traceback. A message says
what was received, what was expected and what to do about it.
"""


class SerfuseError(Exception):
    """Base of every error that is about the user's input rather than about a defect in serfuse."""


class AudioError(SerfuseError):
    """A file cannot be used as audio: missing, empty, truncated, not audio, silent, too short, NaN."""


class CorpusError(SerfuseError):
    """A corpus folder or table does not hold what its reader expects."""


class WeightsError(SerfuseError):
    """An encoder's weights are absent, incomplete, unsafe or of another model."""


class StoreError(SerfuseError):
    """The embedding store cannot be read or written, or does not hold what was asked for."""


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
