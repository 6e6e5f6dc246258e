"""Processes of this machine that extract together: each claims clips of the same store, and one reports on all."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

from .. import child_process, machine
from ..encoders.base import Encoder, LoadRequest
from ..errors import ConfigError, SerfuseError, StoreError
from ..progress import Observer
from .computing import Computing, Prepared, name_of
from .report import ExtractReport, Interrupted
from .tally import Tally

_POLL_SECONDS = 0.2
_TOLD_SECONDS = 0.2  # between two messages about progress
_CLOSE_SECONDS = 5.0


@dataclass
class _Worker:
    process: Any
    pipe: connection.Connection
    reports: list[ExtractReport] = field(default_factory=list)
    ended: bool = False
    death: str = ""


class Workers:
    """Several processes on one extraction.

    Args:
        prepared: what is extracted.
        number: of processes, over the machine's GPUs where the encoders are not kept to the CPU.
        observer: hears of the progress of all together.
    """

    def __init__(self, prepared: Prepared, number: int, observer: Observer) -> None:
        self._prepared, self._number, self._observer = prepared, number, observer
        self._workers: list[_Worker] = []
        self._failure: StoreError | None = None

    def each(self, asked: Mapping[Any, LoadRequest | None]) -> Iterator[ExtractReport]:
        """Run encoders, as `Computing.compute` does.

        Raises:
            StoreError: a full disk or a damaged store.
            ConfigError: an encoder that is loaded in this process.
            Interrupted: Ctrl-C; what was finished is stored.
        """
        if loaded := [encoder.name for encoder in asked if isinstance(encoder, Encoder)]:
            raise ConfigError(
                f"Several processes load their encoders themselves, but {', '.join(loaded)} is loaded in this one. "
                "Give it by name, or use one process (jobs=1)."
            )
        tally = Tally(self._observer, [name_of(name) for name in asked])
        try:
            for number in range(self._number):
                self._start(number, asked)
            self._wait(tally)
        except KeyboardInterrupt:
            tally.end_interrupted()
            self._stop()
            reports = [report for name in asked for report in self._merged(name_of(name))]
            begun = [report for report in reports if report.key is not None and (report.done or report.failed)]
            raise Interrupted(*(begun or reports[:1])) from None
        finally:
            self._close()
            tally.end()
        if self._failure is not None:
            raise self._failure
        for name in asked:
            for report in self._merged(name_of(name)):
                yield self._complete(report)

    def _start(self, number: int, asked: Mapping[str, LoadRequest | None]) -> None:
        context = multiprocessing.get_context("spawn")  # torch does not survive a fork
        gpus = machine.gpus()
        spread = all((request.device if request else "auto") in ("auto", "cuda") for request in asked.values())
        gpu = gpus[number % len(gpus)] if gpus and spread else None
        threads = max(1, _processors() // self._number)
        ours, theirs = context.Pipe()
        process = context.Process(
            target=serve,
            args=(theirs, self._prepared, dict(asked), number == 0),
            name=f"serfuse-extract-{number}",
            daemon=True,
        )
        with child_process.variables(child_process.environment(threads, gpu)):
            process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours))

    def _wait(self, tally: Tally) -> None:
        """Until all have ended."""
        while self._failure is None and (open_ := [one for one in self._workers if not one.ended]):
            for pipe in connection.wait([one.pipe for one in open_], _POLL_SECONDS):
                one = next(one for one in open_ if one.pipe is pipe)
                self._hear(one, tally)
            if tally.begun:
                tally.wait()
        if self._failure is not None:
            self._stop()

    def _hear(self, one: _Worker, tally: Tally | None) -> None:
        """Take what a process says."""
        try:
            kind, *content = one.pipe.recv()
        except (EOFError, OSError):
            one.process.join(_CLOSE_SECONDS)
            one.ended, one.death = True, child_process.death(one.process.exitcode)
            return
        if kind == "begin" and tally is not None and not tally.begun:
            tally.expect(*content)
            tally.begin()
        elif kind == "step" and tally is not None:
            tally.step(*content)
        elif kind == "spare" and tally is not None:
            tally.spare(*content)
        elif kind == "say" and tally is not None:
            self._observer.say(*content)
        elif kind == "report":
            one.reports += content
        elif kind == "failure":
            self._failure = self._failure or content[0]
        elif kind == "end":
            one.ended = True

    def _stop(self) -> None:
        """Ask all to store what is finished, and wait for that."""
        for one in self._workers:
            with suppress(OSError):
                one.pipe.send("stop")
        while open_ := [one for one in self._workers if not one.ended]:
            for pipe in connection.wait([one.pipe for one in open_]):
                self._hear(next(one for one in open_ if one.pipe is pipe), None)

    def _close(self) -> None:
        for one in self._workers:
            with suppress(OSError):
                one.pipe.close()
            one.process.join(_CLOSE_SECONDS)
            if one.process.is_alive():
                one.process.kill()
                one.process.join()

    def _merged(self, name: str) -> list[ExtractReport]:
        """What all processes did of an encoder, for each of its keys."""
        found = [report for one in self._workers for report in one.reports if report.encoder == name]
        having = [report for report in found if report.key is not None]
        if not having:
            deaths = "; ".join(one.death for one in self._workers if one.death)
            error = next((report.error for report in found if report.error), deaths or "no process has begun with it")
            return [ExtractReport(name, error=error)]
        keys = dict.fromkeys(report.key for report in having)
        return [self._merged_of(name, [report for report in having if report.key == key]) for key in keys]

    @staticmethod
    def _merged_of(name: str, having: list[ExtractReport]) -> ExtractReport:
        failed = {clip: reason for report in having for clip, reason in report.failed}
        return ExtractReport(
            name,
            having[0].key,
            done=sum(report.done for report in having),
            failed=list(failed.items()),
            skip_bad=having[0].skip_bad,
            audio_seconds=sum(report.audio_seconds for report in having),
            seconds=max(report.seconds for report in having),
            error=next((report.error for report in having if report.error), ""),
        )

    def _complete(self, report: ExtractReport) -> ExtractReport:
        """The report after a look at what is in the store, which is what counts when a process has ended early."""
        if report.key is None:
            return report
        lacking = {clip.id: self._prepared.facts[clip.id].audio for clip in self._prepared.corpus.clips}
        for clip, audio in self._prepared.store.arrivals(self._prepared.corpus.name, report.key).new():
            if audio is not None and lacking.get(clip) == audio:
                del lacking[clip]
        reasons = dict(report.failed)
        report.failed = [(clip, reasons[clip]) for clip in lacking if clip in reasons]
        report.reused = max(0, len(self._prepared.corpus.clips) - len(lacking) - report.done)
        unsettled = len(lacking) - len(report.failed)
        if not unsettled:
            report.error = ""  # of a process whose work the others have done
        elif not report.error:
            deaths = "; ".join(one.death for one in self._workers if one.death) or "the processes ended early"
            report.error = f"{unsettled} clips were not computed: {deaths}. Run the same command again."
        return report


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Told(Observer):
    """Passes sentences on to the process that started this one."""

    def __init__(self, pipe: connection.Connection, talks: bool) -> None:
        self._pipe, self._talks = pipe, talks

    def say(self, sentence: str) -> None:
        if self._talks:
            self._pipe.send(("say", sentence))


class _TallyElsewhere(Tally):
    """Passes counts on to the process that started this one, and ends the work when that says so."""

    def __init__(self, pipe: connection.Connection, names: list[str], talks: bool) -> None:
        super().__init__(Observer(), names)
        self._pipe, self._talks = pipe, talks
        self._untold = (0, 0.0)
        self._last = 0.0

    def begin(self) -> None:
        if not self.begun:
            self._pipe.send(("begin", self.total, self.work))
        super().begin()

    def spare(self, rows: int, seconds: float) -> None:
        if self._talks:
            self._pipe.send(("spare", rows, seconds))

    def step(self, rows: int, seconds: float) -> None:
        self._untold = (self._untold[0] + rows, self._untold[1] + seconds)
        if time.monotonic() - self._last >= _TOLD_SECONDS:
            self._tell()

    def elsewhere(self, rows: int, seconds: float) -> None:
        """The one that has done it tells of it."""

    def end(self) -> None:
        self._tell()

    def _tell(self) -> None:
        self._last = time.monotonic()
        if self._untold[0]:
            self._pipe.send(("step", *self._untold))
            self._untold = (0, 0.0)
        if self._pipe.poll():  # only one thing is ever said to a process
            raise KeyboardInterrupt


def serve(
    pipe: connection.Connection, prepared: Prepared, asked: Mapping[str, LoadRequest | None], talks: bool
) -> None:
    """A process' life: compute its share, and report.

    Args:
        pipe: to the process that started it.
        prepared: what is extracted.
        asked: encoders by name, and what to ask of each.
        talks: says what it is doing; of several that load the same weights, one does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    child_process.end_with_parent()
    child_process.redirect(None)
    computing = Computing(prepared, _Told(pipe, talks))
    tally = _TallyElsewhere(pipe, [name_of(name) for name in asked], talks)
    try:
        for report in computing.compute(asked, tally):
            pipe.send(("report", report))
        with suppress(KeyboardInterrupt):
            tally.end()
        computing.heard.store()
    except Interrupted as interrupted:
        for report in interrupted.reports:
            pipe.send(("report", report))
        computing.heard.store()
    except KeyboardInterrupt:
        pass  # before the first clip
    except StoreError as error:
        pipe.send(("failure", error))
    except SerfuseError as error:
        pipe.send(("failure", StoreError(str(error))))
    pipe.send(("end",))
