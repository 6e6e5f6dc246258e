"""Claims hold between processes, and end with the process that holds them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serfuse.claims import Claims, held
from serfuse.errors import WriteError

HOLD = """
import sys, time
from pathlib import Path
from serfuse.claims import Claims
claims = Claims(Path(sys.argv[1]))
print(claims.take("a"), claims.take("b"), flush=True)
claims.release("b")
print("released", flush=True)
time.sleep(60)
"""


def test_a_claim_ends_with_its_process_even_by_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "claims"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline().split() == ["True", "True"]
        assert holder.stdout.readline().strip() == "released"
        assert held(path, ["a", "b", "c"]) == {"a"}
        claims = Claims(path)
        assert not claims.take("a")
        assert claims.take("b") and claims.take("b") and claims.take("c")
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert claims.take("a")
        claims.close()
    finally:
        holder.kill()
        holder.stdout.close()
        holder.wait()


def test_a_folder_that_cannot_be_written_is_an_error_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="Cannot write"):
        Claims(tmp_path / "absent" / "claims")
