"""The log tells who works, how fast, and what failed for good."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from serfuse import claims
from serfuse.sweep import driver, history
from serfuse.sweep.ledger import Ledger

HOLD = """
import sys, time
from pathlib import Path
from serfuse.claims import Claims
claims = Claims(Path(sys.argv[1]))
print(claims.take(sys.argv[2]), flush=True)
time.sleep(600)
"""


@pytest.fixture
def written(make_plan, folder):
    """The log of a sweep that works on one unit, of one that was killed, and of one on a machine switched off."""
    ledger, plan = Ledger(folder), make_plan()
    ledger.create()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = [unit.name for unit in plan.units]
    here, now = {"host": socket.gethostname(), "pid": os.getpid()}, time.time()
    sweep = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder / "claims"), names[6]], stdout=subprocess.PIPE, text=True
    )
    assert sweep.stdout.readline().strip() == "True"
    here["pid"] = sweep.pid
    lines = [
        {"time": now - 900, "event": "finish", "unit": names[0], **here},
        {"time": now - 100, "event": "start", "unit": names[1], **here, "pid": gone.pid},
        {"time": now - 90, "event": "begin", **here},
        {"time": now - 80, "event": "fail", "unit": names[2], "error": "no memory", "again": True, **here},
        {"time": now - 70, "event": "fail", "unit": names[2], "error": "no memory", "again": False, **here},
        {"time": now - 60, "event": "fail", "unit": names[3], "error": "late", "again": False, **here},
        {"time": now - 50, "event": "finish", "unit": names[3], **here},
        {"time": now - 30, "event": "finish", "unit": names[4], **here},
        {"time": now - 10, "event": "finish", "unit": names[5], **here},
        {"time": now - 5, "event": "start", "unit": names[6], **here},
        {"time": now - 5, "event": "start", "unit": "of another table", **here},
        {"time": now - 5, "event": "start", "unit": names[7], "host": "switched-off", "pid": 1},
        {"time": now - 5, "event": "start", "unit": names[8], **here, "pid": os.getpid()},  # a number used again
        {"note": "written by hand"},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"cut', "utf-8")
    yield plan, ledger, names, sweep
    sweep.kill()
    sweep.stdout.close()
    sweep.wait()


def test_only_the_living_are_at_work_and_only_the_last_minutes_make_the_rate(written) -> None:
    plan, ledger, names, sweep = written
    found = history.read(driver.look(plan, ledger), ledger)
    assert found.at_work == {f"{socket.gethostname()}, process {sweep.pid}": 1}
    assert found.rate == pytest.approx(3 / 80), "from the begin to the latest unit that ended"
    assert found.seconds_left == pytest.approx(15 * 80 / 3)
    assert found.failed == {names[2]: "no memory"}, "what was tried again and finished has not failed"


def test_what_was_killed_is_not_at_work(written) -> None:
    plan, ledger, _, sweep = written
    sweep.kill()
    sweep.wait()
    found = history.read(driver.look(plan, ledger), ledger)
    assert not found.at_work and found.rate is None and found.seconds_left is None


def test_without_locks_the_process_id_is_believed(written, monkeypatch) -> None:
    plan, ledger, _, sweep = written
    monkeypatch.setattr(claims, "held", lambda path, units: None)
    found = history.read(driver.look(plan, ledger), ledger)
    here = socket.gethostname()
    assert found.at_work == {f"{here}, process {sweep.pid}": 1, f"{here}, process {os.getpid()}": 1} | {
        "switched-off, process 1": 1
    }
