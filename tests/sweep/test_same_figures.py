"""A figure that is printed twice is one number, wherever it stands: one result through every output."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from serfuse.cli import cv, main
from serfuse.metrics import METRICS
from serfuse.prediction import training
from serfuse.progress import duration
from serfuse.runs.run import Run
from serfuse.sweep import driver, overview, render, table
from serfuse.sweep.ledger import Ledger

SEED = 3
"""Not 0: the draws of an interval follow from it."""


@pytest.fixture
def runs(store, tmp_path: Path, monkeypatch) -> Path:
    """A folder with two finished runs, and what `cv --json` printed of the first."""
    monkeypatch.chdir(tmp_path)
    for name in ("hubert", "wavlm"):
        arguments = ["--head", "svm", "--a", name, "--seed", str(SEED)]
        done = CliRunner().invoke(
            main, ["cv", *arguments, "--store", str(store.root), "--out", f"runs/{name}", "--json"]
        )
        assert done.exit_code == 0, done.output
        (tmp_path / f"{name}.json").write_text(done.stdout, "utf-8")
    return tmp_path


def _shown(run: Run, part: str, metric: str) -> str:
    return METRICS.get(metric).shown(run.metrics[part][metric])


def _range(run: Run, metric: str) -> str:
    ends = run.metrics["intervals"][metric]
    return METRICS.get(metric).shown_range(ends["low"], ends["high"])


def _output(*arguments: str) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
def test_one_result_is_the_same_in_every_output(runs: Path, store, make_plan, folder, inline, capsys) -> None:
    run = Run.read(runs / "runs/hubert")
    figures = [metric for metric in METRICS.own_names() if METRICS.get(metric).interval]
    told = json.loads((runs / "hubert.json").read_text("utf-8"))
    assert {name: value for name, value in told.items() if name != "run"} == run.metrics
    assert json.loads((runs / "runs/hubert/metrics.json").read_text("utf-8")) == run.metrics

    # The terminal.
    cv.show(run)
    terminal = capsys.readouterr().out
    for metric in ("accuracy", "macro_f1", "uar"):
        for part in ("mean", "std", "pooled"):
            assert re.search(rf"(?m)^.*{part}.* {re.escape(_shown(run, part, metric))} ", terminal), (metric, part)
        assert _range(run, metric) in terminal
    for metric in ("weighted_f1", "log_loss", "ece"):
        assert f"{METRICS.get(metric).title} {_shown(run, 'pooled', metric)}" in terminal
    assert f"Time: {duration(run.metrics['seconds'])}." not in terminal, "an SVM has no parameters to tell of"

    # A comparison has the run's own figures and intervals, to the last digit.
    for metric in figures:
        for name in ("hubert", "wavlm"):
            compared = json.loads(_output("compare", "runs/hubert", "runs/wavlm", "--metric", metric, "--json"))
            (score,) = [one for one in compared["runs"] if one["name"] == name]
            own = Run.read(runs / "runs" / name).metrics
            assert score["value"] == own["pooled"][metric]
            assert {"low": score["low"], "high": score["high"]} == own["intervals"][metric]
    text = _output("compare", "runs/hubert", "runs/wavlm")
    assert re.search(rf"(?m)^hubert +{_shown(run, 'pooled', 'accuracy')} +{_range(run, 'accuracy')}$", text)

    # A report in each form.
    for suffix in ("html", "md", "csv", "tex"):
        _output("report", "runs/hubert", "-o", f"report.{suffix}", "--no-audio", "--quiet")
    page = re.sub(r"<[^>]*>", " ", Path("report.html").read_text("utf-8")).replace("\u00a0", " ")
    for metric in METRICS.own_names():
        shown = [_shown(run, part, metric) for part in ("mean", "std", "pooled")]
        assert all(re.search(rf"(?<![\d.]){re.escape(one)}(?![\d])", page) for one in shown), (metric, shown)
    assert _range(run, "log_loss") in page and f"time {duration(run.metrics['seconds'])}" in " ".join(page.split())
    (row,) = csv.DictReader(io.StringIO(Path("report.csv").read_text("utf-8")))
    for metric in figures:
        for part in ("mean", "std", "pooled"):
            assert float(row[f"{metric}_{part}"]) == run.metrics[part][metric]
        assert float(row[f"{metric}_low"]) == run.metrics["intervals"][metric]["low"]
    cells = [_shown(run, "mean", "accuracy"), _shown(run, "std", "accuracy"), _range(run, "accuracy")]
    cells += [_shown(run, "mean", "macro_f1"), _shown(run, "mean", "uar")]
    assert " | ".join(cells) in Path("report.md").read_text("utf-8")
    assert " & ".join(cells) in Path("report.tex").read_text("utf-8")

    # What a model's file keeps, and `train` and `predict` print.
    kept = training.evaluation(run)
    assert (kept.accuracy, kept.uar) == (run.metrics["mean"]["accuracy"], run.metrics["mean"]["uar"])
    assert {"low": kept.accuracy_low, "high": kept.accuracy_high} == run.metrics["intervals"]["accuracy"]
    expected = f"Expect {_shown(run, 'mean', 'accuracy')} % accuracy (95 % interval {_range(run, 'accuracy')}, all "
    assert (
        kept.sentences()[0].startswith(expected)
        and f"the mean of {len(run.metrics['folds'])} folds" in (kept.sentences()[0])
    )

    # A sweep of the same experiment: the same folds, so the same figures in its table.
    plan = make_plan(("row=hubert",), seeds=[SEED], metrics=["accuracy", "macro_f1", "log_loss"])
    watched = driver.run(plan, ledger := Ledger(folder), inline(store))
    swept = ledger.run(plan.planned[0])
    for part in ("mean", "std", "pooled", "intervals", "folds"):
        assert swept.metrics[part] == run.metrics[part], part
    drawn = table.make(plan, ledger)
    for figure, metric in zip(drawn.blocks[0].lines[0].figures, ("accuracy", "macro_f1", "log_loss"), strict=True):
        scaled = METRICS.get(metric).scaled
        assert figure.measured == scaled(run.metrics["mean"][metric])
        assert figure.low == scaled(run.metrics["intervals"][metric]["low"])
        low, high = _range(run, metric).split(" to ")
        # The papers' two decimals, of the same number.
        exact = f"{figure.measured:.3f}" if metric == "log_loss" else f"{figure.measured:.2f}"
        assert f"{exact} [{low}, {high}]" in render.markdown(drawn)
    (state,) = overview.rows(watched)
    assert f"{state.cells[0].mean:.1f}" == _shown(run, "mean", "accuracy")
