"""Runs what a plan still needs, and writes every finished unit at once."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..claims import Claims
from ..experiment.cross_validation import FoldResult
from ..metrics import METRICS
from ..runs import fold_files
from .engine import Engine
from .ledger import CLAIMS, Done, Ledger, ReplacedError
from .plan import Plan, Planned, Unit
from .worker import Outcome

_POLL_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 2.0


@dataclass
class Progress:
    """How far a sweep is.

    Attributes:
        plan: what it has to do.
        done: finished units by name.
        running: units at work here, by name.
        failed: units that failed as often as allowed, by name, with the reason.
        elsewhere: names of units that another sweep on the same folder works on.
    """

    plan: Plan
    done: dict[str, Done] = field(default_factory=dict)
    running: dict[str, Unit] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)

    def folds(self, planned: Planned) -> list[Done]:
        """The finished units of one cross-validation."""
        return [self.done[unit.name] for unit in planned.units if unit.name in self.done]

    def complete(self, planned: Planned) -> bool:
        """Whether every fold of it is finished."""
        return bool(planned.parts) and all(unit.name in self.done for unit in planned.units)

    @property
    def total(self) -> int:
        """Units that can run."""
        return len(self.plan.units)


def look(plan: Plan, ledger: Ledger) -> Progress:
    """What of a plan is finished.

    Raises:
        RunError: a finished unit cannot be read.
    """
    progress = Progress(plan)
    for unit in plan.units:
        found = ledger.done(unit.planned, unit.fold)
        if found is not None:
            progress.done[unit.name] = found
    return progress


def run(
    plan: Plan,
    ledger: Ledger,
    engine: Engine,
    *,
    retries: int = 1,
    report: Callable[[Progress, str], None] | None = None,
) -> Progress:
    """Run all units that are not finished.

    A finished unit is never run again. A unit that fails is tried again at the end, `retries` times, then reported;
    the others go on. When this is interrupted, or killed, only the units at work are lost.

    Args:
        plan: what to do.
        ledger: where to keep it.
        engine: who runs units; closed at the end.
        retries: how often a failed unit is tried again.
        report: called with the state and a line of news ("" when only time has passed).

    Raises:
        DiskFullError: a result cannot be written any more.
        RunError: the folder cannot be read or written.
    """
    ledger.create()
    claims = Claims(ledger.folder / CLAIMS)
    driver = _Driver(plan, ledger, engine, claims, retries, report or (lambda progress, news: None))
    how = "stop"
    try:
        driver.work()
        how = "end"
        return driver.progress
    finally:
        engine.close()
        ledger.log(how, done=len(driver.progress.done), failed=len(driver.progress.failed))
        claims.close()


class _Driver:
    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        engine: Engine,
        claims: Claims,
        retries: int,
        report: Callable[[Progress, str], None],
    ) -> None:
        self.progress = look(plan, ledger)
        self.ledger, self.engine, self.claims = ledger, engine, claims
        self.retries, self.report = retries, report
        self.units = {unit.name: unit for unit in plan.units}
        self.pending = deque(unit for unit in plan.units if unit.name not in self.progress.done)
        # Run folders that are due: at first those that an earlier call had no time for.
        self.complete = deque(p for p in plan.planned if self.progress.complete(p) and not ledger.finished(p))
        self.attempts: dict[str, int] = {}
        self.looked = 0.0
        ledger.log("begin", units=len(self.units), done=len(self.progress.done), workers=engine.workers)

    def work(self) -> None:
        """Until nothing is left to do."""
        self.report(self.progress, "")
        for planned in self.progress.plan.planned:
            if changes := "; ".join(self.ledger.changes(planned)):
                self.report(self.progress, f"{planned.experiment.label} is run anew, its data have changed: {changes}")
        while self.pending or self.progress.running or self.progress.elsewhere or self.complete:
            self.start_some()
            if self.progress.running:
                ended = [(self.progress.running.pop(one.unit), one) for one in self.engine.wait(_POLL_SECONDS)]
                self.start_some()  # so that workers are busy while results are written
                for unit, outcome in ended:
                    self.settle(unit, outcome)
            elif not self.complete:
                time.sleep(_POLL_SECONDS / 5)
            self.look_elsewhere()
            if self.complete:
                self.finish(self.complete.popleft())
            self.report(self.progress, "")

    def start_some(self) -> None:
        """Hand out units as long as workers take them."""
        while self.pending and len(self.progress.running) < self.engine.workers:
            unit = self.pending[0]
            if not self.claims.take(unit.name):
                self.pending.popleft()
                self.progress.elsewhere.add(unit.name)
                continue
            found = self.ledger.done(unit.planned, unit.fold)
            if found is not None:  # another sweep was faster
                self.pending.popleft()
                self.claims.release(unit.name)
                self.note_done(unit, found)
                continue
            if not self.engine.submit(unit):
                self.claims.release(unit.name)
                return
            self.pending.popleft()
            self.progress.running[unit.name] = unit
            self.ledger.log("start", unit, attempt=self.attempts.get(unit.name, 0) + 1)

    def settle(self, unit: Unit, outcome: Outcome) -> None:
        """Write a unit that ended, or put it back."""
        if outcome.result is not None:
            done = self.ledger.write(unit.planned, _whole(outcome.result, unit), outcome.facts)
            self.ledger.log("finish", unit, seconds=round(done.seconds, 3), **outcome.facts)
            self.claims.release(unit.name)
            self.note_done(unit, done)
            return
        tried = self.attempts[unit.name] = self.attempts.get(unit.name, 0) + 1
        again = tried <= self.retries
        self.ledger.log("fail", unit, attempt=tried, error=outcome.error, again=again)
        self.claims.release(unit.name)
        if again:
            self.pending.append(unit)
            self.report(self.progress, f"{unit.label} failed and is tried again: {outcome.error}")
        else:
            self.progress.failed[unit.name] = outcome.error
            self.report(self.progress, f"{unit.label} failed {tried} times: {outcome.error}")

    def note_done(self, unit: Unit, done: Done) -> None:
        """Count a finished unit; after the last one of a cross-validation, its run folder is due."""
        self.progress.done[unit.name] = done
        if self.progress.complete(unit.planned):
            self.complete.append(unit.planned)

    def finish(self, planned: Planned) -> None:
        """Write the run folder of a cross-validation, unless another sweep is just doing that."""
        claim = f"{planned.experiment.name}/run"
        if not self.claims.take(claim):
            self.complete.append(planned)
            time.sleep(_POLL_SECONDS / 5)
            return
        try:
            if not self.ledger.finished(planned):
                self.ledger.finish(planned)
        except ReplacedError as error:
            self.lose(planned, str(error))
            return
        finally:
            self.claims.release(claim)
        folds = self.progress.folds(planned)
        mean = METRICS.get("accuracy").shown(float(np.mean([fold.accuracy for fold in folds])))
        self.report(self.progress, f"{planned.experiment.label}: accuracy {mean}, {len(folds)} folds")

    def lose(self, planned: Planned, reason: str) -> None:
        """Count units as failed that were finished and are there no more."""
        for unit in planned.units:
            if self.ledger.done(planned, unit.fold) is None:
                self.progress.done.pop(unit.name, None)
                self.progress.failed[unit.name] = reason
                self.ledger.log("fail", unit, error=reason, again=False)
        self.report(self.progress, f"{planned.experiment.label} is lost: {reason}")

    def look_elsewhere(self) -> None:
        """Take up what other sweeps finished, or let go of."""
        if not self.progress.elsewhere or time.monotonic() - self.looked < _LOOK_AGAIN_SECONDS:
            return
        self.looked = time.monotonic()
        for name in sorted(self.progress.elsewhere):
            unit = self.units[name]
            found = self.ledger.done(unit.planned, unit.fold)
            if found is not None:
                self.progress.elsewhere.discard(name)
                self.note_done(unit, found)
            elif not self.pending and self.claims.take(name):
                self.claims.release(name)
                self.progress.elsewhere.discard(name)
                self.pending.append(unit)


def _whole(result: FoldResult, unit: Unit) -> FoldResult:
    """The result, after making sure that it is of this very fold."""
    if fold_files.name(result.fold) != fold_files.name(unit.fold):
        raise AssertionError(f"{unit.name} came back as {fold_files.name(result.fold)}")
    return result


def summary(progress: Progress) -> dict[str, Any]:
    """Counts, for `--json`."""
    return {
        "units": progress.total,
        "done": len(progress.done),
        "waiting_for_embeddings": sum(planned.expected for planned in progress.plan.planned if planned.problem),
        "running": sorted(progress.running),
        "elsewhere": sorted(progress.elsewhere),
        "failed": dict(sorted(progress.failed.items())),
        "missing": [
            {"corpus": item.corpus, "inputs": list(item.inputs), "reason": item.reason, "command": item.command}
            for item in progress.plan.missing
        ],
    }
