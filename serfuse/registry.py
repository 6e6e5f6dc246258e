"""Name -> object tables that import what they name only when it is asked for."""

import difflib
import importlib
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from .errors import UnknownNameError

T = TypeVar("T")


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> UnknownNameError:
    """The error for a name that is none of `choices`: it lists them, and the one that was probably meant."""
    choices = list(choices)
    close = difflib.get_close_matches(name, choices, n=1)
    meant = f"Did you mean {close[0]!r}? " if close else ""
    return UnknownNameError(f"Unknown {kind} {name!r}. {meant}Choose one of: {', '.join(choices)}.")


class Registry(Generic[T]):
    """A table of names, each pointing at `"package.module:attribute"`.

    The table is the one visible place where a package lists its members; nothing is imported until `get`, so
    `serfuse list` and `serfuse --help` stay fast.

    Args:
        kind: what the names are ("encoder", "corpus" ...), for messages.
        entries: `(name, "module:attribute")` pairs, in the order `names()` gives them.

    Raises:
        ValueError: a name stands in the table twice.
    """

    def __init__(self, kind: str, entries: list[tuple[str, str]]) -> None:
        self.kind = kind
        self._entries: dict[str, str] = {}
        for name, target in entries:
            if name in self._entries:
                raise ValueError(f"The {kind} {name!r} is registered twice.")
            self._entries[name] = target

    def names(self) -> list[str]:
        """All names, in table order."""
        return list(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def get(self, name: str) -> T:
        """The object behind `name`.

        Raises:
            UnknownNameError: no such name; the message lists the choices.
        """
        if name not in self._entries:
            raise unknown_name(self.kind, name, self.names())
        module, _, attribute = self._entries[name].partition(":")
        found: Any = getattr(importlib.import_module(module), attribute)
        return found
