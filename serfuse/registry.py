"""Name -> object tables that import what they name only when it is asked for, and that other packages add to.

A table holds what serfuse brings. Two ways lead into it from outside:

* `register(kind, name, target)`, for the process that calls it;
* an entry point of an installed package, in the group of the kind (`KINDS`), for every process.

The entry points of what is installed are looked up once, when a table is listed or asked for a name that it does not
hold, and their modules are imported only when their name is asked for. They never take the place of a name of
serfuse's own, and one that is broken is an error only for whoever asks for it.
"""

import importlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, Literal, TypeVar

from .errors import ExtensionError, UnknownNameError

T = TypeVar("T")
Kind = Literal["encoder", "corpus", "model", "metric", "split"]

KINDS: dict[str, str] = {
    "encoder": "serfuse.encoders:ENCODERS",
    "corpus": "serfuse.corpora:CORPORA",
    "model": "serfuse.models:MODELS",
    "metric": "serfuse.metrics:METRICS",
    "split": "serfuse.splits:SPLITS",
}
"""What can be added -> its table. The group of entry points is the module: `serfuse.encoders` ..."""

OWN = "serfuse"
"""Where a name comes from that stands in a table of serfuse's."""

# Names are parts of paths, of columns (uar_mean) and of selectors (hubert@layer=6).
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def register(kind: Kind, name: str, target: Any, *, replace: bool = False) -> None:
    """Add something to serfuse for this process.

    Args:
        kind: one of `KINDS`.
        name: the new name; not one of serfuse's own.
        target: the object, or `"package.module:attribute"`, which is imported when the name is asked for.
        replace: take the place of an earlier registration, as when a notebook's cell is run again.

    Raises:
        ExtensionError: the name is taken or no name, or the object is of another type than the kind needs.
        UnknownNameError: no such kind.
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    module, _, attribute = KINDS[kind].partition(":")
    getattr(importlib.import_module(module), attribute).register(name, target, replace=replace)


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> UnknownNameError:
    """The error for a name that is none of `choices`: it lists them, and the one that was probably meant."""
    import difflib

    choices = list(choices)
    close = difflib.get_close_matches(name, choices, n=1)
    meant = f"Did you mean {close[0]!r}? " if close else ""
    return UnknownNameError(f"Unknown {kind} {name!r}. {meant}Choose one of: {', '.join(choices)}.")


@dataclass(frozen=True)
class _Entry:
    """Where a name leads.

    Attributes:
        target: the object, or `"module:attribute"`.
        origin: `OWN`, "this process", or name and version of the package whose entry point it is.
    """

    target: Any
    origin: str


@cache
def _installed(group: str) -> list[tuple[str, _Entry]]:
    """Names and entries of the entry points of every installed package, nothing imported."""
    from importlib import metadata

    found = []
    for point in metadata.entry_points(group=group):
        package = "an unknown package" if point.dist is None else f"{point.dist.name} {point.dist.version}"
        found.append((point.name, _Entry(point.value.partition("[")[0].strip(), package)))
    return sorted(found, key=lambda item: (item[1].origin, item[0]))


class Registry(Generic[T]):
    """A table of names, each pointing at `"package.module:attribute"`.

    The table is the one visible place where a package lists its members; nothing is imported until `get`, so
    `serfuse list` and `serfuse --help` stay fast.

    Args:
        kind: what the names are ("encoder", "corpus" ...), for messages.
        entries: `(name, "module:attribute")` pairs, in the order `names()` gives them.
        group: of the entry points by which other packages add to it; none by default.
        expects: type that every object has; anything that can be called by default. Where it has a `name`, that must
            be the name in the table.
        reserved: names that can never be given.
        made: gives the object of a name that stands in no table and says itself what it means, or `None`.
        offered: whether a member of serfuse's own table is listed; by default every one. It is found by its name all
            the same.

    Raises:
        ExtensionError: a name stands in the table twice.
    """

    def __init__(
        self,
        kind: str,
        entries: list[tuple[str, str]],
        *,
        group: str | None = None,
        expects: type[T] | None = None,
        reserved: Collection[str] = (),
        made: Callable[[str], T | None] = lambda _name: None,
        offered: Callable[[T], bool] | None = None,
    ) -> None:
        self.kind, self.group, self.expects = kind, group, expects
        self._reserved, self._made, self._offered = frozenset(reserved), made, offered
        self._entries: dict[str, _Entry] = {}
        self._found: dict[str, _Entry] | None = None
        self._problems: list[str] = []
        self._checked: dict[str, Any] = {}
        for name, target in entries:
            if name in self._entries:
                raise ExtensionError(f"The {kind} {name!r} is registered twice.")
            self._entries[name] = _Entry(target, OWN)

    # --- what there is

    def names(self) -> list[str]:
        """All names: serfuse's in table order, then those registered in this process, then those of packages.

        What is not to be listed (`offered`) is left out.
        """
        own = [name for name, entry in self._entries.items() if self._is_offered(entry)]
        return [*own, *(name for name in self._foreign() if name not in self._entries)]

    def own_names(self) -> list[str]:
        """The names that need no look at what is installed: serfuse's, and those registered in this process."""
        return list(self._entries)

    def serfuse_names(self) -> list[str]:
        """The names of serfuse's own table alone."""
        return [name for name, entry in self._entries.items() if entry.origin == OWN]

    def __contains__(self, name: object) -> bool:
        return name in self._entries or self._self_made(name) is not None or name in self._foreign()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def origin(self, name: str) -> str:
        """Where a name comes from: `OWN`, "this process", or name and version of a package.

        Raises:
            UnknownNameError: no such name.
        """
        return OWN if self._self_made(name) is not None else self._entry(name).origin

    def problems(self) -> list[str]:
        """A sentence for each entry point that adds nothing, because its name is taken or cannot be one."""
        self._foreign()
        return list(self._problems)

    def get(self, name: str) -> T:
        """The object behind `name`.

        Raises:
            UnknownNameError: no such name; the message lists the choices.
            ExtensionError: it comes from another package and cannot be imported, or is not what the kind needs.
        """
        if (made := self._self_made(name)) is not None:
            return made
        entry = self._entry(name)
        if entry.origin == OWN:
            return _imported(entry.target)
        if name not in self._checked:
            self._checked[name] = self._foreign_object(name, entry)
        return self._checked[name]

    # --- what is added

    def register(self, name: str, target: T | str, *, replace: bool = False) -> None:
        """Add a name for this process. Arguments and errors as for `serfuse.registry.register`."""
        if why := self._no_name(name):
            raise ExtensionError(f"The {self.kind} {name!r} cannot be registered: {why}.")
        taken = self._entries.get(name) or self._foreign().get(name)
        if taken is not None and not (replace and taken.origin == _PROCESS):
            advice = "replace=True takes its place" if taken.origin == _PROCESS else "Choose another name"
            raise ExtensionError(f"The {self.kind} {name!r} is there already, from {taken.origin}. {advice}.")
        entry = _Entry(target, _PROCESS)
        if not isinstance(target, str):
            self._check(name, target, entry)
        self._entries[name] = entry
        self._checked.pop(name, None)

    def unregister(self, name: str) -> None:
        """Take back a `register`.

        Raises:
            ExtensionError: the name was not registered in this process.
        """
        if name not in self._entries or self._entries[name].origin != _PROCESS:
            raise ExtensionError(f"The {self.kind} {name!r} was not registered in this process.")
        del self._entries[name]
        self._checked.pop(name, None)

    # --- inside

    def _self_made(self, name: object) -> T | None:
        return self._made(name) if isinstance(name, str) and name not in self._entries else None

    def _is_offered(self, entry: _Entry) -> bool:
        return self._offered is None or entry.origin != OWN or self._offered(_imported(entry.target))

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.get(name) or self._foreign().get(name)
        if entry is None:
            raise unknown_name(self.kind, name, self.names())
        return entry

    def _foreign(self) -> dict[str, _Entry]:
        """What entry points add."""
        if self._found is None:
            self._found, self._problems = {}, []
            for name, entry in _installed(self.group) if self.group else []:
                own = self._entries.get(name)
                other = self._found.get(name)
                if why := self._no_name(name):
                    self._problems.append(f"{entry.origin}: its {self.kind} {name!r} is left out: {why}.")
                elif own is not None and own.origin == OWN:
                    self._problems.append(
                        f"{entry.origin}: its {self.kind} {name!r} is left out, since serfuse has one of that name."
                    )
                elif other is None:
                    self._found[name] = entry
                elif other != entry:  # a package may be seen twice on the path
                    both = f"{other.origin} and {entry.origin}"
                    self._problems.append(f"{both} both add the {self.kind} {name!r}: neither can be used.")
                    self._found[name] = _Entry(None, both)
        return self._found

    def _no_name(self, name: str) -> str:
        """Why a text cannot be a name; empty where it can."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return "a name is 1 to 64 letters, digits, '.', '_' and '-', and begins with a letter or digit"
        return f"the name is reserved; so are {', '.join(sorted(self._reserved))}" if name in self._reserved else ""

    def _foreign_object(self, name: str, entry: _Entry) -> Any:
        if entry.target is None:
            raise ExtensionError(
                f"The {self.kind} {name!r} is added by {entry.origin}. Uninstall one of them: serfuse cannot tell "
                "which one is meant."
            )
        found = entry.target
        if isinstance(found, str):
            try:
                found = _imported(found)
            except (Exception, SystemExit) as error:  # whatever another package does while it is imported
                reason = (str(error).strip() or "no reason given").splitlines()[0]
                raise ExtensionError(
                    f"The {self.kind} {name!r} comes from {entry.origin}, and {entry.target} cannot be imported "
                    f"({type(error).__name__}: {reason}). Mend or uninstall that package; everything else works."
                ) from error
        self._check(name, found, entry)
        return found

    def _check(self, name: str, found: Any, entry: _Entry) -> None:
        fits = callable(found) if self.expects is None else isinstance(found, self.expects)
        expected = "a function" if self.expects is None else f"a {self.expects.__module__}.{self.expects.__name__}"
        if not fits:
            given = type(found).__name__
            raise ExtensionError(
                f"The {self.kind} {name!r} from {entry.origin} is of the type {given}; expected {expected}."
            )
        called = getattr(found, "name", name) if self.expects is not None else name
        if called != name:
            raise ExtensionError(
                f"The {self.kind} {name!r} from {entry.origin} calls itself {called!r}; both must be the same."
            )


_PROCESS = "this process"


def _imported(target: str) -> Any:
    module, _, attribute = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = found[part] if isinstance(found, Mapping) else getattr(found, part)
    return found
