"""Rate and time left; a bar on a terminal, plain lines elsewhere, nothing when quiet."""

import io
import signal
from contextlib import suppress
from types import SimpleNamespace

import pandas as pd
import pytest

from serfuse.cli import progress as module
from serfuse.cli.progress import Meter, Progress, duration


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_rate_and_time_left_follow_the_work_not_the_count() -> None:
    clock = Clock()
    meter = Meter(10, clock)
    assert meter.rate is None and meter.left is None
    meter.move(1, fraction=0.0)
    clock.now += 2
    meter.move(5, fraction=0.2)  # four short clips, a fifth of the audio
    assert meter.rate == pytest.approx(2.0) and meter.left == pytest.approx(8.0)
    assert meter.done == 5 and meter.fraction == 0.2 and meter.seconds == pytest.approx(2.0)


def test_the_first_item_and_what_was_set_up_for_it_promise_nothing() -> None:
    clock = Clock()
    meter = Meter(500, clock)
    clock.now += 60  # a model is loaded, and others are waited for
    meter.move(0)
    clock.now += 1
    meter.move(100)  # ninety-nine were there already
    assert meter.rate is None and meter.left is None and meter.fraction == 0.2
    clock.now += 2
    meter.move(104)
    assert meter.rate == pytest.approx(2.0) and meter.left == pytest.approx(198.0)


def test_the_rate_forgets_the_slow_beginning() -> None:
    clock = Clock()
    meter = Meter(1000, clock)
    clock.now += 100  # a model is loaded
    for done in range(1, 201):
        clock.now += 1
        meter.move(done)
    assert meter.rate == pytest.approx(1.0)
    assert meter.left == pytest.approx(800.0)


def test_nothing_to_do_is_finished() -> None:
    meter = Meter(0)
    meter.move(0)
    assert meter.fraction == 1.0 and meter.rate is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations_read_like_speech(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_elsewhere_there_are_plain_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock)
    monkeypatch.setattr(Meter.__init__, "__defaults__", (clock, None))
    out = io.StringIO()
    with Progress(stream=out) as progress:
        progress.begin("hubert", 20)
        for done in range(1, 21):
            clock.now += 1
            progress.advance(done, note="s1" if done == 5 else None)
    lines = out.getvalue().splitlines()
    assert lines[0] == "hubert: 5 of 20 clips, 1 clips/s, 15 s left, s1"
    assert len(lines) == 5 and lines[-1] == "hubert: 20 of 20 clips in 20 s (1 clips/s)"
    assert "\x1b" not in out.getvalue() and "\r" not in out.getvalue()


def test_quiet_says_nothing() -> None:
    for stream in (io.StringIO(), Terminal()):
        with Progress(quiet=True, stream=stream) as progress:
            progress.begin("x", 2)
            progress.advance(1)
            progress.say("hello")
            progress.advance(2)
        assert stream.getvalue() == ""


def test_on_a_terminal_there_is_a_bar_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    out = Terminal()
    clock = Clock()
    monkeypatch.setattr(Meter.__init__, "__defaults__", (clock, None))
    with Progress(stream=out) as progress:
        progress.begin("[hubert]", 4, "file")
        clock.now += 1
        progress.advance()
        progress.say("[one] odd file")
        clock.now += 1
        progress.advance(3, note="nearly")
    text = out.getvalue()
    assert "\x1b[" in text and "━" in text
    assert "[hubert]" in text and "[one] odd file" in text, "square brackets are text, not markup"
    assert "3 of 4 files, 2 files/s, 0.5 s left, nearly" in text


def test_work_in_two_pieces_counts_each() -> None:
    out = io.StringIO()
    with Progress(stream=out) as progress:
        for count in (3, 1):
            assert list(progress.each(range(count), "epochs", "epoch")) == list(range(count))
    first, second = out.getvalue().splitlines()
    assert first.startswith("epochs: 3 of 3 epochs in") and second.startswith("epochs: 1 of 1 epoch in")


def test_an_error_still_shows_how_far_it_came() -> None:
    out = io.StringIO()
    with pytest.raises(ValueError), Progress(stream=out) as progress:
        progress.begin("x", 7)
        progress.advance(1)
        raise ValueError
    assert out.getvalue().startswith("x: 1 of 7 clips in")


def test_work_that_takes_no_time_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(Meter.__init__, "__defaults__", (clock, None))
    for seconds, shown in ((1, ""), (3, "planning: 5 of 5 cells in 3.0 s (1.67 cells/s)\n")):
        stream = io.StringIO()
        with Progress(stream=stream, patience=2) as progress, progress.working("planning", 5, "cell"):
            clock.now += seconds
            progress.advance(5)
        assert stream.getvalue() == shown


def test_folds_and_epochs_are_told_with_their_figures() -> None:
    predictions = pd.DataFrame({"label": ["anger", "fear"], "predicted": ["anger", "anger"]})
    fold, out = SimpleNamespace(index=1), io.StringIO()
    with Progress(stream=out, every=0.0) as progress:
        progress.audit_known(SimpleNamespace(sentences=lambda: ["No speaker is on both sides."]), [fold] * 5, 1)
        with progress.working("epochs", 4, "epoch"):
            progress.fold_begun(fold)
            progress.epoch_done(1, {"loss": 0.5})
            progress.advance()
            progress.fold_done(SimpleNamespace(fold=fold, predictions=predictions))
            progress.advance(4)
    text = out.getvalue()
    assert text.startswith("No speaker is on both sides.\nTaking up an interrupted run: 1 of 5 folds are done.\n")
    assert "1 of 4 epochs" in text and "fold 1, loss 0.500" in text and "fold 1: 50.0%" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", ["begin", "advance", "end"])
def test_a_signal_whose_exception_was_dropped_ends_the_work_at_its_next_step(number: int, step: str) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), Progress(quiet=True) as progress:
        progress.begin("x", 2)
        with Progress(quiet=True), suppress(KeyboardInterrupt):  # one guard, also where work is inside other work
            signal.raise_signal(number)
        getattr(progress, step)(*(("y", 1) if step == "begin" else ()))
        pytest.fail("the signal was lost")
    assert signal.getsignal(number) == before
    with Progress(quiet=True) as progress:
        progress.begin("a new piece of work knows nothing of it", 1)
