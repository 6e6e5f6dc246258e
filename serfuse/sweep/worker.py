"""What runs one unit, in whichever process: fit, predict, measure time and memory."""

import os
import socket
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import RunError, SerfuseError
from ..experiment import backend, cross_validation, fitting
from ..experiment.config import Config
from ..experiment.cross_validation import FoldResult
from ..experiment.dataset import Dataset
from ..runs import execution
from ..splits.folds import Fold
from . import memory


@dataclass(frozen=True)
class Task:
    """A unit, in values that go from process to process.

    Attributes:
        unit: its name.
        config: the experiment.
        fold: its parts.
        fingerprint: what the planning process says decides the result; a worker that finds another one refuses.
    """

    unit: str
    config: Config
    fold: Fold
    fingerprint: str


@dataclass
class Outcome:
    """What became of a unit.

    Attributes:
        unit: its name.
        result: the finished fold (without its model), `None` when it failed.
        error: why it failed, for people.
        facts: kept with the result: peak memory, where it ran.
    """

    unit: str
    result: FoldResult | None = None
    error: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def run(task: Task, dataset: Dataset, checked: dict[str, str] | None = None) -> Outcome:
    """Run one unit. Never raises but for what ends the process.

    Args:
        task: the unit.
        dataset: with vectors.
        checked: fingerprints that this process found before, by name of the experiment.
    """
    begun = time.perf_counter()
    try:
        if fitting.trained_with(task.config) == "keras":
            backend.set_up_backend()
        ready = time.perf_counter()
        _check(task, dataset, {} if checked is None else checked)
        memory.start_peak()
        result = cross_validation.run_fold(task.config, dataset, task.fold)
        result.model = None
        facts = {
            "peak_bytes": memory.peak(),
            "resident_bytes": memory.resident(os.getpid()),
            "host": socket.gethostname(),
            "worker": os.getpid(),
            "threads": result.threads,
            "start_up_seconds": round(ready - begun, 3),
        }
        return Outcome(task.unit, result, facts=facts)
    except SerfuseError as error:
        return Outcome(task.unit, error=str(error))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({os.path.basename(place.filename)}, line {place.lineno})"
        return Outcome(task.unit, error=text)


def _check(task: Task, dataset: Dataset, checked: dict[str, str]) -> None:
    """Refuse to work with other data, settings or library versions than were planned for.

    Raises:
        RunError: saying what to compare.
    """
    experiment = task.unit.partition("/")[0]
    if experiment not in checked:
        checked[experiment] = execution.fingerprint(task.config, dataset)
    if checked[experiment] != task.fingerprint:
        raise RunError(
            f"Data or library versions of this worker ({socket.gethostname()}) are not those that the sweep was "
            "planned with. Has the store changed meanwhile? Do all machines have the same versions installed? Start "
            "the sweep again."
        )


def shared_environment() -> Mapping[str, str]:
    """What of the calling process's environment decides results and must be the same on other machines."""
    chosen = {name: os.environ[name] for name in ("KERAS_BACKEND",) if name in os.environ}
    return {**chosen, **backend.environment()}
