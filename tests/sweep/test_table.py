"""Figures, intervals, marks and notes of a table."""

import csv
import io

import numpy as np
import pytest

from serfuse.metrics import METRICS, Metric
from serfuse.runs.run import Run
from serfuse.store.key import EmbeddingKey
from serfuse.sweep import driver, render, table
from serfuse.sweep.ledger import Ledger


@pytest.mark.slow
def test_figures_are_those_of_the_runs(make_plan, store, folder, inline) -> None:
    plan, ledger = make_plan(metrics=["macro_f1", "uar"]), Ledger(folder)
    driver.run(plan, ledger, inline(store))
    found = table.make(plan, ledger)
    assert found.shape == (3, 2) and [head.metric for head in found.heads] == ["F1", "UAR"]
    for line, planned in zip(found.blocks[0].lines, plan.planned, strict=True):
        metrics = Run.read(ledger.run_folder(planned)).metrics
        for figure, name in zip(line.figures, ("macro_f1", "uar"), strict=True):
            assert figure.measured == pytest.approx(100 * metrics["mean"][name])
            assert figure.low == pytest.approx(100 * metrics["intervals"][name]["low"])
            assert figure.high == pytest.approx(100 * metrics["intervals"][name]["high"])
            assert figure.printed is None
    assert not found.compares
    assert any("bootstrap over 4 speakers" in note for note in found.notes)
    assert any("test speakers are also in training" in note for note in found.notes)


@pytest.mark.slow
def test_seeds_count_as_further_folds(make_plan, store, folder, inline) -> None:
    plan, ledger = make_plan(("row=wavlm",), seeds=[0, 5, 9]), Ledger(folder)
    driver.run(plan, ledger, inline(store))
    figure = table.make(plan, ledger).blocks[0].lines[0].figures[0]
    means = [Run.read(ledger.run_folder(planned)).metrics["mean"]["accuracy"] for planned in plan.planned]
    assert len(set(means)) > 1, "seeds draw other folds"
    assert figure.measured == pytest.approx(100 * np.mean(means))
    assert figure.low < figure.measured < figure.high


@pytest.mark.slow
def test_log_loss_and_a_metric_that_the_runs_lack_are_measured_and_shown_as_they_are(
    make_plan, store, folder, inline
) -> None:
    """The runs are made before the metric is known: it is measured from their predictions."""
    driver.run(make_plan(("row=hubert",)), ledger := Ledger(folder), inline(store))
    mine = Metric("mine", "mine", lambda labels, predicted, present: 3 * (labels == predicted).mean(), unit="plain")
    METRICS.register("mine", mine)
    try:
        plan = make_plan(("row=hubert",), metrics=["log_loss", "mine"])
        found = table.make(plan, ledger)
    finally:
        METRICS.unregister("mine")
    loss, own = found.blocks[0].lines[0].figures
    metrics = Run.read(ledger.run_folder(plan.planned[0])).metrics
    assert loss.measured == metrics["mean"]["log_loss"] and loss.low == metrics["intervals"]["log_loss"]["low"]
    assert "mine" not in metrics["mean"] and own.measured == pytest.approx(3 * metrics["mean"]["accuracy"])
    assert own.low < own.measured < own.high
    assert f"{own.measured:.3f} [{own.low:.3f}, {own.high:.3f}]" in render.markdown(found)
    assert "in per cent (log loss, mine as they are), with the 95 % interval" in found.notes[0]


@pytest.mark.slow
def test_a_cell_is_missing_until_its_last_fold(make_plan, store, folder, inline) -> None:
    plan, ledger = make_plan(("row=hubert",), seeds=[0, 1]), Ledger(folder)
    last = plan.units[-1].name
    driver.run(plan, ledger, inline(store, lambda unit, attempt: unit == last), retries=0)
    assert table.make(plan, ledger).blocks[0].lines[0].figures[0].measured is None
    driver.run(plan, ledger, inline(store))
    assert table.make(plan, ledger).blocks[0].lines[0].figures[0].measured is not None


def _with(store, encoder: str, like: str, noise: float, seed: int = 3) -> None:
    """Add an encoder whose embeddings are those of another one with noise."""
    key = store.find("emodb", like)
    ids, matrix = store.load("emodb", key)
    hashes = [store.present("emodb", key)[name] for name in ids]
    drawn = np.random.default_rng(seed).normal(size=matrix.shape)
    store.append("emodb", EmbeddingKey(encoder), ids, hashes, matrix + noise * drawn)


@pytest.mark.slow
def test_the_best_row_is_marked_only_where_the_paired_test_says_so(
    make_store, make_plan, folder, inline, tmp_path
) -> None:
    store = make_store({"hubert": 12}, corpus="emodb", speakers=10, noise=0.5, root=tmp_path / "ten")
    _with(store, "wavlm", "hubert", noise=30.0)
    _with(store, "dac", "hubert", noise=40.0)
    clear = make_plan(at=store, blocks=[{"title": "x", "rows": ["dac", "hubert", "wavlm"]}])
    driver.run(clear, Ledger(folder), inline(store))
    lines = table.make(clear, Ledger(folder)).blocks[0].lines
    assert [line.figures[0].best for line in lines] == [False, True, False]
    part = table.make(make_plan(("row=hubert", "row=dac"), at=store, blocks=clear.grid.spec.blocks), Ledger(folder))
    assert not any(figure.best for line in part.blocks[0].lines for figure in line.figures), "a row is left out"
    assert any(note.endswith("Nor in blocks of which rows are left out here.") for note in part.notes)

    _with(store, "encodec", "hubert", noise=0.05)
    close = make_plan(at=store, blocks=[{"title": "x", "rows": ["dac", "hubert", "wavlm", "encodec"]}])
    driver.run(close, Ledger(folder), inline(store))
    lines = table.make(close, Ledger(folder)).blocks[0].lines
    assert not any(figure.best for line in lines for figure in line.figures), "two rows are level"

    missing = make_plan(at=store, blocks=[{"title": "x", "rows": ["dac", "hubert", "wavlm", "xvector"]}])
    lines = table.make(missing, Ledger(folder)).blocks[0].lines
    assert not any(figure.best for line in lines for figure in line.figures), "a row is missing"

    blocks = [{"title": "x", "rows": ["dac", "hubert"]}, {"title": "y", "rows": ["encodec", "wavlm"]}]
    apart = make_plan(at=store, blocks=blocks)
    found = table.make(apart, Ledger(folder)).blocks
    assert [[line.figures[0].best for line in block.lines] for block in found] == [[False, True], [True, False]]


def test_random_weights_and_synthetic_speech_are_said(make_plan, store, folder, inline) -> None:
    _with(store, "dac", "hubert", noise=1.0)
    key = store.find("emodb", "dac")
    ids, matrix = store.load("emodb", key)
    hashes = [store.present("emodb", key)[name] for name in ids]
    store.append("emodb", EmbeddingKey("xvector", weights="random:0"), ids, hashes, matrix)
    made = table.make(make_plan(blocks=[{"rows": ["xvector", "dac"]}]), Ledger(folder))
    assert [line.random_weights for line in made.blocks[0].lines] == [("xvector",), ()]
    rows = list(csv.DictReader(io.StringIO(render.render(made, "csv"))))
    assert [row["random weights"] for row in rows] == ["xvector", ""]
    notes = made.notes
    assert any(note.startswith("WARNING: xvector has random weights") for note in notes)
    assert any("Missing: 2 of 2" in note for note in notes)
