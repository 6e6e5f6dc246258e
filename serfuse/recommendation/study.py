"""The candidates' runs, and their predictions inside training parts, in a folder where no work is done twice."""

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic_io import make_durable_folder, write_atomic
from ..errors import ConfigError, RunError, SplitError
from ..experiment import fitting
from ..experiment import threads as processors
from ..experiment.cross_validation import plan
from ..experiment.dataset import Dataset
from ..progress import Observer
from ..runs import execution
from ..runs.run import Run
from ..splits.folds import Fold
from . import inner
from .candidates import HEAD, LATE, SINGLE, Candidate


class _OutOfTimeError(Exception):
    """The stated time is over."""


class Study:
    """The candidates of one corpus, as far as a stated time allows.

    Args:
        dataset: with every representation.
        settings: `split`, `folds`, `seed`, as `configure` takes them.
        out: folder for the runs, and for what is predicted inside training parts.
        deadline: by `time.monotonic()`; after it no fusion is begun.

    Attributes:
        blocks: of the folds; one choice is made for each.
        runs: the finished run of each candidate.
        inside: what each candidate says of every pair of blocks.
        seconds: what each took.
        unfinished: those for which the stated time was too short.
        failed: those that could not be trained, with the reason.
    """

    def __init__(self, dataset: Dataset, settings: Mapping[str, Any], out: Path, deadline: float) -> None:
        self.dataset, self.settings, self.out, self.deadline = dataset, settings, out, deadline
        first = Candidate(HEAD, ("a",), ("a",)).config(dataset.corpus, settings)
        self.blocks = inner.blocks(plan(first, dataset))
        self.between = {
            pair: inner.between(self.blocks[pair[0]], self.blocks[pair[1]], number)
            for number, pair in enumerate(inner.pairs(len(self.blocks)))
        }
        self.runs: dict[Candidate, Run] = {}
        self.inside: dict[Candidate, dict[tuple[int, int], inner.Predictions]] = {}
        self.seconds: dict[Candidate, float] = {}
        self.unfinished: list[Candidate] = []
        self.failed: list[tuple[Candidate, str]] = []

    def run(self, listed: Sequence[Candidate], observer: Observer) -> None:
        """Run every candidate that the time allows."""
        make_durable_folder(self.out)
        slowest: dict[str, float] = {}
        with observer.working("candidates", len(listed), "candidate"):
            for done, candidate in enumerate(listed):
                begun = time.monotonic()
                observer.advance(done, note=candidate.name)
                needed = candidate.family == SINGLE
                expected = slowest.get(candidate.model, 0.0)
                try:
                    self._one(
                        candidate,
                        float("inf") if needed else self.deadline,
                        expected,
                        lambda part, done=done: observer.advance(done, fraction=(done + part) / len(listed)),
                    )
                except _OutOfTimeError:
                    self.unfinished.append(candidate)
                    continue
                except (ConfigError, RunError, SplitError) as error:
                    if needed:
                        raise
                    self.failed.append((candidate, str(error)))
                    continue
                self.seconds[candidate] = time.monotonic() - begun
                slowest[candidate.model] = max(slowest.get(candidate.model, 0.0), self.seconds[candidate])
            observer.advance(len(self.runs))

    def _one(self, candidate: Candidate, deadline: float, expected: float, advance: Callable[[float], object]) -> None:
        """Cross-validate one candidate, and predict every pair of blocks without them.

        Args:
            deadline: after which nothing is computed.
            expected: seconds that it will take; it is not begun where they are not there.
            advance: hears which part of it is done.
        """
        config = candidate.config(self.dataset.corpus, self.settings)
        dataset = self.dataset.select(candidate.sides)
        threads = [processors.threads(fitting.library(config))]
        mark = execution.fingerprint(config, dataset, threads) + json.dumps(dataset.embedding_digests, sort_keys=True)
        name = f"{candidate.folder}-{hashlib.sha256(mark.encode()).hexdigest()[:12]}"
        inside, computed = {}, False
        for number, (pair, fold) in enumerate(self.between.items()):
            file = self.out / "inner" / name / f"{pair[0]}-{pair[1]}.npz"
            found = _kept(file, fold, len(dataset.classes))
            if found is None:
                if time.monotonic() + (0.0 if computed else expected) > deadline:
                    raise _OutOfTimeError
                computed = True
                found = self._predicted(
                    candidate,
                    pair,
                    lambda fold=fold: inner.predict(config, dataset, fold),
                )
                _keep(file, found)
            inside[pair] = found
            advance((number + 1) / (len(self.between) + len(self.blocks)))
        folder = self.out / "runs" / name
        if not (folder / "metrics.json").exists():
            if time.monotonic() > deadline:
                raise _OutOfTimeError
            execution.execute(config, dataset, folder, pictures=False)
        self.runs[candidate], self.inside[candidate] = Run.read(folder), inside

    def _predicted(
        self, candidate: Candidate, pair: tuple[int, int], train: Callable[[], inner.Predictions]
    ) -> inner.Predictions:
        """What a candidate says of a pair of blocks: late fusion from what its members said, others by training."""
        if candidate.model != LATE:
            return train()
        from ..models.late import geometric_mean

        alone = {item.sides[0]: item for item in self.inside if item.family == SINGLE}
        members = [self.inside[alone[side]][pair] for side in candidate.sides]
        fused = geometric_mean([member.probabilities for member in members])
        return inner.Predictions(members[0].clips, fused.argmax(axis=1), fused)


def _keep(file: Path, found: inner.Predictions) -> None:
    make_durable_folder(file.parent)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        clips=np.asarray(found.clips, dtype=str),
        predicted=np.asarray(found.predicted, dtype="int64"),
        probabilities=np.asarray(found.probabilities, dtype="float64"),
    )
    write_atomic(file, lambda to: to.write(buffer.getvalue()))


def _kept(file: Path, fold: Fold, classes: int) -> inner.Predictions | None:
    """What an earlier call predicted, if it is there and whole."""
    try:
        with np.load(file, allow_pickle=False) as held:
            found = inner.Predictions(held["clips"].astype(object), held["predicted"], held["probabilities"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    rows = len(fold.test)
    if (found.clips.shape, found.predicted.shape, found.probabilities.shape) != ((rows,), (rows,), (rows, classes)):
        return None
    if found.predicted.dtype != np.int64 or found.probabilities.dtype != np.float64 or (found.clips != fold.test).any():
        return None
    known = ((found.predicted >= 0) & (found.predicted < classes)).all()
    return found if known and np.allclose(found.probabilities.sum(axis=1), 1) else None
