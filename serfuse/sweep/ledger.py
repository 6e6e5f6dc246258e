"""The folder of a sweep: one run folder per cross-validation, a log, and the table.

<folder>/runs/<experiment>/.folds/r0f1/   one finished unit, whole or not there (`serfuse.runs.fold_files`)
<folder>/runs/<experiment>/metrics.json   ... with config.yaml, folds.csv, predictions.csv, history.csv: all of
                                          them once every fold is finished, as `serfuse cv` leaves them
<folder>/log.jsonl                        one line for each start, finish and failure of a unit
<folder>/sweep.json                       what later calls must keep: threads per unit
<folder>/claims                           see `serfuse.claims`
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import atomic_io
from ..errors import RunError, SerfuseError
from ..experiment import cross_validation
from ..experiment.cross_validation import FoldResult
from ..runs import fold_files
from ..runs import run_folder as results
from ..runs.execution import FINISHED_FOLDS
from ..runs.run import Run
from ..splits.folds import Fold
from .plan import Planned, Unit

LOG = "log.jsonl"
CLAIMS = "claims"
TABLES = {"markdown": "table.md", "csv": "table.csv", "latex": "table.tex", "html": "table.html"}


class DiskFullError(RunError):
    """Nothing can be written any more; what was written before is whole."""


class ReplacedError(RunError):
    """Another sweep on this folder, with other data, has put its folds in the place of these."""


@dataclass(frozen=True)
class Done:
    """What is known of a finished unit without reading its predictions.

    Attributes:
        accuracy: of the test clips, 0 to 1.
        seconds: of training and prediction.
        peak_bytes: of the process that ran it, 0 when unknown.
    """

    accuracy: float
    seconds: float
    peak_bytes: int


class Ledger:
    """Reads and writes the folder of one sweep.

    Args:
        folder: created on the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        """Make the folder.

        Raises:
            RunError: it cannot be written.
        """
        try:
            atomic_io.make_durable_folder(self.folder / "runs")
        except OSError as error:
            raise RunError(f"Cannot write the folder {self.folder}: {error.strerror}. Choose another --out.") from None

    def run_folder(self, planned: Planned) -> Path:
        """The run folder of a cross-validation."""
        return self.folder / "runs" / planned.experiment.name

    # --- units --------------------------------------------------------------------------------------------------

    def done(self, planned: Planned, fold: Fold) -> Done | None:
        """A finished unit, `None` when it is not finished or was made from other data or settings."""
        folder = self.run_folder(planned) / FINISHED_FOLDS
        try:
            facts = fold_files.read_facts(folder, fold)
            if facts is None or facts["fingerprint"] != planned.fingerprint:
                return None
            return Done(float(facts["accuracy"]), float(facts["seconds"]), int(facts.get("peak_bytes", 0)))
        except KeyError:  # a fold that `serfuse cv` finished in this folder
            result = fold_files.read(folder, fold, planned.fingerprint)
            return None if result is None else Done(_accuracy(result), result.seconds, 0)
        except (RunError, ValueError, TypeError) as error:
            raise RunError(
                f"The finished fold {folder / fold_files.name(fold)} cannot be read ({error}). Delete that folder to "
                "run it anew."
            ) from None

    def write(self, planned: Planned, result: FoldResult, facts: dict[str, Any]) -> Done:
        """Keep a finished unit, durably. The caller holds the unit's claim.

        Raises:
            DiskFullError: nothing was written.
        """
        folder = self.run_folder(planned) / FINISHED_FOLDS
        accuracy = _accuracy(result)
        try:
            fold_files.write(folder, result, planned.fingerprint, {"accuracy": accuracy, **facts})
        except OSError as error:
            raise DiskFullError(_cannot_write(folder, error)) from error
        return Done(accuracy, result.seconds, int(facts.get("peak_bytes", 0)))

    # --- whole cross-validations --------------------------------------------------------------------------------

    def finish(self, planned: Planned) -> Path:
        """Write the run folder of a cross-validation whose folds are all finished. The caller holds its claim.

        Raises:
            DiskFullError: the disk is full; the folds are safe and this is done again next time.
            ReplacedError: a fold is not there any more.
        """
        out = self.run_folder(planned)
        config, dataset, parts = planned.experiment.config, planned.dataset, list(planned.parts)

        def recall(fold: Fold) -> FoldResult:
            found = fold_files.read(out / FINISHED_FOLDS, fold, planned.fingerprint)
            if found is None:
                raise ReplacedError(
                    f"The finished fold {out / FINISHED_FOLDS / fold_files.name(fold)} has been replaced by one of "
                    "other data or other versions of the libraries. Does another sweep with another --store work on "
                    "this folder? Give each its own --out."
                )
            return found

        result = cross_validation.cross_validate(config, dataset, parts, recall=recall)
        try:
            results.remove_leftovers(out)
            (out / "fingerprint").unlink(missing_ok=True)  # what is half rewritten is not finished
            threads = [fold.threads for fold in result.folds if fold.threads]
            results.write_start(out, config, dataset, parts, threads, embeddings=_embeddings(result.folds))
            results.write_tables(out, result)
            atomic_io.write_text(out / "fingerprint", planned.fingerprint + "\n")
        except (OSError, SerfuseError) as error:
            raise DiskFullError(_cannot_write(out, error)) from error
        return out

    def finished(self, planned: Planned) -> bool:
        """Whether the run folder is complete, and of this very cross-validation."""
        out = self.run_folder(planned)
        try:
            mark = (out / "fingerprint").read_text("utf-8").strip()
        except OSError:
            return False
        return mark == planned.fingerprint and (out / "metrics.json").is_file()

    def run(self, planned: Planned) -> Run:
        """A finished cross-validation.

        Raises:
            RunError: it is not finished, or cannot be read.
        """
        return Run.read(self.run_folder(planned))

    def changes(self, planned: Planned) -> list[str]:
        """What of the data is no longer as the finished run had it that is in its place; empty where there is none."""
        if planned.dataset is None or self.finished(planned):
            return []
        try:
            return self.run(planned).changes(planned.dataset)
        except RunError:  # nothing there, or half a run: it is made anew
            return []

    # --- the log ------------------------------------------------------------------------------------------------

    def log(self, event: str, unit: Unit | None = None, **facts: Any) -> None:
        """Append one line; a full disk is noticed where results are written, not here."""
        entry = {
            "time": round(time.time(), 3),
            "event": event,
            **({"unit": unit.name} if unit else {}),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            **facts,
        }
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
        with suppress(OSError):
            descriptor = os.open(self.folder / LOG, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    line = b"\n" + line  # a full disk or a crash cut the line before
                os.write(descriptor, line)  # one call, so that lines of two sweeps do not mix
            finally:
                os.close(descriptor)

    def events(self) -> Iterator[dict[str, Any]]:
        """The log; a line that a crash cut short is left out."""
        try:
            text = (self.folder / LOG).read_text("utf-8", errors="replace")
        except OSError:
            return
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                yield entry

    # --- what later calls must keep -----------------------------------------------------------------------------

    def threads(self, chosen: int) -> int:
        """Threads of each unit: those of the first call that ran any, since a result's last digits depend on it."""
        path = self.folder / "sweep.json"
        if not any(entry.get("event") == "start" for entry in self.events()):
            self.set_threads(chosen)
            return chosen
        try:
            return max(1, int(json.loads(path.read_text("utf-8"))["threads"]))
        except FileNotFoundError:
            self.set_threads(chosen)
            return chosen
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"The file {path} cannot be read ({error}). Delete it.") from None

    def set_threads(self, number: int) -> None:
        """Remember the threads of each unit."""
        atomic_io.write_text(self.folder / "sweep.json", json.dumps({"threads": number}) + "\n")


def _embeddings(folds: list[FoldResult]) -> dict[str, str]:
    """What the folds were trained on, as far as all of them say the same."""
    found = [fold.embeddings for fold in folds]
    return found[0] if all(one == found[0] for one in found) else {}


def _accuracy(result: FoldResult) -> float:
    return float((result.predictions["label"] == result.predictions["predicted"]).mean())


def _cannot_write(where: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__  # NumPy gives no number
    return (
        f"Cannot write {where}: {reason}. Every unit that was finished before is safe; the same command goes on from "
        "there when there is space."
    )
