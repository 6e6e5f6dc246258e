"""Kills the actors and the driver of `serfuse extract --engine ray` at random moments, and looks at what is left.

    python benchmarks/ray_kills.py [--kills 20] [--seed 0]

Half of the kills take an actor, half the driver. After each driver that was killed the store must hold whole rows
only; at the end, the rows of an extraction that nothing disturbed, to the last digit, and nothing may have been
computed twice after its commit. About ten seconds a kill on two cores.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

from serfuse import ray_cluster
from serfuse.corpora import synthetic
from serfuse.extraction.extract import Extraction
from serfuse.store import EmbeddingStore, verification

DRIVER = """
import json, sys
from pathlib import Path
from serfuse.corpora import synthetic
from serfuse.extraction.ray_engine import Embedding, RayExtraction
from serfuse.store import EmbeddingStore

class Slow(Embedding):
    def __call__(self, batch):
        import time
        time.sleep(0.05)
        return super().__call__(batch)

corpus = synthetic.read(Path(sys.argv[2]))
with RayExtraction(corpus, EmbeddingStore(sys.argv[3]), address=sys.argv[1], jobs=1, batch_seconds=0.1,
                   flush_seconds=0, actor=Slow) as extraction:
    report = extraction.run("logmel")
print(json.dumps([report.done, report.reused, report.failed]))
"""


def actors() -> list[psutil.Process]:
    """Workers that embed, of the cluster that this process started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any("MapBatches" in word for word in process.cmdline()):
                found.append(process)
    return found


def held(store: EmbeddingStore) -> set[str]:
    """Clips with a row."""
    if not store.corpora() or not store.keys("synthetic"):
        return set()
    return set(store.select("synthetic", store.keys("synthetic")[0]).ids.to_pylist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = synthetic.generate(folder / "corpus", speakers=6, texts=3, takes=4, seed=7)
        whole = EmbeddingStore(folder / "whole")
        key = Extraction(corpus, whole).run("logmel").key
        module, _ = ray_cluster.connect(None, 4)
        address = module.get_runtime_context().gcs_address
        killed = {"actor": 0, "driver": 0}
        while sum(killed.values()) < arguments.kills:
            store = EmbeddingStore(folder / f"store{sum(killed.values())}")
            before: set[str] = set()
            while True:
                words = [sys.executable, "-P", "-c", DRIVER, address, str(folder / "corpus"), str(store.root)]
                driver = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                what = moments.choice(["actor", "driver"])
                while driver.poll() is None and len(held(store)) <= len(before):
                    time.sleep(0.05)
                time.sleep(moments.uniform(0, 2))
                if sum(killed.values()) < arguments.kills and driver.poll() is None:
                    victims = actors() if what == "actor" else [psutil.Process(driver.pid)]
                    for victim in victims:
                        victim.kill()
                    killed[what] += bool(victims)
                output, errors = driver.communicate()
                now = held(store)
                assert before <= now, "a row was lost"
                assert not verification.verify(store).findings
                if driver.returncode == 0:
                    done, reused, failed = json.loads(output.splitlines()[-1])
                    assert not failed, failed
                    assert (done, reused) == (len(corpus.clips) - len(before), len(before)), "computed twice"
                    break
                assert driver.returncode == -9, errors
                before = now
            np.testing.assert_array_equal(store.load("synthetic", key)[1], whole.load("synthetic", key)[1])
            print(f"{killed['actor']} actors and {killed['driver']} drivers killed: every row there once", flush=True)
        module.shutdown()


if __name__ == "__main__":
    main()
