"""What a sweep costs over the bare training loop, and what a second process gains.

    python benchmarks/sweep.py [--out FOLDER] [--units N] [--models fcn svm]

The same units are trained three times: by a plain loop over `crossval.run_fold` in one process, by a sweep with one
worker, and by a sweep with two. All use one thread per process. Start-up (importing TensorFlow) is reported apart from
the steady rate, which counts from the first finished unit to the last. Writes benchmarks/sweep.md.

A network is what the papers' tables are made of; an SVM takes a tenth of the time, so that what the sweep itself does
for a unit shows.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from serfuse.corpora.base import Clip, Corpus
from serfuse.experiment import threads as processors
from serfuse.store import AudioFacts, EmbeddingStore
from serfuse.store.key import EmbeddingKey

EMOTIONS = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
SPEAKERS, TAKES, SIZE, EPOCHS = 10, 8, 768, 20
NAMES = {"fcn": "Fully connected networks", "svm": "Support-vector machines"}


def fill(root: Path) -> None:
    """A store of Emo-DB's size: 560 clips of seven emotions and ten speakers, 768 random values each."""
    rng = np.random.default_rng(0)
    clips = tuple(
        Clip(f"s{s}-t{t}-{e}", Path(f"/nowhere/s{s}-t{t}-{e}.wav"), e, f"s{s}", f"t{t}")
        for e in EMOTIONS
        for s in range(SPEAKERS)
        for t in range(TAKES)
    )
    facts = {clip.id: AudioFacts(f"{number:064x}", 2.0) for number, clip in enumerate(clips)}
    store = EmbeddingStore(root)
    store.write_corpus(Corpus("emodb", clips), facts)
    ids = [clip.id for clip in clips]
    hashes = [facts[name].audio for name in ids]
    store.append("emodb", EmbeddingKey("hubert"), ids, hashes, rng.normal(size=(len(ids), SIZE)))


def sweep_file(path: Path, model: str, units: int) -> None:
    """A sweep of `units` units of one model, five folds for each seed."""
    values = {
        "title": "Benchmark",
        "corpora": {"emodb": "Emo-DB"},
        "models": {model: {}},
        "blocks": [{"rows": ["hubert"]}],
        "seeds": list(range(units // 5)),
        "settings": {"training": {"epochs": EPOCHS, "patience": EPOCHS}},
    }
    path.write_text(yaml.safe_dump(values), "utf-8")


def bare(store: Path, sweep: Path) -> None:
    """The plain loop; prints a JSON line with the seconds of each unit. Runs in a process of its own."""
    from serfuse.experiment import backend, cross_validation, fitting
    from serfuse.experiment.dataset import load_dataset
    from serfuse.sweep import grid, spec

    content, _ = spec.read(str(sweep))
    configs = [experiment.config for experiment in grid.expand(content).experiments]
    if fitting.trained_with(configs[0]) == "keras":
        backend.set_up_backend()
    dataset = load_dataset(configs[0], EmbeddingStore(store))
    moments = []
    for config in configs:
        for fold in cross_validation.plan(config, dataset):
            cross_validation.run_fold(config, dataset, fold)
            moments.append(time.time())
    print(json.dumps(moments))


def _moments(out: Path) -> list[float]:
    return [entry["time"] for entry in _log(out) if entry["event"] == "finish"]


def _log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]


def _between(out: Path) -> list[float]:
    """Of a sweep with one worker: what share of the training time passes from one unit to the next."""
    starts = {entry["unit"]: entry["time"] for entry in _log(out) if entry["event"] == "start"}
    seconds = {entry["unit"]: entry["seconds"] for entry in _log(out) if entry["event"] == "finish"}
    order = sorted(starts, key=starts.get)[1:]  # the first one waits for TensorFlow to be imported
    return [(starts[after] - starts[unit]) / seconds[unit] - 1 for unit, after in pairwise(order)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path)
    options.add_argument("--units", type=int, default=30)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--models", nargs="+", default=list(NAMES), choices=list(NAMES))
    options.add_argument("--report", type=Path, default=Path(__file__).with_suffix(".md"))
    options.add_argument("--bare", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.bare:
        bare(*given.bare)
        return
    root = given.out or Path(tempfile.mkdtemp(prefix="serfuse-sweep-"))
    root.mkdir(parents=True, exist_ok=True)
    fill(root / "store")
    found = {
        model: measure(root, model, given.units * (1 if model == "fcn" else 2), given.rounds) for model in given.models
    }
    given.report.write_text(_report(found, given.units), "utf-8")
    if given.out is None:
        shutil.rmtree(root)


Measured = tuple[dict[str, list[tuple[float, float]]], list[float]]
"""For each way of running units (units per second, seconds until the first unit) of every round; and `_between`."""


def measure(root: Path, model: str, units: int, rounds: int) -> Measured:
    """Run the same units in the three ways, in turns."""
    store, sweep = root / "store", root / f"{model}.yaml"
    sweep_file(sweep, model, units)
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    environment = {**os.environ, **threads, "CUDA_VISIBLE_DEVICES": "-1"}
    found: dict[str, list[tuple[float, float]]] = {"loop": [], "1": [], "2": []}
    between: list[float] = []
    for number in range(rounds):  # the three take turns, so that a busy moment does not hit one of them alone
        for kind in found:
            begun = time.time()
            if kind == "loop":
                command = [sys.executable, __file__, "--bare", str(store), str(sweep)]
                done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
                moments = json.loads(done.stdout.splitlines()[-1])
            else:
                out = root / f"{model}-jobs{kind}-{number}"
                shutil.rmtree(out, ignore_errors=True)
                command = [sys.executable, "-c", "from serfuse.cli import main; main()", "sweep", str(sweep)]
                command += ["--store", str(store), "--out", str(out), "--jobs", kind, "--threads", "1", "--quiet"]
                subprocess.run(command, env=environment, check=True, capture_output=True)
                moments = _moments(out)
                between += _between(out) if kind == "1" else []
            first = int(kind) if kind != "loop" else 1
            rate = (len(moments) - first) / (moments[-1] - moments[first - 1])
            found[kind].append((rate, moments[0] - begun))
            print(f"{model} {kind}: {rate:.3f} units/s, first unit after {moments[0] - begun:.1f} s", flush=True)
    return found, between


def _report(found: dict[str, Measured], units: int) -> str:
    ways = {"loop": "bare loop over `run_fold`", "1": "`serfuse sweep --jobs 1`", "2": "`serfuse sweep --jobs 2`"}
    rounds = len(next(iter(found.values()))[0]["loop"])
    lines = [
        "# What a sweep costs, and what a second process gains",
        "",
        f"Written by `python benchmarks/sweep.py --units {units}`: {SIZE} values, {len(EMOTIONS) * SPEAKERS * TAKES} "
        f"clips, five folds per seed, one thread per process, medians of {rounds} rounds in turns. The network is "
        f"trained for {EPOCHS} epochs.",
    ]
    for model, (by_way, between) in found.items():
        rates = {way: [rate for rate, _ in values] for way, values in by_way.items()}
        overhead = statistics.median(loop / one - 1 for loop, one in zip(rates["loop"], rates["1"], strict=True))
        gain = statistics.median(two / one for two, one in zip(rates["2"], rates["1"], strict=True))
        lines += ["", f"## {NAMES[model]}", "", "| | units/s | rounds | first unit after, s |", "|---|---:|---:|---:|"]
        for way, values in by_way.items():
            listed = ", ".join(f"{rate:.3f}" for rate in rates[way])
            start = statistics.median(seconds for _, seconds in values)
            lines.append(f"| {ways[way]} | {statistics.median(rates[way]):.3f} | {listed} | {start:.1f} |")
        lines += [
            "",
            f"Between the end of a unit's training and the beginning of the next one's, a worker loses a median of "
            f"{100 * statistics.median(between):.2f} % of the training time (longest tenth: "
            f"{100 * statistics.quantiles(between, n=10)[-1]:.2f} %). Rate of the loop over that of one worker, "
            f"less 1: {100 * overhead:.1f} %. Throughput of two workers against one: {gain:.2f} times.",
        ]
    machine = f"{processors.cores()} cores, Python {platform.python_version()}, {platform.machine()}"
    return "\n".join([*lines, "", f"{machine}, load {os.getloadavg()[0]:.1f} at the end.", ""])


if __name__ == "__main__":
    main()
