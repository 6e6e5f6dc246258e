"""How far a long command has come: a bar on a terminal, now and then a plain line elsewhere, nothing when quiet."""

import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

_LINE_SECONDS = 5.0
_WINDOW_SECONDS = 30.0


class Meter:
    """Rate and time left, from the recent past.

    Args:
        total: number of items.
        clock: seconds, for tests.
        begun: when the work began, by `clock`; by default now.
    """

    def __init__(self, total: int, clock: Any = time.monotonic, begun: float | None = None) -> None:
        self.total = total
        self.done = 0
        self._clock = clock
        self._begun = clock() if begun is None else begun
        self._points: deque[tuple[float, int, float]] = deque([(self._begun, 0, 0.0)])

    def move(self, done: int, fraction: float | None = None) -> None:
        """Note that `done` items are finished, and which fraction of the work that is (by default `done / total`)."""
        self.done = done
        now = self._clock()
        part = fraction if fraction is not None else done / self.total if self.total else 1.0
        self._points.append((now, done, part))
        while len(self._points) > 2 and now - self._points[1][0] > _WINDOW_SECONDS:
            self._points.popleft()

    @property
    def seconds(self) -> float:
        return self._clock() - self._begun

    @property
    def fraction(self) -> float:
        return self._points[-1][2]

    @property
    def rate(self) -> float | None:
        """Items per second lately, `None` before there is a measurement."""
        (t0, n0, _), (t1, n1, _) = self._points[0], self._points[-1]
        return (n1 - n0) / (t1 - t0) if t1 > t0 and n1 > n0 else None

    @property
    def left(self) -> float | None:
        """Seconds left at the recent pace, `None` before there is a measurement."""
        (t0, _, f0), (t1, _, f1) = self._points[0], self._points[-1]
        return (1.0 - f1) * (t1 - t0) / (f1 - f0) if t1 > t0 and f1 > f0 else None


class Progress:
    """Progress of one piece of work, on standard error so that standard output holds results only.

    Args:
        label: what is being worked on.
        unit: what is counted, in the singular ("clip", "epoch").
        quiet: show nothing at all (`--quiet`, `--json`).
        stream: where to, by default standard error.

    Use it as a context manager: `start` with the number of items, then `update`; or hand `callback` to the library,
    which calls it with the number done and the total.
    """

    def __init__(self, label: str, *, unit: str = "clip", quiet: bool = False, stream: TextIO | None = None) -> None:
        self.label = label
        self.unit = unit
        self.quiet = quiet
        self._stream = stream
        self._meter: Meter | None = None
        self._note = ""
        self._bars: Any = None
        self._task: Any = None
        self._last_line = 0.0
        self._since = 0.0

    def __enter__(self) -> "Progress":
        self._since = time.monotonic()
        self._stream = self._stream or sys.stderr
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        elif self._meter is not None and not self.quiet:
            print(self._summary(), file=self._stream, flush=True)
        self._bars = self._meter = None

    def start(self, total: int, since: float | None = None) -> None:
        """Begin to count; the clock of the rate starts here, or started at `since`."""
        self._meter = Meter(total, begun=since)
        self._last_line = time.monotonic()
        if self.quiet or not self._terminal():
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        if self._bars is None:
            self._bars = Bars(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[state]}", markup=False),
                console=Console(file=self._stream, highlight=False),
            )
            self._bars.start()
            self._task = self._bars.add_task(self.label, total=1.0, state=self._state())

    def update(
        self,
        *,
        completed: int | None = None,
        advance: int = 0,
        note: str | None = None,
        fraction: float | None = None,
    ) -> None:
        """Say how far the work is.

        Args:
            completed: items done in all; or
            advance: items done since the last call.
            note: shown behind the figures until the next note.
            fraction: part of the work done, 0 to 1, where items differ in size; the time left follows it.
        """
        if self._meter is None:
            return
        self._meter.move(self._meter.done + advance if completed is None else completed, fraction)
        if note is not None:
            self._note = note
        if self._bars is not None:
            self._bars.update(self._task, completed=self._meter.fraction, state=self._state())
        elif not self.quiet and time.monotonic() - self._last_line >= _LINE_SECONDS:
            self._last_line = time.monotonic()
            print(f"{self.label}: {self._state()}", file=self._stream, flush=True)

    def callback(self, done: int, total: int, note: str | None = None, fraction: float | None = None) -> None:
        """What library functions take as `progress`: items done, items in all."""
        if self._meter is None or self._meter.total != total:
            # The first call comes when something is done already: its time counts, as its items do.
            self.start(total, self._since)
        self.update(completed=done, note=note, fraction=fraction)
        self._since = time.monotonic()

    def patient(self, seconds: float = 2.0) -> Callable[[int, int], None]:
        """`callback` for work that mostly takes no time: it shows nothing before so many seconds have passed."""
        begun = time.monotonic()

        def callback(done: int, total: int) -> None:
            if time.monotonic() - begun >= seconds:
                self.callback(done, total)

        return callback

    def say(self, text: str) -> None:
        """Print a line without disturbing the bar."""
        if self.quiet:
            return
        if self._bars is not None:
            self._bars.console.print(text, markup=False, soft_wrap=True)
        else:
            print(text, file=self._stream or sys.stderr, flush=True)

    def _terminal(self) -> bool:
        return bool(getattr(self._stream, "isatty", lambda: False)())

    def _state(self) -> str:
        meter = self._meter
        text = f"{meter.done} of {meter.total} {self._plural(meter.total)}"
        if meter.rate is not None:
            text += f", {_number(meter.rate)} {self._plural(2)}/s"
        if meter.left is not None and meter.done < meter.total:
            text += f", {duration(meter.left)} left"
        return f"{text}, {self._note}" if self._note else text

    def _summary(self) -> str:
        meter = self._meter
        text = f"{self.label}: {meter.done} of {meter.total} {self._plural(meter.total)} in {duration(meter.seconds)}"
        if meter.done and meter.seconds > 0:
            text += f" ({_number(meter.done / meter.seconds)} {self._plural(2)}/s)"
        return text

    def _plural(self, count: int) -> str:
        return self.unit if count == 1 else f"{self.unit}s"


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


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
