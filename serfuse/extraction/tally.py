"""One line of progress for a whole call, however many encoders and processes work in it."""

from collections.abc import Sequence
from contextlib import suppress

from ..progress import Observer

_NAMED = 3  # encoders that the line names


class Tally:
    """Counts rows, and tells an observer.

    Args:
        observer: who is told.
        names: of all encoders of the call.

    Attributes:
        begun: whether the line is there.
        total: rows that are expected.
        work: seconds of audio that are expected.
    """

    def __init__(self, observer: Observer, names: Sequence[str]) -> None:
        self._observer = observer
        several = len(names) > 1
        self._label = ", ".join(names) if len(names) <= _NAMED else f"{len(names)} encoders"
        self._unit = "embedding" if several else "clip"
        self.begun = False
        self.total, self.work = 0, 0.0
        self._done, self._finished = 0, 0.0

    def expect(self, rows: int, seconds: float) -> None:
        """There is so much to do, or for encoders that are not loaded yet at most so much; called before `begin`."""
        self.total, self.work = self.total + rows, self.work + seconds

    def spare(self, rows: int, seconds: float) -> None:
        """So much of what was expected is there already."""
        self._done, self.work = self._done + rows, self.work - seconds

    def begin(self) -> None:
        """The line appears, unless it is there already."""
        if not self.begun:
            self.begun = True
            self._observer.begin(self._label, self.total, self._unit)

    def step(self, rows: int, seconds: float) -> None:
        """So much was done."""
        self._done, self._finished = self._done + rows, self._finished + seconds
        fraction = min(1.0, self._finished / self.work) if self.work else 1.0
        self._observer.advance(self._done, fraction=fraction)

    def elsewhere(self, rows: int, seconds: float) -> None:
        """So much was done by another process."""
        self.step(rows, seconds)

    def wait(self) -> None:
        """Nothing was done for a while; whoever watches may want to end it."""
        self.step(0, 0.0)

    def end(self) -> None:
        """The line goes."""
        if self.begun:
            self.begun = False
            self._observer.end()

    def end_interrupted(self) -> None:
        """The line goes because of Ctrl-C, of which a watcher may tell once more."""
        with suppress(KeyboardInterrupt):
            self.end()
