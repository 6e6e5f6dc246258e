"""How far a long command has come: a bar on a terminal, now and then a plain line elsewhere, nothing when quiet."""

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, TextIO

from serfuse.progress import Observer, duration

from .signals import terminated_like_interrupted

_WINDOW_SECONDS = 30.0


class Meter:
    """Rate and time left, from the recent past.

    They are measured from the first item on: what is set up before it (a model that is loaded, a graph that is traced,
    results that were there already) says nothing about those to come.

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
        now = self._clock()
        part = fraction if fraction is not None else done / self.total if self.total else 1.0
        if not self.done:
            self._points.clear()
        self.done = done
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


class Progress(Observer):
    """Progress on standard error, so that standard output holds results only, and the guard against lost signals.

    Args:
        quiet: show nothing at all (`--quiet`, `--json`).
        stream: where to, by default standard error.
        patience: seconds before anything is shown, for work that mostly takes no time.
        every: seconds between two lines, where there is no terminal.

    Use it as a context manager, and hand it to the library as `observer`. While it is open, a signal ends the work
    at its next step at the latest (see `terminated_like_interrupted`).
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        patience: float = 0.0,
        every: float = 5.0,
    ) -> None:
        self.label, self.unit = "", "clip"
        self.quiet = quiet
        self._patience = patience
        self._every = every
        self._stream = stream
        self._meter: Meter | None = None
        self._note = ""
        self._fold = ""
        self._bars: Any = None
        self._task: Any = None
        self._last_line = 0.0
        self._guard = ExitStack()
        self._check: Callable[[], None] = lambda: None

    def __enter__(self) -> "Progress":
        self._check = self._guard.enter_context(terminated_like_interrupted())
        self._stream = self._stream or sys.stderr
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._guard:
            self._close()

    def begin(self, what: str, total: int, unit: str = "clip") -> None:
        self._check()
        self.label, self.unit = what, unit
        self._meter = Meter(total)
        self._last_line = time.monotonic()
        self._draw()

    def advance(self, done: int | None = None, *, note: str | None = None, fraction: float | None = None) -> None:
        if self._meter is not None:
            self._meter.move(self._meter.done + 1 if done is None else done, fraction)
            self._note = self._note if note is None else note
            self._draw()
        self._check()

    def end(self) -> None:
        self._close()
        self._check()

    def _close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        elif self._meter is not None and self._shown():
            print(self._summary(), file=self._stream, flush=True)
        self._bars = self._meter = None
        self._note = self._fold = ""

    def say(self, sentence: str) -> None:
        """Print a line without disturbing the bar."""
        if self.quiet:
            return
        if self._bars is not None:
            self._bars.console.print(sentence, markup=False, soft_wrap=True)
        else:
            print(sentence, file=self._stream or sys.stderr, flush=True)

    def audit_known(self, audit: Any, folds: Sequence[Any], finished: int) -> None:
        for sentence in audit.sentences():
            self.say(sentence)
        if finished:
            self.say(f"Taking up an interrupted run: {finished} of {len(folds)} folds are done.")

    def fold_begun(self, fold: Any) -> None:
        self._fold = f"fold {fold.index}, "

    def epoch_done(self, epoch: int, figures: Mapping[str, float]) -> None:
        self._note = f"{self._fold}loss {figures.get('loss', float('nan')):.3f}"

    def fold_done(self, result: Any) -> None:
        accuracy = float((result.predictions["label"] == result.predictions["predicted"]).mean())
        self._note = f"fold {result.fold.index}: {accuracy:.1%}"

    def _shown(self) -> bool:
        return not self.quiet and self._meter.seconds >= self._patience

    def _draw(self) -> None:
        if not self._shown():
            return
        if self._terminal():
            self._draw_bar()
        elif time.monotonic() - self._last_line >= self._every:
            self._last_line = time.monotonic()
            print(f"{self.label}: {self._state()}", file=self._stream, flush=True)

    def _draw_bar(self) -> None:
        if self._bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bars

            self._bars = Bars(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[state]}", markup=False),
                console=Console(file=self._stream, highlight=False),
            )
            self._bars.start()
            self._task = self._bars.add_task(self.label, total=1.0, state=self._state())
        self._bars.update(self._task, completed=self._meter.fraction, state=self._state())

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


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
