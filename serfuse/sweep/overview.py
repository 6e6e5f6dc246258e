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
        seconds: mean time of its finished units, `None` before there is one.
        waiting: units that can run and are not finished.
        running: whether a unit of it is at work in this process.
        cells: for each column the mean accuracy so far in per cent with the folds behind it, "missing" or "".
    """

    block: str
    label: str
    done: int
    total: int
    seconds: float | None
    waiting: int
    running: bool
    cells: tuple[str, ...]


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
    running = {unit.planned.experiment.row for unit in progress.running.values()}
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
        mean = sum(seconds) / len(seconds) if seconds else None
        title = grid.blocks[row.block] or ""
        yield RowState(title, row.label, done, total, mean, waiting, row in running, tuple(cells))
