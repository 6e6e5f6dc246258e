"""What all layers of an encoder cost beside its last one alone: processor time, in turns within one process.

    python benchmarks/layers_in_one_pass.py EMODB_WAV_FOLDER [--encoder hubert] [--clips 48] [--turns 2] [--random]

With `--random` the weights are drawn, which takes as long as the published ones. Prints seconds, the ratio, and bytes
on disk of one layer and of all.
"""

import argparse
import tempfile
import time
from pathlib import Path

from serfuse import encoders
from serfuse.corpora import read
from serfuse.encoders.base import LoadRequest
from serfuse.extraction.extract import Extraction
from serfuse.store import EmbeddingStore


def measured(corpus, encoder: str, layer: str, clips: int, weights: str | None) -> tuple[float, float, int, int]:
    """Processor and wall seconds of an extraction, loading included; its bytes on disk, and its keys."""
    with tempfile.TemporaryDirectory() as folder:
        extraction = Extraction(corpus, EmbeddingStore(folder), limit=clips)
        cpu, wall = time.process_time(), time.monotonic()
        reports = list(extraction.each({encoder: LoadRequest(layer=layer, weights=weights)}))
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        for report in reports:
            assert report.complete and report.done == clips, report.error
        size = sum(path.stat().st_size for path in Path(folder).rglob("part-*.parquet"))
        return cpu, wall, size, len(reports)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wav", type=Path)
    parser.add_argument("--encoder", default="hubert")
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--random", action="store_true")
    given = parser.parse_args()
    corpus, weights = read("emodb", given.wav), "random" if given.random else None
    print(f"{given.encoder}, {given.clips} clips, weights {weights or encoders.weights_status(given.encoder)[1]}")
    found: dict[str, list[tuple[float, float, int, int]]] = {"last": [], "all": []}
    measured(corpus, given.encoder, "last", 1, weights)  # imports its libraries
    for _ in range(given.turns):
        for layer in found:
            found[layer].append(measured(corpus, given.encoder, layer, given.clips, weights))
            cpu, wall, size, keys = found[layer][-1]
            print(f"  {layer:>4}: {cpu:6.1f} s of processor, {wall:6.1f} s, {keys:2} keys, {size:,} bytes", flush=True)
    last, every = (min(cpu for cpu, *_ in found[layer]) for layer in ("last", "all"))
    print(f"all layers / last layer: {every / last:.3f} of processor time (least of {given.turns} turns)")


if __name__ == "__main__":
    main()
