"""A fusion of three representations, from the command that runs it to the emotion of a recording."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from serfuse import encoders
from serfuse.cli import main
from serfuse.corpora.base import Corpus
from serfuse.extraction import extract
from serfuse.runs.run import Run
from serfuse.store import EmbeddingStore

pytestmark = pytest.mark.slow
INPUTS = ["--a", "logmel@pooling=time", "--b", "logmel@pooling=mean-std,pad=none", "--c", "logmel@pad=max"]


def call(*arguments: str | Path) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def root(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where three representations were extracted, and cross-validated together, and one of them."""
    root = tmp_path_factory.mktemp("three")
    store = EmbeddingStore(root / "store")
    encoder = encoders.load("logmel")
    for pooling, pad in (("time", "none"), ("mean-std", "none"), ("mean-std", "max")):
        extract.extract(tiny_corpus, encoder, store, pooling=pooling, pad=pad)
    rest = ["--store", store.root, "--folds", 2, "--epochs", 1, "--seed", 3]
    said = call("cv", "--fusion", "concat-pooled", *INPUTS, *rest, "--out", root / "three")
    assert "Shuffling input c (logmel) over the test clips changes" in said
    assert "concat-pooled: logmel + logmel + logmel, synthetic" in said
    call("cv", "--head", "svm", *INPUTS[:2], *rest, "--out", root / "one")
    return root


def test_the_run_tells_of_all_three(root: Path) -> None:
    run = Run.read(root / "three")
    assert run.inputs == "logmel + logmel + logmel" and list(run.keys) == ["a", "b", "c"]
    assert list(run.metrics["sensitivity"]) == ["a", "b", "c"] and len(run.contributions()) == 3
    assert run.published == []
    assert run.config.data.inputs["c"] == run.keys["c"].folder
    assert "\n  c: logmel@pad=max\n  pooling: null\n" in (root / "three" / "config.yaml").read_text("utf-8")
    one = (root / "one" / "config.yaml").read_text("utf-8")
    assert "\n  a: logmel@pooling=time\n  b: null\n  pooling: null\n" in one, "a file of one is as it was"


def test_a_run_of_three_is_reported_and_compared_beside_one_of_one(root: Path) -> None:
    runs, store = [root / "three", root / "one"], ["--store", root / "store", "--quiet"]
    call("report", *runs, "-o", root / "table.csv", *store)
    table = pd.read_csv(root / "table.csv")
    assert list(table.columns[4:8]) == ["a", "b", "c", "random_weights"]
    assert list(table["c"].fillna("")) == ["logmel", ""]
    call("report", *runs, "-o", root / "page.html", *store)
    page = (root / "page.html").read_text("utf-8")
    assert "logmel + logmel + logmel" in page and "Shuffling input c (logmel)" in page
    found = json.loads(call("compare", *runs, "--json"))
    assert [run["name"] for run in found["runs"]] == ["three", "one"] and len(found["pairs"]) == 1


def test_its_model_hears_a_recording_three_times(root: Path, tiny_corpus: Corpus) -> None:
    model = root / "model.serfuse"
    said = call("train", root / "three", "-o", model, "--store", root / "store", "--quiet")
    assert "concat-pooled on logmel + logmel + logmel: trained on 48 clips" in said
    clips = [tiny_corpus.clips[0].path, tiny_corpus.clips[30].path]
    rows = list(csv.DictReader(call("predict", model, *clips, "--csv").splitlines()))
    assert len(rows) == 2 and {row["emotion"] for row in rows} <= {"anger", "neutral", "sadness"}
