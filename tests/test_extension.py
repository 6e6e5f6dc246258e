"""Another package adds an encoder, a corpus, a model, a metric and a split, and every command takes them.

The package is `tests/extension_package`, the example of docs/extending.md. It is installed for real into a folder of
its own, and the commands run in one process that has this folder on its path.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

PACKAGE = Path(__file__).parent / "extension_package"
KINDS = {"encoders": "levels", "corpora": "prefixed", "models": "gated", "metrics": "kappa", "splits": "halves"}

_SCRIPT = """
import json, sys
from click.testing import CliRunner
from serfuse.cli import main

results = {}

def run(name, *arguments):
    done = CliRunner().invoke(main, list(arguments))
    trace = "" if done.exception is None or isinstance(done.exception, SystemExit) else repr(done.exception)
    results[name] = {"code": done.exit_code, "out": done.stdout, "err": done.stderr, "trace": trace}
    results[name]["imported"] = sorted(module for module in sys.modules if module.startswith("serfuse_example"))

kinds = ("encoders", "corpora", "models", "metrics", "splits")
for kind in kinds:
    run(f"list {kind}", "list", kind, "--json")
run("list encoders as text", "list", "encoders")
run("unknown", "cv", "--fusion", "gatd", "--a", "levels")
for pool in ("time", "mean-std"):
    run(f"extract {pool}", "extract", "--corpus", "prefixed", "--data", "clips", "--encoder", "levels", "--pool", pool)
    run(f"extract {pool}", "extract", "--corpus", "prefixed", "--data", "clips", "--encoder", "levels", "--pool", pool,
        "--json")
for name, width in (("one", 16), ("two", 4)):
    run(f"cv {name}", "cv", "--fusion", "gated", "--a", "levels@pooling=time", "--b", "levels@pooling=mean-std",
        "--split", "halves", "--metric", "kappa", "--epochs", "4", "--set", f"options.width={width}",
        "--out", f"runs/{name}")
run("compare", "compare", "runs/one", "runs/two", "--metric", "kappa", "--json")
run("compare as text", "compare", "runs/one", "runs/two", "--metric", "kappa")
run("report page", "report", "runs/one", "runs/two", "-o", "page.html")
run("report csv", "report", "runs/one", "runs/two", "-o", "table.csv")
run("train", "train", "runs/one", "-o", "kept.serfuse")
run("predict", "predict", "kept.serfuse", "clips", "--json")
for kind, name in zip(kinds, ("levels", "prefixed", "gated", "kappa", "halves")):
    run(f"list {name}", "list", kind, name, "--json")

# What its model does not declare is refused before it is trained.
import dataclasses, serfuse
from serfuse import models
gated = models.get("gated")
secret = dataclasses.replace(gated, name="undeclared", layers=gated.layers[1:])
serfuse.register("model", "undeclared", secret)
run("cv undeclared", "cv", "--fusion", "undeclared", "--a", "levels@pooling=time", "--b", "levels@pooling=mean-std",
    "--split", "halves", "--epochs", "1", "--out", "runs/undeclared")
run("train undeclared", "train", "runs/undeclared", "-o", "undeclared.serfuse")
json.dump(results, open("results.json", "w"))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed in it, metadata and all."""
    root = tmp_path_factory.mktemp("extension")
    source = shutil.copytree(PACKAGE, root / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(root / "site")]
    done = subprocess.run([*pip, *alone, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (root / "site" / "serfuse_example-1.2.dist-info" / "entry_points.txt").is_file()
    return root / "site"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 clips, three emotions that differ in pitch and level, four speakers."""
    root = tmp_path_factory.mktemp("study")
    (root / "clips").mkdir()
    rng = np.random.default_rng(0)
    time = np.arange(4800) / 16000
    for number, emotion in enumerate(("anger", "neutral", "sadness")):
        for speaker in ("anna", "ben", "carl", "dora"):
            for text in ("door", "lamp", "tree"):
                tone = (0.4 - 0.12 * number) * np.sin(2 * np.pi * (300 + 900 * number) * time)
                noise = rng.normal(0, 0.02, len(time))
                soundfile.write(root / "clips" / f"{emotion}_{speaker}_{text}.wav", tone + noise, 16000)
    return root


@pytest.fixture(scope="module")
def results(installed: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """What each command said, all run in one process."""
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", _SCRIPT],
        cwd=folder,
        # On Keras' torch backend, which needs no tracing: that takes TensorFlow most of the time of so small networks.
        env={**os.environ, "PYTHONPATH": path, "SERFUSE_STORE": str(folder / "store"), "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((folder / "results.json").read_text("utf-8"))
    failed = {name: one for name, one in found.items() if one["code"] and name not in ("unknown", "train undeclared")}
    assert not failed, failed
    return found


def test_the_documented_example_is_this_package() -> None:
    text = (PACKAGE.parent.parent / "docs" / "extending.md").read_text("utf-8")
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".py", ".toml") and path.name != "__init__.py":
            assert path.read_text("utf-8").strip() in text, f"docs/extending.md shows another {path.name}"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), KINDS.items())
def test_what_is_installed_is_listed_without_being_imported(results, kind: str, name: str) -> None:
    listed = json.loads(results[f"list {kind}"]["out"])
    assert listed[-1] == {"name": name, "package": "serfuse-example 1.2"}
    assert {row["package"] for row in listed[:-1]} == {"serfuse"}
    assert results[f"list {kind}"]["imported"] == []
    (whole,) = json.loads(results[f"list {name}"]["out"])
    assert whole["name"] == name and whole["package"] == "serfuse-example 1.2" and len(whole) > 3


@pytest.mark.slow
def test_the_text_says_the_package_and_an_unknown_name_offers_it(results) -> None:
    assert "levels: from serfuse-example 1.2" in results["list encoders as text"]["out"]
    assert results["unknown"]["code"] == 1 and "Did you mean 'gated'?" in results["unknown"]["err"]
    assert results["unknown"]["imported"] == []


@pytest.mark.slow
def test_the_encoder_and_the_corpus_extract(results) -> None:
    from importlib import metadata

    for pool, size in (("time", 8), ("mean-std", 16)):
        (report,) = json.loads(results[f"extract {pool}"]["out"])["encoders"]
        assert (report["done"], report["reused"], report["failed"], report["vector_size"]) == (0, 36, [], size)
        assert report["key"]["libraries"] == {"numpy": metadata.version("numpy")}, "it decides the numbers"
        assert report["key"]["options"] == {"floor": 1e-6}


@pytest.mark.slow
def test_the_model_the_split_and_the_metric_cross_validate(results, folder: Path) -> None:
    found = json.loads((folder / "runs/one/metrics.json").read_text("utf-8"))
    with (folder / "runs/one/predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    tested = [{row["speaker"] for row in rows if row["fold"] == fold} for fold in ("0", "1")]
    assert tested == [{"anna", "ben"}, {"carl", "dora"}]
    agreed = np.mean([row["label"] == row["predicted"] for row in rows])
    names = {row["label"] for row in rows}
    chance = sum(
        np.mean([row["label"] == name for row in rows]) * np.mean([row["predicted"] == name for row in rows])
        for name in names
    )
    assert found["pooled"]["kappa"] == pytest.approx((agreed - chance) / (1 - chance))
    assert found["intervals"]["kappa"].keys() == {"low", "high"}
    assert all("kappa" in fold for fold in found["folds"]) and "Cohen's kappa" in results["cv one"]["out"]
    assert "metrics:\n- kappa\n" in (folder / "runs/one/config.yaml").read_text("utf-8")


@pytest.mark.slow
def test_runs_are_compared_and_reported_by_the_metric(results, folder: Path) -> None:
    found = json.loads(results["compare"]["out"])
    pooled = [json.loads((folder / f"runs/{n}/metrics.json").read_text("utf-8"))["pooled"] for n in ("one", "two")]
    assert found["metric"] == "kappa" and [run["value"] for run in found["runs"]] == [p["kappa"] for p in pooled]
    assert results["compare as text"]["out"].startswith("Cohen's kappa on 36 clips")
    page = (folder / "page.html").read_text("utf-8")
    assert "Cohen&#39;s kappa" in page and f">{pooled[0]['kappa']:.3f}<" in page
    with (folder / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["kappa_pooled"]) for row in rows] == [p["kappa"] for p in pooled]


@pytest.mark.slow
def test_the_trained_model_predicts(results) -> None:
    content = json.loads(results["predict"]["out"])
    assert content["model"]["model"] == "gated" and len(content["predictions"]) == 36


@pytest.mark.slow
def test_a_network_with_a_layer_that_is_not_declared_is_refused_before_training(results, folder: Path) -> None:
    refused = results["train undeclared"]
    assert refused["code"] == 1 and not refused["trace"] and not (folder / "undeclared.serfuse").exists()
    assert "serfuse_example.layers.Gate" in refused["err"] and "does not declare" in refused["err"]
