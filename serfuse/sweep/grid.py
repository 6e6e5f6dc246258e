"""From a sweep file to the rows, columns and cells of its table, and to one configuration per cell and seed."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .. import models
from ..errors import ConfigError
from ..experiment import config as configs
from ..experiment.config import Config
from ..experiment.dataset import parse_input
from .spec import SweepFile

AXES = ("corpus", "model", "encoder", *models.INPUTS, "row", "block", "seed")
"""What `--only` can narrow. `encoder` fits a row in which it stands anywhere."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._]+")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        block: number of its block.
        label: as the paper prints it, "W2 + SS".
        inputs: encoders with their selectors, one or more.
        names: how the sweep file calls them ("W2", "SS").
        model: key of the model, where models are blocks; else `None`.
    """

    block: int
    label: str
    inputs: tuple[str, ...]
    names: tuple[str, ...]
    model: str | None

    @property
    def encoders(self) -> tuple[str, ...]:
        """Encoders without selectors."""
        return tuple(parse_input(text)[0] for text in self.inputs)


@dataclass(frozen=True)
class Column:
    """One corpus, or one corpus with one model where models are columns."""

    corpus: str
    model: str | None


@dataclass(frozen=True)
class Experiment:
    """One cross-validation: a cell of the table under one seed."""

    row: Row
    column: Column
    model_key: str
    config: Config

    @property
    def seed(self) -> int:
        return self.config.seed

    @cached_property
    def name(self) -> str:
        """Name of its folder: readable, and other for every other configuration."""
        values = json.dumps(self.config.model_dump(mode="json"), sort_keys=True)
        words = (self.column.corpus, self.model_key, *self.row.encoders, f"seed{self.seed}")
        readable = "-".join(_UNSAFE.sub("-", word).strip("-.") for word in words)[:120]
        return f"{readable}-{hashlib.sha256(values.encode()).hexdigest()[:8]}"

    @property
    def label(self) -> str:
        """For people: "W2 + SS, emodb, hyfuse", with the seed where it is not 0."""
        seed = f", seed {self.seed}" if self.seed else ""
        return f"{self.row.label}, {self.column.corpus}, {self.model_key}{seed}"


@dataclass(frozen=True)
class Grid:
    """A whole table.

    Attributes:
        spec: the sweep file.
        blocks: titles, `None` where a block has none.
        rows: in the table's order.
        columns: in the table's order.
        experiments: those asked for, by row, column and seed.
        whole: numbers of the blocks of which every row is asked for.
    """

    spec: SweepFile
    blocks: tuple[str | None, ...]
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    experiments: tuple[Experiment, ...]
    whole: frozenset[int]

    @cached_property
    def _cells(self) -> dict[tuple[Row, Column], list[Experiment]]:
        found: dict[tuple[Row, Column], list[Experiment]] = {}
        for experiment in self.experiments:
            found.setdefault((experiment.row, experiment.column), []).append(experiment)
        return found

    def cell(self, row: Row, column: Column) -> list[Experiment]:
        """The cross-validations behind a cell, one for each seed; empty where the cell was not asked for."""
        return self._cells.get((row, column), [])


def expand(spec: SweepFile, only: Sequence[str] = (), assignments: Sequence[str] = ()) -> Grid:
    """All cells of a sweep.

    Args:
        spec: the sweep file.
        only: `axis=value` for each restriction; several of one axis allow any of them, several axes narrow further.
        assignments: `key=value` that change the configuration of every cell, as `serfuse cv --set`.

    Raises:
        ConfigError: a restriction that fits nothing, or a bad value in a configuration.
    """
    blocks, rows = _rows(spec)
    keys = list(spec.models) if spec.models_as == "columns" else [None]
    columns = [Column(corpus, key) for corpus in spec.corpora for key in keys]
    wanted = _restrictions(only)
    bases = {key: _base(spec, key) for key in spec.models}
    _check_values(wanted, spec, blocks, rows)
    experiments = []
    for row, column, seed in _chosen(spec, wanted, blocks, rows, columns):
        key = row.model or column.model
        data = {"data.corpus": column.corpus, "seed": seed}
        data |= {f"data.{side}": text for side, text in zip(models.INPUTS, row.inputs, strict=False)}
        values = configs.override(configs.assign(bases[key], data), list(assignments))
        where = f"the sweep, {row.label}, {column.corpus}, {key}"
        experiments.append(Experiment(row, column, key, configs.from_dict(values, where)))
    if not experiments:
        raise ConfigError(f"No cell of the table fits {' '.join(f'--only {text}' for text in only)} together.")
    kept_rows = {experiment.row for experiment in experiments}
    kept_columns = {experiment.column for experiment in experiments}
    return Grid(
        spec,
        tuple(blocks),
        tuple(row for row in rows if row in kept_rows),
        tuple(column for column in columns if column in kept_columns),
        tuple(experiments),
        frozenset(range(len(blocks))) - {row.block for row in rows if row not in kept_rows},
    )


def of_seeds(only: Sequence[str]) -> list[str]:
    """Those of the restrictions that leave every row and column in the table."""
    return [text for text in only if text.partition("=")[0] == "seed"]


def _rows(spec: SweepFile) -> tuple[list[str | None], list[Row]]:
    blocks: list[str | None] = []
    rows: list[Row] = []
    models = list(spec.models) if spec.models_as == "blocks" else [None]
    for model in models:
        for block in spec.blocks:
            title = block.title
            if model is not None:
                heading = spec.models[model].heading or model
                title = f"{heading}: {title}" if title else heading
            blocks.append(title)
            for entry in block.rows:
                names = (entry,) if isinstance(entry, str) else tuple(entry)
                inputs = tuple(spec.encoders.get(name, name) for name in names)
                for text in inputs:
                    parse_input(text)  # a bad selector is reported before anything runs
                rows.append(Row(len(blocks) - 1, spec.separator.join(names), inputs, names, model))
    if len(set(rows)) < len(rows):
        twice = next(row for row in rows if rows.count(row) > 1)
        raise ConfigError(f"The row {twice.label!r} stands in its block twice.")
    return blocks, rows


def _base(spec: SweepFile, key: str) -> dict[str, Any]:
    values = configs.shipped(spec.model_name(key))
    values = configs.assign(values, dict(_flat(spec.settings)))
    return configs.assign(values, dict(_flat(spec.models[key].settings)))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{"a": {"b": 1}}` -> `("a.b", 1)`."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _restrictions(only: Sequence[str]) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    for text in only:
        axis, equals, value = text.partition("=")
        if not equals or axis not in AXES or not value:
            raise ConfigError(f"--only takes AXIS=VALUE with AXIS out of {', '.join(AXES)}; received {text!r}.")
        wanted.setdefault(axis, []).append(value)
    return wanted


def _names_of(
    axis: str, row: Row | None, column: Column | None, seed: int, spec: SweepFile, blocks: Sequence[str | None]
) -> set[str]:
    """Everything by which a cell may be called along an axis."""
    if axis == "seed":
        return {str(seed)}
    if axis == "corpus":
        return {column.corpus, spec.corpora[column.corpus]}
    if axis == "model":
        key = row.model or column.model
        return {key, spec.models[key].heading or key}
    if axis == "row":
        return {row.label}
    if axis == "block":
        return {blocks[row.block] or ""}
    sides = range(len(row.inputs)) if axis == "encoder" else [models.INPUTS.index(axis)]
    found = set()
    for side in sides:
        if side < len(row.inputs):
            found |= {row.names[side], row.inputs[side], row.encoders[side]}
    return found


def _chosen(
    spec: SweepFile,
    wanted: Mapping[str, Sequence[str]],
    blocks: Sequence[str | None],
    rows: Sequence[Row],
    columns: Sequence[Column],
) -> Iterator[tuple[Row, Column, int]]:
    for row in rows:
        for column in columns:
            for seed in spec.seeds:
                if all(
                    _names_of(axis, row, column, seed, spec, blocks) & set(values) for axis, values in wanted.items()
                ):
                    yield row, column, seed


def _check_values(
    wanted: Mapping[str, Sequence[str]], spec: SweepFile, blocks: Sequence[str | None], rows: Sequence[Row]
) -> None:
    keys = list(spec.models) if spec.models_as == "columns" else [None]
    columns = [Column(corpus, key) for corpus in spec.corpora for key in keys]
    for axis, values in wanted.items():
        known: dict[str, None] = {}
        for row in rows:
            for column in columns:
                for seed in spec.seeds:
                    known.update(dict.fromkeys(sorted(_names_of(axis, row, column, seed, spec, blocks))))
        for value in values:
            if value not in known:
                choices = ", ".join(filter(None, known))
                if not choices:
                    what = "blocks with a title" if axis == "block" else f"rows with a representation {axis!r}"
                    raise ConfigError(f"--only {axis}={value}: this sweep has no {what}. Leave it out.")
                raise ConfigError(f"--only {axis}={value}: this sweep has no such {axis}. Choose one of: {choices}.")
