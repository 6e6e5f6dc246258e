"""Name -> object tables that import what they name only when it is asked for."""

import importlib
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from .errors import UnknownNameError

T = TypeVar("T")


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
            choices = ", ".join(self.names())
            raise UnknownNameError(f"Unknown {self.kind} {name!r}. Choose one of: {choices}.")
        module, _, attribute = self._entries[name].partition(":")
        found: Any = getattr(importlib.import_module(module), attribute)
        return found
