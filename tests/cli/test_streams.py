"""Terminals and pipes of every kind: nothing is lost, nothing is a traceback, and libraries do not write between."""

import json
import os
import subprocess
import sys

import pytest

from serfuse.cli import streams

NATIVE = """
import os, sys
from serfuse.cli import streams
with streams.guarded(sys.argv[1:]):
    os.write(1, b"<native to 1>")
    os.write(2, b"<native to 2>")
    print("result caf\\N{LATIN SMALL LETTER E WITH ACUTE} \\N{GREEK SMALL LETTER KAPPA} c\\udcf3lera")
    print("message", file=sys.stderr)
"""
COMMAND = [sys.executable, "-P", "-m", "serfuse.cli", "list", "splits", "--json"]


def run(command: list[str], redirection: str = "", **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *command],
        capture_output=True,
        timeout=300,
        env={**os.environ, **environment},
    )


def test_what_libraries_write_past_python_never_reaches_the_result() -> None:
    code = [sys.executable, "-P", "-c", NATIVE]
    done = run(code, PYTHONIOENCODING="latin-1")
    assert done.stdout == b"result caf\xe9 \\u03ba c\\udcf3lera\n", "what Latin-1 lacks is an escape"
    assert b"<native to 1><native to 2>" in done.stderr and b"message" in done.stderr
    done = run([*code, "--quiet"], PYTHONIOENCODING="utf-8")
    assert done.stdout.decode() == "result café κ c\\udcf3lera\n"
    assert done.stderr == b"message\n"


@pytest.mark.slow
def test_closed_and_full_streams() -> None:
    full = run(COMMAND, ">/dev/full")
    assert full.returncode == 1 and full.stderr.decode().splitlines() == [
        "Error: Standard output cannot be written: No space left on device. Files and folders that the command made "
        "are whole."
    ]
    closed = run(COMMAND, ">&-")
    assert (closed.returncode, closed.stderr) == (0, b"")
    for redirection in ("2>&-", "2>/dev/full", "0<&-"):
        done = run(COMMAND, redirection)
        assert done.returncode == 0 and {row["name"] for row in json.loads(done.stdout)} >= {"random", "loso"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain [/x] :smile:", "plain [/x] :smile:"), ("a\x1b[31mb\x07", "a\\x1b[31mb\\x07"), ("é\n\t\x9b", "é\n\t\\x9b")],
)
def test_control_characters_never_reach_the_terminal(text: str, shown: str) -> None:
    assert streams.printable(text) == shown
