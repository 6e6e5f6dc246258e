"""What a sweep costs over the bare training loop, and what a second process gains.

    python benchmarks/sweep.py [--out FOLDER] [--units N]

The same units are trained three times: by a plain loop over `crossval.run_fold` in one process, by a sweep with one
worker, and by a sweep with two. All use one thread per process. Start-up (importing TensorFlow) is reported apart from
the steady rate, which counts from the first finished unit to the last. Writes benchmarks/sweep.md.
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
from pathlib import Path

import numpy as np
import yaml

from serfuse.corpora.base import Clip, Corpus
from serfuse.embedding_key import EmbeddingKey
from serfuse.store import AudioFacts, EmbeddingStore
from serfuse.sweep import engine

EMOTIONS = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
SPEAKERS, TAKES, SIZE, EPOCHS = 10, 8, 768, 20


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


def sweep_file(path: Path, units: int) -> None:
    """A sweep of `units` units: a fully connected network, five folds for each seed."""
    values = {
        "title": "Benchmark",
        "corpora": {"emodb": "Emo-DB"},
        "models": {"fcn": {}},
        "blocks": [{"rows": ["hubert"]}],
        "seeds": list(range(units // 5)),
        "settings": {"training": {"epochs": EPOCHS, "patience": EPOCHS}},
    }
    path.write_text(yaml.safe_dump(values), "utf-8")


def bare(store: Path, sweep: Path) -> None:
    """The plain loop; prints a JSON line with the seconds of each unit. Runs in a process of its own."""
    from serfuse import crossval, fitting
    from serfuse.sweep import grid, spec

    content, _ = spec.read(str(sweep))
    configs = [experiment.config for experiment in grid.expand(content).experiments]
    fitting.set_up_backend()
    dataset = crossval.load_dataset(configs[0], EmbeddingStore(store))
    moments = []
    for config in configs:
        for fold in crossval.plan(config, dataset):
            crossval.run_fold(config, dataset, fold)
            moments.append(time.time())
    print(json.dumps(moments))


def _moments(out: Path) -> list[float]:
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    return [entry["time"] for entry in entries if entry["event"] == "finish"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path)
    options.add_argument("--units", type=int, default=30)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--report", type=Path, default=Path(__file__).with_suffix(".md"))
    options.add_argument("--bare", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.bare:
        bare(*given.bare)
        return
    root = given.out or Path(tempfile.mkdtemp(prefix="serfuse-sweep-"))
    root.mkdir(parents=True, exist_ok=True)
    store, sweep = root / "store", root / "benchmark.yaml"
    fill(store)
    sweep_file(sweep, given.units)
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    environment = {**os.environ, **threads, "CUDA_VISIBLE_DEVICES": "-1"}
    rates: dict[str, list[float]] = {"loop": [], "1": [], "2": []}
    starts: dict[str, list[float]] = {"loop": [], "1": [], "2": []}
    for number in range(given.rounds):  # the three take turns, so that a busy moment does not hit one of them alone
        for kind in rates:
            begun = time.time()
            if kind == "loop":
                command = [sys.executable, __file__, "--bare", str(store), str(sweep)]
                done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
                moments = json.loads(done.stdout.splitlines()[-1])
            else:
                out = root / f"jobs{kind}-{number}"
                shutil.rmtree(out, ignore_errors=True)
                command = [sys.executable, "-c", "from serfuse.cli import main; main()", "sweep", str(sweep)]
                command += ["--store", str(store), "--out", str(out), "--jobs", kind, "--threads", "1", "--quiet"]
                subprocess.run(command, env=environment, check=True, capture_output=True)
                moments = _moments(out)
            first = int(kind) if kind != "loop" else 1
            rates[kind].append((len(moments) - first) / (moments[-1] - moments[first - 1]))
            starts[kind].append(moments[0] - begun)
            print(f"{kind}: {rates[kind][-1]:.3f} units/s, first unit after {starts[kind][-1]:.1f} s", flush=True)
    given.report.write_text(_report(rates, starts, given.units), "utf-8")
    if given.out is None:
        shutil.rmtree(root)


def _report(rates: dict[str, list[float]], starts: dict[str, list[float]], units: int) -> str:
    middle = {kind: statistics.median(found) for kind, found in rates.items()}
    overhead = statistics.median(loop / one - 1 for loop, one in zip(rates["loop"], rates["1"], strict=True))
    gain = statistics.median(two / one for two, one in zip(rates["2"], rates["1"], strict=True))
    names = {"loop": "bare loop over `run_fold`", "1": "`serfuse sweep --jobs 1`", "2": "`serfuse sweep --jobs 2`"}
    return "\n".join(
        [
            "# What a sweep costs, and what a second process gains",
            "",
            f"Written by `python benchmarks/sweep.py`: {units} units (a fully connected network, {SIZE} values, "
            f"{len(EMOTIONS) * SPEAKERS * TAKES} clips, {EPOCHS} epochs, five folds per seed), one thread per process, "
            f"medians of {len(rates['1'])} rounds in turns.",
            "",
            "| | units/s | rounds | first unit after, s |",
            "|---|---:|---:|---:|",
            *(
                f"| {names[kind]} | {middle[kind]:.3f} | {', '.join(f'{rate:.3f}' for rate in found)} | "
                f"{statistics.median(starts[kind]):.1f} |"
                for kind, found in rates.items()
            ),
            "",
            f"Overhead per unit of one worker over the bare loop: {100 * overhead:.1f} %.",
            f"Throughput of two workers against one: {gain:.2f} times.",
            "",
            f"{engine.cores()} cores, Python {platform.python_version()}, {platform.machine()}, load "
            f"{os.getloadavg()[0]:.1f} at the end.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
