"""What an engine is: a number of workers that run units, here or elsewhere."""

import os
from itertools import takewhile
from typing import Protocol

from .plan import Unit
from .worker import Outcome


class Engine(Protocol):
    """Runs units on workers that stay alive between units."""

    workers: int
    """Most units that run at once."""

    def submit(self, unit: Unit) -> bool:
        """Start a unit; `False` when no worker, or no memory, is free for it now."""
        ...

    def wait(self, seconds: float) -> list[Outcome]:
        """Units that ended meanwhile; waits up to `seconds` for the first."""
        ...

    def close(self) -> None:
        """End all workers at once, with what they are doing."""
        ...


def gpus() -> list[str]:
    """NVIDIA GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them, found without any library."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None:
        names = [name.strip() for name in shown.split(",")]
        return list(takewhile(lambda name: name not in ("", "-1"), names))  # CUDA shows none behind an invalid one
    try:
        devices = [name.removeprefix("nvidia") for name in os.listdir("/dev") if name.startswith("nvidia")]
    except OSError:
        return []
    return sorted((name for name in devices if name.isdigit()), key=int)
