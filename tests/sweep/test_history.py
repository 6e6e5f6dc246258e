"""The log tells who works, how fast, and what failed for good."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from serfuse.sweep import driver, history
from serfuse.sweep.ledger import Ledger


@pytest.fixture
def written(make_plan, folder):
    """A sweep of this process (alive) and one of a process that was killed, told by their log alone."""
    ledger, plan = Ledger(folder), make_plan()
    ledger.create()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = [unit.name for unit in plan.units]
    here, now = {"host": socket.gethostname(), "pid": os.getpid()}, time.time()
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
        {"note": "written by hand"},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"cut', "utf-8")
    return plan, ledger, names


def test_only_the_living_are_at_work_and_only_the_last_minutes_make_the_rate(written) -> None:
    plan, ledger, names = written
    found = history.read(driver.look(plan, ledger), ledger)
    assert found.at_work == {f"{socket.gethostname()}, process {os.getpid()}": 1}
    assert found.rate == pytest.approx(2 / 40)
    assert found.failed == {names[2]: "no memory"}, "what was tried again and finished has not failed"


def test_after_the_end_nothing_is_at_work(written) -> None:
    plan, ledger, _ = written
    ledger.log("end", done=6, failed=1)
    found = history.read(driver.look(plan, ledger), ledger)
    assert not found.at_work and found.rate is None
