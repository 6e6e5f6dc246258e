"""Time and memory of a clip table of a million rows: read, surveyed, written into a store, joined, split.

    python benchmarks/corpora.py --rows 1000000 --folder /tmp/corpora-benchmark

The rows are pieces of a thousand files, as they are of a corpus cut out of longer recordings, by five thousand
speakers. Every step runs in a process of its own. Its memory is the growth of the process' peak over what it begins
with: for "read" that is the corpus itself, for "survey and record" what comes on top of it, for "join" the clips and a
mapped array of 16 values each, which is counted, for "split" the ids of all parts of ten folds.
"""

import gc
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

FILES, SPEAKERS, SIZE = 1000, 5000, 16
FORMATS = ("csv", "jsonl", "parquet")
STEPS = (*(f"read {kind}" for kind in FORMATS), "survey and record", "survey again", "append", "join", "split", "audit")


@click.command()
@click.option("--rows", default=100_000, show_default=True)
@click.option("--folder", default="corpora-benchmark", type=click.Path(path_type=Path), show_default=True)
@click.option("--step", help="Run one step in this process.", hidden=True)
def main(rows: int, folder: Path, step: str | None) -> None:
    """Run every step in a process of its own, and print a line for each."""
    if step:
        click.echo(json.dumps(run(step, rows, folder)))
        return
    try:
        # In a process of its own too: a peak of memory is inherited.
        for name in ("make", *STEPS):
            command = [sys.executable, __file__, "--rows", str(rows), "--folder", str(folder), "--step", name]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds, used, grown = json.loads(done.stdout).values()
            click.echo(f"{name:18} {seconds:7.2f} s {used:7.2f} s of CPU {grown:7.0f} MB")
    finally:
        shutil.rmtree(folder)


def make(rows: int, folder: Path) -> None:
    """The files, and a table of their pieces in each format."""
    import pandas as pd
    import soundfile

    (folder / "wav").mkdir(parents=True)
    each = -(-rows // FILES)
    for number in range(FILES):
        soundfile.write(folder / "wav" / f"f{number:04d}.wav", np.full(8 * each, 0.1 + number / 10_000), 8)
    number = np.arange(rows)
    table = pd.DataFrame(
        {
            "file": [f"wav/f{n // each:04d}.wav" for n in number],
            "start": (number % each).astype(float),
            "end": (number % each).astype(float) + 0.5,
            "emotion": np.array(["anger", "happiness", "neutral", "sadness"])[number * 7 % 4],
            "speaker": [f"s{n:05d}" for n in np.random.default_rng(0).integers(0, SPEAKERS, rows)],
        }
    )
    table.to_csv(folder / "clips.csv", index=False)
    table.to_json(folder / "clips.jsonl", orient="records", lines=True)
    table.to_parquet(folder / "clips.parquet", index=False)


def run(step: str, rows: int, folder: Path) -> dict[str, float]:
    """One step: its seconds, those on the CPU, and by how many megabytes the peak of memory rose."""
    action = _action(step, rows, folder)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, used = time.perf_counter(), time.process_time()
    kept = action()
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    del kept
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": seconds, "cpu_seconds": used, "megabytes": grown}


def _action(step: str, rows: int, folder: Path) -> Callable[[], Any]:
    from serfuse import splits
    from serfuse.corpora import table
    from serfuse.extraction.survey import survey
    from serfuse.splits import folds, leakage
    from serfuse.store import EmbeddingKey, EmbeddingStore

    store, key = EmbeddingStore(folder / "store"), EmbeddingKey("hubert")
    if step == "make":
        return lambda: make(rows, folder)
    if step.startswith("read "):
        return lambda: table.read(folder / f"clips.{step.partition(' ')[2]}", "c")
    if step.startswith("survey"):
        corpus = table.read(folder / "clips.parquet", "c")
        return lambda: store.write_corpus(corpus, survey(corpus, store))
    clips = store.clips("c")
    if step == "append":
        ids, audio = clips["id"].tolist(), clips["audio"].tolist()
        matrix = np.random.default_rng(0).normal(size=(len(ids), SIZE)).astype(np.float32)

        def append() -> None:
            for start in range(0, len(ids), 20_000):
                some = slice(start, start + 20_000)
                store.append("c", key, ids[some], audio[some], matrix[some])
            store.compact("c", key)

        return append
    if step == "join":
        del clips
        return lambda: store.join("c", [key])
    splits.get("loso")
    if step == "split":
        return lambda: folds.split(clips, "loso")
    parts = folds.split(clips, "loso")
    return lambda: leakage.audit(clips, parts)


if __name__ == "__main__":
    main()
