"""The table of a sweep: measured figures with their intervals beside the printed ones, in the paper's layout."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from .. import metrics, models
from ..errors import RunError
from ..progress import Observer
from ..published import results
from ..runs import compare, sentences
from ..runs.run import Run
from .grid import Column, Experiment, Grid, Row
from .ledger import Ledger
from .plan import Plan, Planned

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Head:
    """One column of figures.

    Attributes:
        corpus: heading of the corpus.
        model: heading of the model, "" where models are blocks.
        metric: heading of the figure.
        key: `(corpus, model, metric)` in serfuse's names, `model` "" where models are blocks.
    """

    corpus: str
    model: str
    metric: str
    key: tuple[str, str, str]


@dataclass(frozen=True)
class Figure:
    """One figure of the table, in per cent where its metric is a share.

    Attributes:
        measured: mean over all folds of all seeds; `None` while a fold is missing.
        low: lower end of the interval, `None` where there is none.
        high: upper end.
        printed: the paper's, `None` where it has none.
        best: whether this row is distinguishably better than every other row of its block.
        decimals: of the ends of the interval.
    """

    measured: float | None = None
    low: float | None = None
    high: float | None = None
    printed: float | None = None
    best: bool = False
    decimals: int = 1


@dataclass(frozen=True)
class Line:
    """One row: its name and a figure for each column; `random_weights` are its encoders that were never trained."""

    label: str
    figures: tuple[Figure, ...]
    random_weights: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """Rows that belong together."""

    title: str | None
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """A whole table, ready to be drawn.

    Attributes:
        title: of the sweep file.
        rows_heading: heading of the first column.
        heads: columns of figures.
        blocks: rows.
        notes: sentences that a reader needs.
    """

    title: str
    rows_heading: str
    heads: tuple[Head, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of figures."""
        return sum(len(block.lines) for block in self.blocks), len(self.heads)

    @property
    def compares(self) -> bool:
        """Whether there is any printed figure to show beside the measured ones."""
        return any(figure.printed is not None for b in self.blocks for line in b.lines for figure in line.figures)

    def figure(self, label: str, corpus: str, metric: str, model: str = "", block: str | None = None) -> Figure:
        """One figure by the names of its row and column.

        Raises:
            KeyError: there is none.
        """
        place = [head.key for head in self.heads].index((corpus, model, metric))
        for part in self.blocks:
            for line in part.lines:
                if line.label == label and block in (None, part.title):
                    return line.figures[place]
        raise KeyError(label)


def make(plan: Plan, ledger: Ledger, observer: Observer | None = None) -> Table:
    """The table as far as it is finished.

    Args:
        plan: what is in the table.
        ledger: where the results lie.
        observer: hears of each column that is done, each block's apart.

    Raises:
        RunError: a finished run cannot be read.
    """
    grid = plan.grid
    heads = tuple(_head(grid, column, metric) for column in grid.columns for metric in grid.spec.metrics)
    found = {(row, column): _Cell(plan, ledger, grid.cell(row, column)) for row in grid.rows for column in grid.columns}
    blocks = []
    observer = observer or Observer()
    observer.begin("comparing rows", len(grid.blocks) * len(grid.columns), "column")
    for number, title in enumerate(grid.blocks):
        rows = [row for row in grid.rows if row.block == number]
        columns = []
        for column in grid.columns:
            columns += _column(grid, rows, column, [found[row, column] for row in rows])
            observer.advance()
        lines = tuple(
            Line(row.label, tuple(column[i] for column in columns), _random(found[row, c] for c in grid.columns))
            for i, row in enumerate(rows)
        )
        if lines:
            blocks.append(Block(title, lines))
    observer.end()
    return Table(grid.spec.title, grid.spec.rows_heading, heads, tuple(blocks), tuple(_notes(plan, found)))


def _head(grid: Grid, column: Column, metric: str) -> Head:
    spec = grid.spec
    model = "" if column.model is None else spec.models[column.model].heading or column.model
    return Head(
        spec.corpora[column.corpus],
        model,
        metrics.METRICS.get(metric).heading,
        (column.corpus, column.model or "", metric),
    )


class _Cell:
    """A cell's finished cross-validations, one for each seed."""

    def __init__(self, plan: Plan, ledger: Ledger, experiments: Sequence[Experiment]) -> None:
        self.planned = [plan.of(experiment) for experiment in experiments]
        self.complete = bool(self.planned) and all(ledger.finished(planned) for planned in self.planned)
        self._runs: list[Run] = [ledger.run(planned) for planned in self.planned] if self.complete else []
        self._predictions: pd.DataFrame | None = None
        self.metrics: dict[str, Any] = {}
        if self.complete and len(self.planned) == 1:
            self.metrics = self._runs[0].metrics
        elif self.complete:
            classes, kind = self.planned[0].dataset.classes, self.planned[0].dataset.speaker_kind
            self.metrics = metrics.summarize(self.predictions, classes, speaker_kind=kind, confidence=CONFIDENCE)
            self.metrics["audit"] = self._runs[0].metrics["audit"]
        further = [name for name in plan.grid.spec.metrics if self.metrics and name not in self.metrics["mean"]]
        if further:  # of other packages: a run holds them only where its own settings name them
            classes, kind = self.planned[0].dataset.classes, self.planned[0].dataset.speaker_kind
            found = metrics.summarize(
                self.predictions, classes, speaker_kind=kind, confidence=CONFIDENCE, further=further
            )
            for part in ("mean", "std", "pooled", "intervals"):
                added = {name: found[part][name] for name in further}
                self.metrics = {**self.metrics, part: {**self.metrics[part], **added}}

    @property
    def predictions(self) -> pd.DataFrame:
        """Of all seeds; every seed counts as further repeats."""
        if self._predictions is None:
            tables, before = [], 0
            for run in self._runs:
                table = run.predictions.assign(repeat=run.predictions["repeat"] + before)
                before = int(table["repeat"].max()) + 1
                tables.append(table)
            self._predictions = pd.concat(tables, ignore_index=True)
        return self._predictions


def _column(grid: Grid, rows: Sequence[Row], column: Column, cells: Sequence[_Cell]) -> list[list[Figure]]:
    """The figures of one block under one corpus and model: a list for each metric."""
    printed = [_printed(grid, row, column) for row in rows]
    found = []
    for metric in grid.spec.metrics:
        shown = metrics.METRICS.get(metric)
        decimals = 1 if shown.unit == "percent" else 3
        figures = [
            Figure(printed=None if row is None else getattr(row, metric, None))
            if not cell.complete
            else Figure(
                shown.scaled(cell.metrics["mean"][metric]),
                shown.scaled(cell.metrics["intervals"][metric]["low"]),
                shown.scaled(cell.metrics["intervals"][metric]["high"]),
                None if row is None else getattr(row, metric, None),
                decimals=decimals,
            )
            for row, cell in zip(printed, cells, strict=True)
        ]
        best = _best(cells, metric) if rows and rows[0].block in grid.whole else None
        if best is not None:
            figures[best] = replace(figures[best], best=True)
        found.append(figures)
    return found


def _printed(grid: Grid, row: Row, column: Column) -> results.Published | None:
    """The paper's own figures of a cell."""
    where = grid.spec.published
    if where is None:
        return None
    names = models.get(grid.spec.model_name(row.model or column.model)).published_as
    for result in results.results():
        if (
            (result.paper, result.table, result.corpus) == (where.paper, where.table, column.corpus)
            and (result.paper, result.model) in names
            and tuple(filter(None, (result.encoder_a, result.encoder_b))) == row.encoders
        ):
            return result
    return None


def _best(cells: Sequence[_Cell], metric: str) -> int | None:
    """The row that is distinguishably better than each of the others, if there is one.

    Distinguishable means `serfuse.runs.compare`'s bootstrap over speakers, Holm-corrected for the number of other
    rows. With a row missing there is no best one.
    """
    if len(cells) < 2 or not all(cell.complete for cell in cells):
        return None
    sign = 1 if metrics.METRICS.get(metric).higher_is_better else -1
    values = [cell.metrics["pooled"][metric] for cell in cells]
    if None in values:
        return None
    order = sorted(range(len(cells)), key=lambda i: -sign * values[i])
    first, *others = order
    kind = cells[first].planned[0].dataset.speaker_kind
    found = []
    for other in others:
        try:
            tables = [cells[first].predictions, cells[other].predictions]
            pair = compare.compare(tables, metric=metric, confidence=CONFIDENCE, speaker_kind=kind).pairs[0]
        except RunError:  # other clips: an encoder could not use some
            return None
        if pair.p is None or pair.p >= 1 - CONFIDENCE or sign * pair.difference <= 0:
            return None  # mostly the second best already is not distinguishable, and the rest need not be looked at
        found.append(pair.p)
    from statsmodels.stats.multitest import multipletests

    return first if (multipletests(found, method="holm")[1] < 1 - CONFIDENCE).all() else None


def _notes(plan: Plan, cells: dict[tuple[Row, Column], _Cell]) -> list[str]:
    spec = plan.grid.spec
    complete = [cell for cell in cells.values() if cell.complete]
    missing = len(cells) - len(complete)
    notes = []
    folds = sorted({len(cell.metrics["folds"]) for cell in complete})
    if folds:
        mean = " or ".join(str(number) for number in folds)
        level = f"{100 * CONFIDENCE:g} %"
        notes.append(f"Measured: mean of {mean} folds in per cent{_plain(spec.metrics)}, with the {level} interval.")
    if spec.published:
        source = results.sources()[spec.published.paper]
        notes.append(
            f"Printed: Table {spec.published.table} of {source.short}, whose folds and seeds are not published; see "
            "docs/sweeps.md on what can be compared."
        )
    for corpus, heading in spec.corpora.items():
        of = [cell for (_, column), cell in cells.items() if column.corpus == corpus and cell.complete]
        if of:
            audit = of[0].metrics["audit"].get("sentences") or [""]
            notes.append(f"{heading}: {of[0].metrics['interval']['note']} {audit[0]}".strip())
    if complete:
        notes.append(
            "Marked (* or bold): distinguishably above every other row of its block in that column (paired bootstrap, "
            "Holm's correction); no mark where that cannot be said."
            + (
                " Nor in blocks of which rows are left out here."
                if len(plan.grid.whole) < len(plan.grid.blocks)
                else ""
            )
        )
    if missing:
        notes.append(f"Missing: {missing} of {len(cells)} cells are not finished.")
    notes += _warnings([planned for cell in cells.values() for planned in cell.planned])
    return notes


def _plain(names: Sequence[str]) -> str:
    """Which figures are not in per cent."""
    plain = [metric.title for name in names if (metric := metrics.METRICS.get(name)).unit == "plain"]
    return f" ({', '.join(plain)} as {'it is' if len(plain) == 1 else 'they are'})" if plain else ""


def _warnings(planned: Sequence[Planned]) -> list[str]:
    datasets = [one.dataset for one in planned if one.dataset is not None]
    found = []
    random = _random_encoders(planned)
    if random:
        found.append(f"WARNING: {sentences.random_weights(random)}")
    synthetic = sorted({dataset.corpus for dataset in datasets if dataset.info.get("synthetic")})
    if synthetic:
        found.append(sentences.synthetic_speech(synthetic))
    return found


def _random(cells: Iterable[_Cell]) -> tuple[str, ...]:
    return _random_encoders([planned for cell in cells for planned in cell.planned])


def _random_encoders(planned: Sequence[Planned]) -> tuple[str, ...]:
    datasets = [one.dataset for one in planned if one.dataset is not None]
    return tuple(sorted({key.encoder for dataset in datasets for key in dataset.keys.values() if key.random}))
