"""How far each row of a sweep is, for the live view and `--status`."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .driver import Progress


@dataclass(frozen=True)
class CellState:
    """One cell while it is worked on.

    Attributes:
        mean: accuracy so far in per cent, `None` before a fold is finished.
        done: finished units.
        total: units in all.
        failed: units that failed for good.
        missing: whether embeddings are missing.
        running: whether a unit of it is at work in this process.
    """

    mean: float | None
    done: int
    total: int
    failed: int
    missing: bool
    running: bool

    @property
    def text(self) -> str:
        """For people: "63.4 (4/5)", "51.0", "missing", "2 failed" or nothing yet."""
        found = "" if self.mean is None else f"{self.mean:.1f}"
        if self.mean is not None and self.done < self.total:
            found += f" ({self.done}/{self.total})"
        if self.failed:
            return f"{found} {self.failed} failed".strip()
        return "missing" if self.missing and self.mean is None else found

    @property
    def short(self) -> str:
        """In seven letters: "63.4", with "!" where a unit failed, "failed", "missing" or nothing yet."""
        if self.mean is None:
            return "failed" if self.failed else "missing" if self.missing else ""
        return f"{self.mean:.1f}{'!' if self.failed else ''}"


@dataclass(frozen=True)
class RowState:
    """One row of the table while it is worked on.

    Attributes:
        block: title of its block, "" without one.
        label: the row's name.
        done: finished units.
        total: units in all, also those whose embeddings are missing.
        seconds: mean time of its finished units, `None` before there is one.
        waiting: units that can run and are not finished.
        running: whether a unit of it is at work in this process.
        cells: for each column.
    """

    block: str
    label: str
    done: int
    total: int
    seconds: float | None
    waiting: int
    running: bool
    cells: tuple[CellState, ...]


def heads(progress: Progress) -> list[str]:
    """Names of the columns of `rows`: corpus, and under it the model."""
    spec = progress.plan.grid.spec
    found = []
    for column in progress.plan.grid.columns:
        model = "" if column.model is None else spec.models[column.model].heading or column.model
        found.append("\n".join(filter(None, (spec.corpora[column.corpus], model))))
    return found


def rows(progress: Progress) -> Iterator[RowState]:
    """Every row, in the table's order."""
    grid = progress.plan.grid
    running = {(unit.planned.experiment.row, unit.planned.experiment.column) for unit in progress.running.values()}
    for row in grid.rows:
        done = total = waiting = 0
        seconds: list[float] = []
        cells = []
        for column in grid.columns:
            planned = [progress.plan.of(experiment) for experiment in grid.cell(row, column)]
            folds = [fold for one in planned for fold in progress.folds(one)]
            expected = sum(one.expected for one in planned)
            failed = sum(unit.name in progress.failed for one in planned for unit in one.units)
            done += len(folds)
            total += expected
            waiting += sum(len(one.units) for one in planned) - len(folds) - failed
            seconds += [fold.seconds for fold in folds]
            cells.append(
                CellState(
                    100 * float(np.mean([fold.accuracy for fold in folds])) if folds else None,
                    len(folds),
                    expected,
                    failed,
                    any(one.problem for one in planned),
                    (row, column) in running,
                )
            )
        mean = sum(seconds) / len(seconds) if seconds else None
        title = grid.blocks[row.block] or ""
        at_work = any(cell.running for cell in cells)
        yield RowState(title, row.label, done, total, mean, waiting, at_work, tuple(cells))
