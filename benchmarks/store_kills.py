"""Kills compactions and conversions of a store at random moments, on a disk and in a storage that speaks S3.

    python benchmarks/store_kills.py --kills 20 --folder /tmp/store-kills

Each attempt begins with a store of its own: for "compact" five parts in no order, for "convert" one that serfuse 0.1.0
wrote. A process that works on it is killed after a random share of the time that the work takes; every second attempt
kills its successor too. After each kill, and after the work is done at last, labels and embeddings must be what they
were, to the last bit, and in the end no file may be damaged and the rows lie in one part.

The storage is moto's server, in a process of its own (`pip install moto[server] s3fs`). A process that is killed while
it holds the lock of a folder there leaves it for a minute, so that attempts on S3 take a minute or two each; several
run at once.
"""

import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click
import numpy as np

ROWS, SIZE, PARTS = 3000, 256, 5
FIRST = Path(__file__).resolve().parent.parent / "tests" / "compatibility" / "version_0_1" / "store"
CORPUS = {"compact": ("kills", "hubert"), "convert": ("synthetic", "prosody")}
PLACES, WORKS = ("disk", "s3"), ("compact", "convert")


@click.command()
@click.option("--kills", default=20, show_default=True, help="Attempts of each kind.")
@click.option("--folder", default="store-kills", type=click.Path(path_type=Path), show_default=True)
@click.option("--place", "places", multiple=True, type=click.Choice(PLACES), default=PLACES, show_default=True)
@click.option("--work", "works", multiple=True, type=click.Choice(WORKS), default=WORKS, show_default=True)
@click.option("--at-once", default=4, show_default=True)
def main(kills: int, folder: Path, places: tuple[str, ...], works: tuple[str, ...], at_once: int) -> None:
    """Kill, look, kill again, finish, look: a line for each place and work; the exit code is 1 when a row was lost."""
    folder.mkdir(parents=True)
    folder = folder.resolve()
    wrong = 0
    server = serve() if "s3" in places else None
    os.environ["SERFUSE_CACHE"] = str(folder / "copies")
    try:
        forked(lambda: begin(folder / "compact"))
        shutil.copytree(FIRST, folder / "convert")
        for place in places:
            for work in works:
                since = time.monotonic()
                results = attempts(kills, at_once, place, work, folder)
                cut = sum(count for _, count in results)
                wrong += (failed := sum(not whole for whole, _ in results))
                click.echo(
                    f"{work:8} {place:5} {kills} attempts, {cut} processes killed at work, {failed} with rows lost or "
                    f"files damaged, {time.monotonic() - since:.0f} s"
                )
    finally:
        if server is not None:
            server.terminate()
            server.wait()
        shutil.rmtree(folder)
    sys.exit(1 if wrong else 0)


def serve() -> subprocess.Popen:
    """A server that speaks S3, with an empty bucket; tools of this process and its children find it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    names = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}
    names["ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
    os.environ.update({f"AWS_{name}": value for name, value in names.items()})
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.1)

    def bucket() -> None:
        import s3fs

        s3fs.S3FileSystem().mkdir("bucket")

    forked(bucket)
    return server


def begin(folder: Path) -> None:
    """The store whose rows are to be compacted."""
    from serfuse.corpora.base import Clip, Corpus
    from serfuse.store import AudioFacts, EmbeddingKey, EmbeddingStore

    store, key = EmbeddingStore(folder), EmbeddingKey("hubert")
    ids = [f"k{number:06d}" for number in range(ROWS)]
    clips = tuple(Clip(name, Path(f"/nowhere/{name}.wav"), "anger", name[-1]) for name in ids)
    store.write_corpus(Corpus("kills", clips), {name: AudioFacts(f"{name}-1", 1.0) for name in ids})
    chance = np.random.default_rng(0)
    for some in np.array_split(chance.permutation(ROWS), PARTS):
        matrix = chance.normal(size=(len(some), SIZE)).astype(np.float32)
        store.append("kills", key, [ids[n] for n in some], [f"{ids[n]}-1" for n in some], matrix)


def attempts(kills: int, at_once: int, place: str, work: str, folder: Path) -> list[tuple[bool, int]]:
    """Whether all was well, and how many processes were killed while they worked, of each attempt."""
    timed = copied(folder, place, work, "timed")
    since = time.monotonic()
    os.waitpid(started(lambda: carry_out(timed, work)), 0)
    seconds = time.monotonic() - since
    expected = rows(str(folder / work), work)
    running: dict[int, Path] = {}
    results = []
    for number in range(kills + at_once):
        if number < kills:
            out = folder / f"{place}-{work}-{number}.result"
            one = _attempt(place, work, folder, number, seconds, expected, out)
            running[started(one)] = out
        if running and (number >= kills or len(running) >= at_once):
            process, _ = os.wait()
            text = out.read_text() if (out := running.pop(process)).exists() else "0 0"
            results.append((text.split()[0] == "1", int(text.split()[1])))
    return results


def _attempt(
    place: str, work: str, folder: Path, number: int, seconds: float, expected: str, out: Path
) -> Callable[[], None]:
    def attempt() -> None:
        chance, cut, whole = random.Random(f"{place} {work} {number}"), 0, True
        store = copied(folder, place, work, str(number))
        for _ in range(1 + number % 2):
            process = started(lambda: carry_out(store, work))
            time.sleep(chance.uniform(0, seconds))
            os.kill(process, signal.SIGKILL)
            cut += os.WIFSIGNALED(os.waitpid(process, 0)[1])
            whole &= rows(store, work) == expected
        forked(lambda: carry_out(store, work))
        whole &= rows(store, work) == expected
        whole &= _of_process(lambda: ended_well(store, work)) == "True"
        out.write_text(f"{int(whole)} {cut}")

    return attempt


def copied(folder: Path, place: str, work: str, name: str) -> str:
    """A store of its own for an attempt: its place."""
    if place == "disk":
        return str(shutil.copytree(folder / work, folder / f"{work}-{name}"))
    address = f"s3://bucket/{work}-{name}"

    def put() -> None:
        import s3fs

        for path in (folder / work).rglob("*"):
            if path.is_file() and path.name != ".lock":
                s3fs.S3FileSystem().put_file(str(path), f"{address}/{path.relative_to(folder / work)}")

    forked(put)
    return address


def carry_out(store: str, work: str) -> None:
    """The work that is killed."""
    from serfuse.store import EmbeddingStore, maintenance

    corpus, encoder = CORPUS[work]
    opened = EmbeddingStore(store)
    if work == "convert":
        maintenance.convert(opened, corpus)
    else:
        opened.compact(corpus, opened.find(corpus, encoder))


def rows(store: str, work: str) -> str:
    """A digest of labels and embeddings; "" where they cannot be read."""

    def read() -> str:
        from serfuse.store import EmbeddingStore

        corpus, encoder = CORPUS[work]
        opened = EmbeddingStore(store)
        clips, matrices = opened.join(corpus, [opened.find(corpus, encoder)])
        found = hashlib.sha256(clips.to_csv().encode())
        found.update(matrices[encoder].tobytes())
        return found.hexdigest()

    return _of_process(read)


def ended_well(store: str, work: str) -> bool:
    """Whether nothing is damaged or of an older format, and the rows lie in one part."""
    from serfuse.store import EmbeddingStore, verification

    corpus, encoder = CORPUS[work]
    opened = EmbeddingStore(store)
    found = verification.verify(opened)
    parts = list((opened.root / corpus / opened.find(corpus, encoder).folder).glob("part-*.parquet"))
    return not found.findings and not found.unsealed and len(parts) == 1


def started(action: Callable[[], object]) -> int:
    """A process that does something, by its number. What reaches a storage does not survive a fork, so this process,
    from which all others are forked, never reaches one."""
    process = os.fork()
    if not process:
        code = 1
        try:
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process


def forked(action: Callable[[], object]) -> None:
    """Do something in a process of its own."""
    if os.waitpid(started(action), 0)[1]:
        raise RuntimeError("a process that was not killed has failed; its error is above")


def _of_process(action: Callable[[], object]) -> str:
    """What a process of its own finds, as text; "" when it fails."""
    end, begin_ = os.pipe()

    def tell() -> None:
        os.write(begin_, str(action()).encode())

    process = started(tell)
    os.close(begin_)
    with os.fdopen(end) as read:
        text = read.read()
    os.waitpid(process, 0)
    return text


def load() -> None:
    """Import what the processes use before they are forked: their time is to go into the work that is killed."""
    import serfuse.store.maintenance
    import serfuse.store.verification

    assert serfuse.store
    with suppress(ImportError):
        import s3fs

        assert s3fs


if __name__ == "__main__":
    load()
    main()
