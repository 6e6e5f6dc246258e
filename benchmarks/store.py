"""Time and memory of the store beside a raw npy memory map of the same rows.

    python benchmarks/store.py --rows 1000000 --folder /tmp/store-benchmark --json figures.json

The folder takes three times the size of the rows (9 GB for a million of 768 values) and is removed at the end. Every
step runs in a process of its own, which says how much its memory grew beyond the array that it hands over (mapped pages
count as the array's). Rows are appended in no order, 20,000 at a time, as an extraction that goes by length does.

So that like is compared with like: when all is written, the system is told to forget the files, and each is read once
by what reads it later, so that all come from its memory if they fit, in the pages in which it fetches them and not in
those in which they happened to be written; what reads them is done by turns, of which the quickest counts, for the
memory map as for the store; and the npy is copied before and after the compaction, which can be done only once, and the
mean of both counts.
"""

import json
import os
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

SIZE, CHUNK, BATCH = 768, 20_000, 32
WRITING = ("write", "write npy", "copy", "compact", "copy")
READING = ("verify", "open and join", "read npy", "join and read", "look up npy", "look up")
READING += ("mini-batches npy", "mini-batches")


@click.command()
@click.option("--rows", default=200_000, show_default=True)
@click.option("--folder", default="store-benchmark", type=click.Path(path_type=Path), show_default=True)
@click.option("--turns", default=3, show_default=True, help="How often each step that only reads is done.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Keep the figures here.")
@click.option("--step", help="Run one step in this process.", hidden=True)
def main(rows: int, folder: Path, turns: int, out: Path | None, step: str | None) -> None:
    """Run every step in a process of its own, and print a table, with the two aims that are ratios."""
    if step:
        click.echo(json.dumps(run(step, rows, folder)))
        return
    folder.mkdir(parents=True)
    measured: dict[str, list[dict[str, float]]] = {}
    try:
        for name in WRITING:
            measured.setdefault(name, []).append(_by_itself(name, rows, folder))
        _forget(folder)
        for name in ("read npy", "join and read"):
            _by_itself(name, rows, folder)
        for name in READING * turns:
            measured.setdefault(name, []).append(_by_itself(name, rows, folder))
    finally:
        shutil.rmtree(folder)
    figures = {name: _brought_together(name, every) for name, every in measured.items()}
    for name, found in figures.items():
        seconds, used, grown = found.values()
        click.echo(f"{name:18} {seconds:7.2f} s {used:7.2f} s of CPU {grown:7.0f} MB beyond the rows")
    read, copied = (
        figures[one]["seconds"] / figures[other]["seconds"]
        for one, other in (("join and read", "read npy"), ("copy", "compact"))
    )
    click.echo(f"join and read takes {read:.2f} times what reading the memory map takes (aim: at most 2)")
    click.echo(f"compact goes at {copied:.2f} of the speed of the copy (aim: at least 0.5)")
    if out:
        said = {"rows": rows, "size": SIZE, "steps": figures, "every": measured}
        out.write_text(json.dumps(said, indent=2) + "\n")


def _by_itself(name: str, rows: int, folder: Path) -> dict[str, float]:
    """What a step says, in a process of its own."""
    command = [sys.executable, __file__, "--rows", str(rows), "--folder", str(folder), "--step", name]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _forget(folder: Path) -> None:
    """Have the system take the files out of its memory, where it can be told to."""
    for path in folder.rglob("*"):
        if path.is_file() and hasattr(os, "posix_fadvise"):
            with open(path, "r+b") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _brought_together(name: str, every: list[dict[str, float]]) -> dict[str, float]:
    """The mean of two copies, the quickest of what was done by turns; and the most memory."""
    if name in WRITING:
        found = {field: sum(one[field] for one in every) / len(every) for field in every[0]}
    else:
        found = min(every, key=lambda one: one["seconds"])
    return {**found, "megabytes": max(one["megabytes"] for one in every)}


def run(step: str, rows: int, folder: Path) -> dict[str, float]:
    """One step: its seconds, those on the CPU, and by how many megabytes the peak of memory rose beyond its result."""
    action = _action(step, rows, folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, used = time.perf_counter(), time.process_time()
    array = action()
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {
        "seconds": seconds,
        "cpu_seconds": used,
        "megabytes": grown - (0 if array is None else array.nbytes / 2**20),
    }


def _action(step: str, rows: int, folder: Path) -> Callable[[], Any]:
    from serfuse.store import EmbeddingKey, EmbeddingStore, verification

    store, key = EmbeddingStore(folder / "store"), EmbeddingKey("hubert")
    npy = folder / "rows.npy"
    if step == "write":
        return _write(store, key, rows)
    if step == "write npy":
        matrix = np.lib.format.open_memmap(npy, "w+", np.float32, (rows, SIZE))

        def write() -> None:
            for start in range(0, rows, CHUNK):
                matrix[start : start + CHUNK] = _chunk(start, min(CHUNK, rows - start))
            matrix.flush()

        return write
    if step == "copy":
        return lambda: _shell(f"cp {npy} {npy}.copy && sync {npy}.copy && rm {npy}.copy")
    if step == "compact":
        return lambda: store.compact("c", key)
    if step == "verify":
        return lambda: verification.verify(store) and None
    if step == "open and join":
        return lambda: store.join("c", [key])[1]["hubert"]

    def read_all(array: np.ndarray) -> np.ndarray:
        for start in range(0, len(array), 4096):
            array[start : start + 4096].sum()
        return array

    if step == "join and read":
        return lambda: read_all(store.join("c", [key])[1]["hubert"])
    if step == "read npy":
        return lambda: read_all(np.load(npy, mmap_mode="r"))
    names = [_name(number) for number in np.random.default_rng(0).integers(0, rows, 1000)]
    if step == "look up":
        return lambda: store.look_up("c", key, names)
    if step == "look up npy":
        return lambda: np.load(npy, mmap_mode="r")[np.random.default_rng(0).integers(0, rows, 1000)]
    array = store.join("c", [key])[1]["hubert"] if step == "mini-batches" else np.load(npy, mmap_mode="r")

    def batches() -> None:
        order = np.random.default_rng(0).permutation(rows)
        for start in range(0, rows, BATCH):
            array[order[start : start + BATCH]].sum()

    return batches


def _shell(command: str) -> None:
    subprocess.run(["sh", "-c", command], check=True)


def _write(store: Any, key: Any, rows: int) -> Callable[[], None]:
    from serfuse.corpora.base import Clip, Corpus
    from serfuse.store import AudioFacts

    clips = tuple(
        Clip(_name(n), Path(f"/audio/{n}.wav"), ("anger", "fear")[n % 2], f"s{n % 1000}") for n in range(rows)
    )
    facts = {clip.id: AudioFacts(_audio(n), 3.0) for n, clip in enumerate(clips)}
    store.write_corpus(Corpus("c", clips), facts)
    del clips, facts
    order = np.random.default_rng(1).permutation(rows)

    def write() -> None:
        for start in range(0, rows, CHUNK):
            some = order[start : start + CHUNK]
            ids, hashes = [_name(n) for n in some], [_audio(n) for n in some]
            store.append("c", key, ids, hashes, _chunk(start, len(some)))

    return write


_BASE = np.random.default_rng(0).normal(size=(CHUNK, SIZE)).astype(np.float32)


def _chunk(start: int, count: int) -> np.ndarray:
    return _BASE[:count] + np.float32(start)


def _name(number: int) -> str:
    return f"clip-{number:08d}"


def _audio(number: int) -> str:
    return f"{number:064x}"


if __name__ == "__main__":
    main()
