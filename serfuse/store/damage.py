"""Files of the store that cannot be trusted, and what to do about them."""

import shlex
from typing import TYPE_CHECKING, Any

from ..errors import StoreError

if TYPE_CHECKING:
    from .files import StorePath


class DamageError(StoreError):
    """A file of the store is not as it was written.

    Attributes:
        path: which file.
        reason: what is wrong with it, without advice.
    """

    def __init__(self, path: "StorePath", message: str, reason: str = "") -> None:
        super().__init__(message)
        self.path, self.reason = path, reason or message

    def __reduce__(self) -> tuple[Any, ...]:  # it crosses processes
        return type(self), (self.path, str(self), self.reason)


def repair_command(root: "StorePath") -> str:
    """The command that mends a store."""
    return shlex.join(["serfuse", "store", "repair", "--store", str(root)])


def first_line(error: Exception) -> str:
    """What to quote of an error of another library."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def unknown_format(path: "StorePath", found: object) -> StoreError:
    """The error of a file whose format this version does not know."""
    return StoreError(
        f"{path} has the format {found!r}, which this version of serfuse does not know: a later one wrote it. Use that "
        "version; nothing was changed."
    )
