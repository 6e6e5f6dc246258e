"""How far each row of a sweep is, for the live view and `--status`."""

from collections.abc import Iterator
from dataclasses import dataclass

from .driver import Progress


@dataclass(frozen=True)
class RowState:
    """One row of the table while it is worked on.

    Attributes:
        block: title of its block, "" without one.
        label: the row's name.
        done: finished units.
        total: units in all, also those whose embeddings are missing.
        running: whether a unit of it is at work in this process.
        cells: for each column the mean accuracy so far in per cent with the folds behind it, "missing" or "".
    """

    block: str
    label: str
    done: int
    total: int
    running: bool
    cells: tuple[str, ...]


def heads(progress: Progress) -> list[str]:
    """Names of the columns of `rows`."""
    spec = progress.plan.grid.spec
    found = []
    for column in progress.plan.grid.columns:
        model = "" if column.model is None else spec.models[column.model].heading or column.model
        found.append(" ".join(filter(None, (spec.corpora[column.corpus], model))))
    return found


def rows(progress: Progress) -> Iterator[RowState]:
    """Every row, in the table's order."""
    grid = progress.plan.grid
    running = {unit.planned.experiment.row for unit in progress.running.values()}
    for row in grid.rows:
        done = total = 0
        cells = []
        for column in grid.columns:
            planned = [progress.plan.of(experiment) for experiment in grid.cell(row, column)]
            folds = [fold for one in planned for fold in progress.folds(one)]
            expected = sum(one.expected for one in planned)
            failed = sum(unit.name in progress.failed for one in planned for unit in one.units)
            done += len(folds)
            total += expected
            text = ""
            if folds:
                text = f"{100 * sum(fold.accuracy for fold in folds) / len(folds):.1f}"
                if len(folds) < expected:
                    text += f" ({len(folds)}/{expected})"
            if failed:
                text = f"{text} {failed} failed".strip()
            elif not folds and any(one.problem for one in planned):
                text = "missing"
            cells.append(text)
        yield RowState(grid.blocks[row.block] or "", row.label, done, total, row in running, tuple(cells))
