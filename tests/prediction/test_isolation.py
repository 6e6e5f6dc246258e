"""A network in a process of its own: the same answers, and an end with a sentence where it takes too much."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from serfuse.cli import main
from serfuse.errors import ModelFileError
from serfuse.prediction import bundle
from serfuse.prediction.isolation import Limits, NetworkProcess
from serfuse.prediction.predictor import Predictor

KEPT = Path(__file__).resolve().parent.parent / "compatibility" / "version_0_1"
MODEL = KEPT / "model.serfuse"


@pytest.mark.slow
def test_the_answers_are_the_same_and_the_process_ends_with_the_predictor() -> None:
    recordings = [KEPT / "clip.wav"]
    with Predictor.load(MODEL) as predictor:
        expected = [answer.probabilities for answer in predictor.predict(recordings)]
        rng, sizes = np.random.default_rng(0), {name: part.size for name, part in predictor.card.inputs.items()}
        drawn = {name: rng.normal(size=(300, size)).astype("float32") for name, size in sizes.items()}
        many = predictor._model.probabilities(drawn)
    done = CliRunner().invoke(main, ["predict", str(MODEL), str(KEPT / "clip.wav"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["predictions"][0]["probabilities"] == expected[0], "the command isolates by itself"
    with Predictor.load(MODEL, isolated=True) as predictor:
        process = psutil.Process(predictor._model._process.pid)
        assert [answer.probabilities for answer in predictor.predict(recordings)] == expected, "to the last digit"
        assert predictor.predict([]) == []
        np.testing.assert_array_equal(predictor._model.probabilities(drawn), many)
        with pytest.raises(ModelFileError, match=r"takes vectors of the shapes .*; received .*\(2, 3\)"):
            predictor._model.probabilities({"a": np.zeros((2, 3), "float32")})
    assert not process.is_running()


def _instead(code: str) -> Limits:
    """Limits of a process that runs other code, as one does that somebody else's network has taken over."""
    return Limits(memory=64 << 20, command=(sys.executable, "-P", "-c", code))


def test_what_grows_is_killed() -> None:
    """Once it has its libraries, of which it says so with an empty object."""
    grows = "import os, time; os.write(1, b'\\2\\0\\0\\0{}'); a = bytearray(os.urandom(300 << 20)); time.sleep(60)"
    with (
        bundle.opened(MODEL) as checked,
        NetworkProcess(_instead(grows)) as process,
        pytest.raises(ModelFileError, match=r"model\.serfuse was stopped: it took more than 64 MB of memory"),
    ):
        process.load(checked)
    assert process._process.poll() == -signal.SIGKILL


def test_what_takes_too_long_is_killed() -> None:
    with (
        bundle.opened(MODEL) as checked,
        NetworkProcess(Limits(seconds=0.05)) as process,
        pytest.raises(ModelFileError, match=r"was stopped: it took more than 0\.05 s of processor time.*do not use it"),
    ):
        process.load(checked)
    assert process._process.poll() == -signal.SIGKILL


def test_a_process_that_crashes_is_an_error_in_words() -> None:
    with bundle.opened(MODEL) as checked, NetworkProcess() as process:
        os.kill(process._process.pid, signal.SIGSEGV)
        with pytest.raises(ModelFileError, match=r"was stopped: its process was ended by SIGSEGV"):
            process.load(checked)


def test_an_answer_that_is_none_is_refused() -> None:
    """What the process says may be anything."""
    for answer, says in (
        (b"\xff\xff\xff\xff", "an answer of an impossible size"),
        (b"\x02\x00\x00\x00{[", "no answer that can be read"),
        (b"\x02\x00", "ended with code 0"),
    ):
        limits = _instead(f"import os; os.write(1, {answer!r})")
        with (
            bundle.opened(MODEL) as checked,
            NetworkProcess(limits) as process,
            pytest.raises(ModelFileError, match=says),
        ):
            process.load(checked)


@pytest.mark.slow
def test_the_process_ends_with_its_parent() -> None:
    """Also in the middle of its work, and when nobody could tell it."""
    code = (
        "import time\nfrom serfuse.prediction.isolation import NetworkProcess\n"
        "print(NetworkProcess()._process.pid, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    limit = time.monotonic() + 60
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < limit
        time.sleep(0.05)
