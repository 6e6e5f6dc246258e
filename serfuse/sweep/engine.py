"""What an engine is: a number of workers that run units, here or elsewhere."""

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
