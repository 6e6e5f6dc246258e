"""All four tables of the papers, every row and column, end to end on a stand-in store.

The store holds the label lists of the three corpora (a few clips per class and speaker) and random embeddings of the
sizes that the thirteen encoders have in the papers; every one of the 366 cells is cross-validated with all five folds
and one epoch. The figures mean nothing; that every cell is there, named and placed as printed, is the point.

    python benchmarks/tables_standin.py --out FOLDER [--jobs N] [--tables parrot_table1 ...]

An interrupted run goes on where it stopped. At the end it writes benchmarks/tables_standin.md.
"""

import argparse
import os
import platform
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from serfuse.corpora.base import Clip, Corpus
from serfuse.experiment import threads
from serfuse.store import AudioFacts, EmbeddingStore
from serfuse.store.key import EmbeddingKey
from serfuse.sweep import driver, grid, ledger, memory, plan, render, spec, table
from serfuse.sweep.processes import ProcessEngine

_SIX = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")
EMOTIONS = {"cremad": _SIX, "emodb": (*_SIX, "boredom"), "mesd": _SIX}
"""Label lists of the three corpora."""

SIZES = {
    ("wavlm", "time"): 768,
    ("wav2vec2", "time"): 768,
    ("hubert", "time"): 768,
    ("unispeech-sat", "time"): 768,
    ("mms-1b", "time"): 1280,
    ("xvector", "time"): 512,
    ("audiomamba-tiny", "time"): 960,
    ("audiomamba-small", "time"): 1920,
    ("audiomamba-base", "time"): 3840,
    ("encodec", "paper"): 375,
    ("dac", "paper"): 251,
    ("speechtokenizer", "paper"): 250,
    ("soundstream", "paper"): 256,
}
"""Printed length of each encoder's vectors, with the pooling that gives it."""

TABLES = ("hyfuse_table1", "hyfuse_table2", "parrot_table1", "parrot_table2")
SPEAKERS, TEXTS = 2, 3


def fill(
    root: Path,
    sizes: dict[tuple[str, str], int] | None = None,
    corpora: dict[str, tuple[str, ...]] | None = None,
    seed: int = 0,
) -> EmbeddingStore:
    """A store with `SPEAKERS * TEXTS` clips of each class and normally distributed embeddings."""
    store = EmbeddingStore(root)
    rng = np.random.default_rng(seed)
    for corpus, emotions in (corpora or EMOTIONS).items():
        clips = [
            Clip(f"s{s}-t{t}-{emotion}", Path(f"/nowhere/s{s}-t{t}-{emotion}.wav"), emotion, f"s{s}", f"t{t}")
            for emotion in emotions
            for s in range(SPEAKERS)
            for t in range(TEXTS)
        ]
        facts = {clip.id: AudioFacts(f"{number:064x}", 5.0) for number, clip in enumerate(clips)}
        store.write_corpus(Corpus(corpus, tuple(clips), synthetic=True), facts)
        ids = [clip.id for clip in clips]
        for (encoder, pooling), size in (sizes or SIZES).items():
            key = EmbeddingKey(encoder, "random:0", pooling=pooling, pad="5.000" if pooling == "paper" else "none")
            if not store.present(corpus, key):
                matrix = rng.normal(size=(len(ids), size))
                store.append(corpus, key, ids, [facts[name].audio for name in ids], matrix)
    return store


def narrowed(whole: grid.Grid) -> grid.Grid:
    """One cell of each column, and of each block; the other cells stay in the table, as missing."""
    blocks = [[row for row in whole.rows if row.block == block] for block in range(len(whole.blocks))]
    wanted = set()
    for number in range(max(len(blocks), len(whole.columns))):
        rows = blocks[number % len(blocks)]
        wanted.add((rows[number % len(rows)], whole.columns[number % len(whole.columns)]))
    return replace(whole, experiments=tuple(e for e in whole.experiments if (e.row, e.column) in wanted))


class _Kept(ProcessEngine):
    """Workers that serve several sweeps one after the other."""

    def close(self) -> None:
        """Not yet."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path, required=True, help="folder for the store and the results")
    options.add_argument("--jobs", type=int, default=1)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--tables", nargs="*", default=TABLES)
    options.add_argument("--folds", type=int, help="fewer than the papers' five")
    options.add_argument("--report", type=Path, default=Path(__file__).with_suffix(".md"))
    options.add_argument("--narrow", action="store_true", help="few cells, short vectors, two folds")
    given = options.parse_args()
    store = fill(
        given.out / "store", {kind: 12 + size // 100 for kind, size in SIZES.items()} if given.narrow else None
    )
    folds = given.folds or (2 if given.narrow else 5)
    settings = ["training.epochs=1", f"split.folds={folds}"]
    lines, cells_in_all, units_in_all = [], 0, 0
    workers = _Kept(store.root, given.jobs, given.threads, memory.Budget(), given.out / "workers.log", devices=[])
    for name in given.tables:
        content, _ = spec.read(name)
        asked = grid.expand(content, assignments=settings)
        planned = plan.make(narrowed(asked) if given.narrow else asked, store)
        folder = ledger.Ledger(given.out / name)
        folder.create()
        begun = time.time()
        print(f"{name}: {len(planned.units)} units", flush=True)
        progress = driver.run(
            planned,
            folder,
            workers,
            report=lambda p, news: print(f"{len(p.done)} {news}", flush=True) if news else None,
        )
        found = table.make(planned, folder)
        for form, file in ledger.TABLES.items():
            (folder.folder / file).write_text(render.render(found, form), "utf-8")
        rows, columns = found.shape
        figures = [figure for block in found.blocks for line in block.lines for figure in line.figures]
        measured = sum(figure.measured is not None for figure in figures)
        printed = sum(figure.printed is not None for figure in figures)
        cells = len(planned.planned)
        cells_in_all, units_in_all = cells_in_all + cells, units_in_all + len(progress.done)
        peak = max((done.peak_bytes for done in progress.done.values()), default=0)
        work = sum(done.seconds for done in progress.done.values())
        lines.append(
            f"| {name} | {rows} | {columns} | {cells} | {folds} | {len(progress.done)} | {len(progress.failed)} | "
            f"{measured} | {printed} | {work:.0f} | {peak / 2**20:.0f} |"
        )
        print(lines[-1], f"{time.time() - begun:.0f} s", flush=True)
    ProcessEngine.close(workers)
    given.report.write_text(_report(lines, cells_in_all, units_in_all), "utf-8")


def _report(lines: list[str], cells: int, units: int) -> str:
    return "\n".join(
        [
            "# The papers' tables, end to end on random embeddings",
            "",
            "Written by `python benchmarks/tables_standin.py`: label lists of CREMA-D, Emo-DB and MESD with "
            f"{SPEAKERS * TEXTS} clips per class, random embeddings for thirteen encoders (of the printed sizes unless "
            "`--narrow`), one epoch. The accuracies are chance and are not shown; what counts is that every figure of "
            "the printed tables has its measured one.",
            "",
            "| table | rows | columns of figures | cells | folds | units finished | failed | figures measured | "
            "figures printed | training seconds | largest peak, MiB |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
            *lines,
            "",
            f"{cells} cells, {units} units. {threads.cores()} cores, Python {platform.python_version()}, Keras "
            f"backend {os.environ.get('KERAS_BACKEND', 'tensorflow')}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
