"""How far a piece of work has come, told to whoever watches it.

Every function that takes long takes an `observer`. A watcher is a subclass of `Observer` with the methods it cares
for; what it does not override stays silent. The command line's shows a bar; a notebook, a server or a test has its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")


class Observer:
    """Hears of the work, and shows nothing.

    An exception that a method raises ends the work where it stands, as Ctrl-C does: what was finished is kept.
    """

    def begin(self, what: str, total: int, unit: str = "clip") -> None:
        """Some work begins.

        Args:
            what: is being worked on, in few words.
            total: number of items.
            unit: an item, in the singular.
        """

    def advance(self, done: int | None = None, *, note: str | None = None, fraction: float | None = None) -> None:
        """The work that began last has come further.

        Args:
            done: items finished in all; by default one more than before.
            note: what is to be said of it, until the next note.
            fraction: part of the work that is done, 0 to 1, where items differ in size; otherwise `done / total`.
        """

    def end(self) -> None:
        """The work that began last is over, finished or not."""

    def say(self, sentence: str) -> None:
        """Something that the user should know meanwhile."""

    def audit_known(self, audit: Any, folds: Sequence[Any], finished: int) -> None:
        """A cross-validation is about to train.

        Args:
            audit: `serfuse.splits.leakage.Audit`, what stands on both sides of the folds.
            folds: `serfuse.splits.folds.Fold`, all of them.
            finished: how many of them an earlier call had finished.
        """

    def fold_begun(self, fold: Any) -> None:
        """A `serfuse.splits.folds.Fold` is about to be trained; the epochs to come are its."""

    def epoch_done(self, epoch: int, figures: Mapping[str, float]) -> None:
        """An epoch was trained.

        Args:
            epoch: from 1.
            figures: `loss`, `accuracy`, and with a validation part `val_loss`, `val_accuracy`.
        """

    def fold_done(self, result: Any) -> None:
        """A fold is there, trained now or taken up: a `serfuse.experiment.cross_validation.FoldResult`."""

    @contextmanager
    def working(self, what: str, total: int, unit: str = "clip") -> Iterator[None]:
        """`begin` before the block, and `end` behind it, whatever happens in it."""
        self.begin(what, total, unit)
        try:
            yield
        finally:
            self.end()

    def each(self, items: Sequence[Item], what: str, unit: str = "clip") -> Iterator[Item]:
        """The items one by one, each counted once the next is asked for."""
        with self.working(what, len(items), unit):
            for done, item in enumerate(items, start=1):
                yield item
                self.advance(done)


def duration(seconds: float) -> str:
    """Seconds as people say them: "0.4 s", "42 s", "3 min 05 s", "2 h 10 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
