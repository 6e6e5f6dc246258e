"""What a sweep's log says of the present: who works, how fast, what failed."""

import os
import socket
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .. import claims
from .driver import Progress
from .ledger import CLAIMS, Ledger

_LATELY_SECONDS = 300.0
_FIELDS = {"time", "event", "host", "pid"}


@dataclass(frozen=True)
class History:
    """The present, as far as the log tells.

    Attributes:
        at_work: the process of each sweep that is alive, in words -> its units at work.
        rate: units finished per second during the last minutes, at most since the latest sweep began; `None` where
            nothing is at work or none ended.
        seconds_left: at that rate; `None` where there is none.
        failed: units that failed for good -> the error.
    """

    at_work: Mapping[str, int]
    rate: float | None
    seconds_left: float | None
    failed: Mapping[str, str]


def read(progress: Progress, ledger: Ledger) -> History:
    """From the log of `ledger`, for the units of `progress`; lines that are no event of a sweep are left out."""
    names = {unit.name for unit in progress.plan.units}
    working: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    finishes: list[float] = []
    begun = 0.0
    for entry in ledger.events():
        if not entry.keys() >= _FIELDS:
            continue
        unit = entry.get("unit")
        if entry["event"] in ("begin", "end", "stop"):
            if entry["event"] == "begin":
                begun = float(entry["time"])
            working = {name: e for name, e in working.items() if (e["host"], e["pid"]) != (entry["host"], entry["pid"])}
        elif unit not in names:
            continue
        elif entry["event"] == "start":
            working[unit] = entry
        elif entry["event"] == "finish":
            working.pop(unit, None)
            failed.pop(unit, None)
            finishes.append(float(entry["time"]))
        elif entry["event"] == "fail":
            working.pop(unit, None)
            if not entry.get("again"):
                failed[unit] = str(entry.get("error", ""))
    working = {name: entry for name, entry in working.items() if name not in progress.done}
    at_work = Counter(f"{working[name]['host']}, process {working[name]['pid']}" for name in _alive(working, ledger))
    since = max(begun, time.time() - _LATELY_SECONDS)
    lately = [moment for moment in finishes if moment > since]
    rate = len(lately) / (max(lately) - since) if at_work and lately else None
    left = None if rate is None else (progress.total - len(progress.done)) / rate
    failed = {name: error for name, error in failed.items() if name not in progress.done}
    return History(at_work, rate, left, failed)


def _alive(working: Mapping[str, Mapping[str, Any]], ledger: Ledger) -> list[str]:
    """Units that are at work indeed: the sweep that began them has not been killed, nor its machine switched off."""
    held = claims.held(ledger.folder / CLAIMS, working)
    if held is not None:
        return [name for name in working if name in held]
    here = socket.gethostname()  # no locks: another machine is believed, and a process id of this one
    return [name for name, entry in working.items() if entry["host"] != here or _runs(int(entry["pid"]))]


def _runs(pid: int) -> bool:
    with suppress(ProcessLookupError):
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        return True
    return False
