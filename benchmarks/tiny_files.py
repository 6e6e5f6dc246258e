"""What `serfuse extract` costs for very many tiny files, where the work around an encoder is all there is.

    python benchmarks/tiny_files.py --files 100000 --folder /tmp/tiny-files

writes so many recordings of 0.1 s (400 MB for 100,000), extracts them with the lightest encoder (logmel), and then
again with nothing left to do. Each extraction is a process of its own; the survey, which hashes every file, is part of
it. Seconds on the clock and of the processor, milliseconds of the processor for each clip, and the peak of memory. With
several numbers of files (`--files 25000 --files 100000`) the lines show whether memory and the time for a clip stay the
same.
"""

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np

RATE, SAMPLES = 16000, 1600
IN_A_FOLDER = 1000
ENCODER = "logmel"


@click.command()
@click.option("--files", "numbers", multiple=True, default=(100_000,), show_default=True)
@click.option("--folder", default="tiny-files", type=click.Path(path_type=Path), show_default=True)
@click.option("--keep", is_flag=True, help="Leave the files and the stores there.")
@click.option("--run", "count", type=int, help="Extract in this process.", hidden=True)
def main(numbers: tuple[int, ...], folder: Path, keep: bool, count: int | None) -> None:
    """Make the files, extract them twice, and print a line for each."""
    if count:
        click.echo(json.dumps(extract(count, folder)))
        return
    if folder.exists() and not (folder / "wav").is_dir():
        raise click.UsageError(f"{folder} exists and is none of this program's folders. Name another one.")
    try:
        make(max(numbers), folder)
        click.echo(f"{'':28} {'wall s':>9} {'CPU s':>9} {'CPU ms/clip':>12} {'peak MB':>9} {'computed':>9}")
        for number in numbers:
            for what in ("extract", "again"):
                command = [sys.executable, __file__, "--folder", str(folder), "--run", str(number)]
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                click.echo(
                    f"{number:>14,} files, {what:<8} {found['wall']:9.1f} {found['used']:9.1f} "
                    f"{1000 * found['used'] / number:12.3f} {found['peak']:9.0f} {found['done']:9d}"
                )
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def make(count: int, folder: Path) -> None:
    """Recordings of noise, no two alike, a thousand in a folder; those that are there already stay."""
    import soundfile

    for number in range(count):
        path = path_of(number, folder)
        if number % IN_A_FOLDER == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            noise = np.random.default_rng(number).integers(-3000, 3000, SAMPLES, dtype=np.int16)
            soundfile.write(path, noise, RATE, subtype="PCM_16")


def path_of(number: int, folder: Path) -> Path:
    """Of a recording."""
    return folder / "wav" / f"{number // IN_A_FOLDER:04d}" / f"{number:07d}.wav"


def extract(count: int, folder: Path) -> dict[str, float]:
    """Extract the first so many files into a store of their own: what it took."""
    from serfuse import encoders
    from serfuse.corpora.base import Clip, Corpus
    from serfuse.extraction.extract import Extraction
    from serfuse.store import EmbeddingStore

    emotions = ("anger", "happiness", "neutral", "sadness")
    clips = tuple(Clip(f"{n:07d}", path_of(n, folder), emotions[n % 4]) for n in range(count))
    encoder = encoders.load(ENCODER)
    begun, used = time.perf_counter(), time.process_time()
    report = Extraction(Corpus("tiny", clips), EmbeddingStore(folder / f"store-{count}")).run(encoder)
    wall, used = time.perf_counter() - begun, time.process_time() - used
    if not report.complete or report.done + report.reused != count:
        raise SystemExit(f"{report.done + report.reused} of {count} clips are there: {report.failed[:3]}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)
    return {"wall": wall, "used": used, "peak": peak, "done": report.done}


if __name__ == "__main__":
    main()
