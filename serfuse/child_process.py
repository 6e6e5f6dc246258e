"""Processes that work for another: they end with it, write nothing on its screen, and share out its threads."""

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import connection


def environment(threads: int, gpu: str | None) -> dict[str, str]:
    """Variables that a process which computes needs before it imports anything.

    Args:
        threads: of each numerical library.
        gpu: what `CUDA_VISIBLE_DEVICES` shows it; `None` leaves that alone.
    """
    number = str(threads)
    found = {
        "OMP_NUM_THREADS": number,
        "OPENBLAS_NUM_THREADS": number,
        "MKL_NUM_THREADS": number,
        "TF_NUM_INTRAOP_THREADS": number,
        "TF_NUM_INTEROP_THREADS": number,
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # several processes may share a GPU
    }
    if gpu is not None:
        found["CUDA_VISIBLE_DEVICES"] = gpu
    return found


def end_with_parent() -> None:
    """End this process when its parent does, even by SIGKILL, so that nothing works on unclaimed units."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()


def redirect(log: str | None) -> None:
    """Send what libraries print to a file (`None`: nowhere): the screen belongs to the parent."""
    try:
        target = os.open(log or os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError:
        target = os.open(os.devnull, os.O_WRONLY)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    faulthandler.enable()


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Variables for the processes started inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def death(code: int | None) -> str:
    """How a process ended that was not meant to, by its exit code."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        why = "; the system kills what takes too much memory" if name == "SIGKILL" else ""
        return f"the worker was ended by {name}{why}"
    return f"the worker ended with code {code}"
