"""The papers' four tables: layout as printed, every printed figure in its place, and all of them run end to end."""

import csv
import os
import subprocess
import sys
from itertools import combinations, product
from pathlib import Path

import pytest

from serfuse import models
from serfuse.published import results
from serfuse.store import EmbeddingStore
from serfuse.sweep import grid, plan, spec, table
from serfuse.sweep.ledger import Ledger

# Row and column names as the papers print them.
RLR, CBR = ["W2", "W", "XE", "H"], ["E", "D", "ST", "SS"]
MAMBA, ATTENTION = ["A(T)", "A(S)", "A(B)"], ["W", "H", "W2", "U", "M"]
EIGHT = ["A(T)", "A(S)", "A(B)", "W", "H", "W2", "U", "M"]
ROWS = {
    "hyfuse_table1": [("RLRs", RLR), ("CBRs", CBR)],
    "hyfuse_table2": [
        ("RLRs + RLRs", ["W2 + W", "W2 + XE", "W2 + H", "W + XE", "W + H", "XE + H"]),
        ("CBRs + CBRs", ["E + D", "E + ST", "E + SS", "D + ST", "D + SS", "ST + SS"]),
        ("RLRs + CBRs", [f"{a} + {b}" for a, b in product(RLR, CBR)]),
    ],
    "parrot_table1": [("SVM", EIGHT), ("FCN", EIGHT), ("CNN", EIGHT)],
    "parrot_table2": [
        (None, [f"{a}+{b}" for a, b in [*product(MAMBA, ATTENTION), *combinations(ATTENTION, 2)]]),
    ],
}
COLUMNS = {
    "hyfuse_table1": list(product(["CREMA-D", "Emo-DB"], ["FCN", "CNN"], ["Acc", "F1"])),
    "hyfuse_table2": list(product(["CREMA-D", "Emo-DB"], ["Concat", "HYFuse"], ["Acc", "F1"])),
    "parrot_table1": list(product(["CREMA-D", "Emo-DB", "MESD"], [""], ["Acc", "F1"])),
    "parrot_table2": list(product(["CREMA-D", "Emo-DB", "MESD"], ["Concatenation", "PARROT"], ["Acc", "F1"])),
}
HEADINGS = {"hyfuse_table1": "Rep", "hyfuse_table2": "Pairs", "parrot_table1": "PTM's", "parrot_table2": "Fusion"}
SHAPES = {"hyfuse_table1": (8, 8), "hyfuse_table2": (28, 8), "parrot_table1": (24, 6), "parrot_table2": (25, 12)}
BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "tables_standin.py"


@pytest.mark.parametrize("name", sorted(ROWS))
def test_rows_and_columns_are_the_papers(name: str, tmp_path: Path) -> None:
    content, _ = spec.read(name)
    planned = plan.make(grid.expand(content), EmbeddingStore(tmp_path / "empty"))
    found = table.make(planned, Ledger(tmp_path / "none"))
    assert found.shape == SHAPES[name]
    assert found.rows_heading == HEADINGS[name]
    assert [(block.title, [line.label for line in block.lines]) for block in found.blocks] == ROWS[name]
    assert [(head.corpus, head.model, head.metric) for head in found.heads] == COLUMNS[name]
    figures = [figure for block in found.blocks for line in block.lines for figure in line.figures]
    assert all(figure.printed is not None for figure in figures), "every figure has its printed one beside it"
    assert all(figure.measured is None and not figure.best for figure in figures)


@pytest.mark.parametrize(
    ("name", "label", "column", "metric", "model", "block", "printed"),
    [  # read off the papers
        ("hyfuse_table1", "W2", "emodb", "accuracy", "cnn", "RLRs", 91.51),
        ("hyfuse_table1", "SS", "cremad", "macro_f1", "fcn", "CBRs", 53.94),
        ("hyfuse_table2", "W2 + E", "cremad", "accuracy", "hyfuse", "RLRs + CBRs", 60.24),
        ("hyfuse_table2", "ST + SS", "emodb", "macro_f1", "concat", "CBRs + CBRs", 53.28),
        ("parrot_table1", "M", "mesd", "accuracy", "", "FCN", 82.66),
        ("parrot_table1", "W2", "emodb", "macro_f1", "", "SVM", 85.93),
        ("parrot_table2", "A(B)+H", "emodb", "accuracy", "parrot", None, 92.24),
        ("parrot_table2", "U+M", "mesd", "macro_f1", "concat-pooled", None, 48.31),
    ],
)
def test_printed_figures_stand_in_their_places(name, label, column, metric, model, block, printed, tmp_path) -> None:
    content, _ = spec.read(name)
    planned = plan.make(grid.expand(content), EmbeddingStore(tmp_path / "empty"))
    found = table.make(planned, Ledger(tmp_path / "none"))
    assert found.figure(label, column, metric, model, block).printed == printed


def test_the_four_tables_are_the_366_results_with_their_pairs_in_the_printed_order() -> None:
    cells = []
    for name in ROWS:
        content, _ = spec.read(name)
        for experiment in grid.expand(content).experiments:
            names = dict(models.get(experiment.config.model).published_as)
            a, b = (*experiment.row.encoders, "")[:2]
            where = content.published
            cells.append((where.paper, where.table, experiment.column.corpus, names[where.paper], a, b))
    printed = [(r.paper, r.table, r.corpus, r.model, r.encoder_a, r.encoder_b) for r in results.results()]
    assert len(cells) == len(set(cells)) == 366
    assert set(cells) == set(printed)


def test_training_is_as_the_papers_say() -> None:
    for name, rate in (("hyfuse", 1e-5), ("parrot", 1e-3)):
        for number in (1, 2):
            content, _ = spec.read(f"{name}_table{number}")
            for experiment in grid.expand(content).experiments:
                config = experiment.config
                assert (config.split.name, config.split.folds, config.seed) == ("random", 5, 0)
                training = config.training
                assert (training.learning_rate, training.batch_size, training.epochs) == (rate, 32, 50)


@pytest.mark.slow
def test_every_block_and_column_runs_end_to_end(tmp_path: Path) -> None:
    """Random embeddings of thirteen encoders, three corpora's label lists, every model of the papers, one epoch.

    One cell of each block and of each column, two folds, on Keras' torch backend, which needs no tracing; the benchmark
    runs all 1,830 units with vectors of the printed sizes.
    """
    command = [sys.executable, "-P", str(BENCHMARK), "--out", str(tmp_path), "--narrow", "--jobs", "1"]
    environment = {**os.environ, "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--report", str(tmp_path / "report.md")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    measured = 0
    for name, blocks in ROWS.items():
        with open(tmp_path / name / "table.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [(row["block"], row["row"]) for row in rows] == [
            (title or "", label) for title, labels in blocks for label in labels
        ]
        for heads in COLUMNS[name]:
            column = " ".join(filter(None, heads))
            assert all(row[f"{column} printed"] for row in rows)
            cells = [row[f"{column} measured"] for row in rows if row[f"{column} measured"]]
            assert len(cells) == 1, (name, column)
            assert 0 <= float(cells[0]) <= 100
            measured += 1
        for title, _ in blocks:
            filled = [value for row in rows if row["block"] == (title or "") for value in row.values()]
            assert any(value in ("0", "1") for value in filled), (name, title)
        for file_name in ("table.md", "table.tex", "table.html"):
            assert "random weights" in (tmp_path / name / file_name).read_text("utf-8")
    assert measured == 8 + 8 + 6 + 12
    assert "17 cells, 34 units" in (tmp_path / "report.md").read_text("utf-8")
