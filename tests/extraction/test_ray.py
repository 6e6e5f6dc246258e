"""Extraction on a Ray cluster: the same rows as on one machine, whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import counting_encoder
import numpy as np
import pytest
from click.testing import CliRunner

from serfuse import ray_cluster
from serfuse.cli import main
from serfuse.corpora.base import Corpus
from serfuse.encoders import ENCODERS, EncoderEntry, LoadRequest
from serfuse.errors import ConfigError
from serfuse.extraction.extract import Extraction
from serfuse.store import EmbeddingStore

ray = pytest.importorskip("ray")

pytestmark = [
    pytest.mark.slow,
    # Ray 2.60's own start-up.
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster that this process is connected to."""
    module, _ = ray_cluster.connect(None, 4)
    yield module.get_runtime_context().gcs_address
    module.shutdown()


@pytest.fixture(scope="module")
def whole(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The rows of an extraction that nothing disturbed."""
    store = EmbeddingStore(tmp_path_factory.mktemp("whole"))
    return rows(store, Extraction(tiny_corpus, store).run("logmel"))


def rows(store: EmbeddingStore, report: Any) -> np.ndarray:
    return store.load(store.corpora()[0], report.key)[1]


def test_a_cluster_goes_on_where_a_machine_ended_and_a_lost_actor_loses_its_batch(
    cluster: str, tiny_corpus: Corpus, whole: np.ndarray, tmp_path: Path
) -> None:
    from serfuse.extraction.ray_engine import Embedding, RayExtraction

    store, log = EmbeddingStore(tmp_path / "store"), tmp_path / "log"
    first = Extraction(tiny_corpus, store, shard="1/2").run("logmel")
    here = set(store.load(store.corpora()[0], first.key)[0])
    poison = min({clip.id for clip in tiny_corpus.clips} - here)
    text, begun = str(log), str(tmp_path / "begun")

    class Deadly(Embedding):
        """Ends with the first batch that it gets, and with one clip always."""

        def __call__(self, batch: dict) -> dict:
            import json
            import os

            clips = [item["id"] for item in json.loads(batch["batch"][0])["clips"]]
            with open(text, "a") as file:
                file.write("".join(f"{clip}\n" for clip in clips))
            if poison in clips or not os.path.exists(begun):
                open(begun, "w").close()
                os._exit(1)
            return super().__call__(batch)

    with RayExtraction(tiny_corpus, store, batch_seconds=0.1, jobs=1, actor=Deadly) as extraction:
        report = extraction.run("logmel")
    assert (report.done, report.reused) == (23, 24) and report.remarks == first.remarks
    assert [clip for clip, _ in report.failed] == [poison] and "was lost 4 times" in report.failed[0][1]
    times = Counter(log.read_text().splitlines())
    assert not here & set(times), "what the store has is not computed again"
    assert times.pop(poison) in (4, 5)  # the first batch of all may be its own
    assert sorted(times.values())[:-1] == [1] * 22 and max(times.values()) <= 2, "only the lost batch is repeated"
    last = Extraction(tiny_corpus, store).run("logmel")
    assert (last.done, last.reused) == (1, 47)
    np.testing.assert_array_equal(rows(store, last), whole)


_DRIVER = """
import sys
from pathlib import Path
from serfuse.corpora import synthetic
from serfuse.extraction.ray_engine import Embedding, RayExtraction
from serfuse.store import EmbeddingStore

class Slow(Embedding):
    def __call__(self, batch):
        import time
        time.sleep(0.1)
        return super().__call__(batch)

corpus = synthetic.read(Path(sys.argv[2]))
extraction = RayExtraction(corpus, EmbeddingStore(sys.argv[3]), address=sys.argv[1], batch_seconds=0.1,
                           flush_seconds=0, jobs=1, actor=Slow)
extraction.run("logmel")
"""


def test_a_killed_driver_leaves_what_arrived_and_the_next_call_computes_the_rest(
    cluster: str, tiny_corpus: Corpus, tiny_corpus_dir: Path, whole: np.ndarray, tmp_path: Path
) -> None:
    store = EmbeddingStore(tmp_path / "store")
    words = [sys.executable, "-P", "-c", _DRIVER, cluster, str(tiny_corpus_dir), str(store.root)]
    driver = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until = time.monotonic() + 300
    while len(list(store.root.glob("*/*/part-*.parquet"))) < 3:
        assert driver.poll() is None, driver.stderr.read().decode()
        assert time.monotonic() < until
        time.sleep(0.01)
    time.sleep(np.random.default_rng().uniform(0, 0.5))
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    corpus = store.corpora()[0]
    (key,) = store.keys(corpus)
    there = set(store.load(corpus, key)[0])
    assert 3 <= len(there) < 48
    words = ["extract", "--corpus", "synthetic", "--data", str(tiny_corpus_dir), "--encoder", "logmel", "--json"]
    found = CliRunner().invoke(main, [*words, "--engine", "ray", "--store", str(store.root)])
    assert found.exit_code == 0, found.output
    (report,) = json.loads(found.stdout)["encoders"]
    assert (report["done"], report["reused"]) == (48 - len(there), len(there))
    ids, matrix = store.load(corpus, key)
    assert len(set(ids)) == len(ids) == 48
    np.testing.assert_array_equal(matrix, whole)


def test_several_keys_of_one_forward_arrive_each_under_its_own(
    cluster: str, tiny_corpus: Corpus, whole: np.ndarray, tmp_path: Path
) -> None:
    from serfuse.extraction.ray_engine import RayExtraction

    store = EmbeddingStore(tmp_path / "store")
    Extraction(tiny_corpus, store, limit=40).run("logmel")
    with RayExtraction(tiny_corpus, store, jobs=1, pooling="time,mean-std") as extraction:
        time, both = extraction.each(["logmel"])
    assert (time.key.pooling, time.done, time.reused) == ("time", 8, 40)
    assert (both.key.pooling, both.done, both.reused) == ("mean-std", 48, 0)
    np.testing.assert_array_equal(rows(store, time), whole)
    np.testing.assert_array_equal(rows(store, both)[:, : whole.shape[1]], whole)


def test_what_a_cluster_cannot_do_is_said(cluster: str, tiny_corpus: Corpus, tmp_path: Path) -> None:
    from serfuse.encoders import load
    from serfuse.extraction.ray_engine import RayExtraction

    with RayExtraction(tiny_corpus, EmbeddingStore(tmp_path)) as extraction:
        (report,) = extraction.each([load("logmel")])
        assert "load encoders by name" in report.error
    with pytest.raises(ConfigError, match="jobs must be at least 1"):
        RayExtraction(tiny_corpus, EmbeddingStore(tmp_path), jobs=0)
    found = CliRunner().invoke(
        main, ["extract", "--corpus", "synthetic", "--data", ".", "--encoder", "logmel", "--address", "auto"]
    )
    assert found.exit_code == 2 and "--engine ray" in found.output


class Paddable(counting_encoder.CountingBatch):
    """Takes clips of any lengths at once."""

    pads = True

    def frames_batch(self, waveforms: Any) -> list[np.ndarray]:
        return [self.frames(waveform) for waveform in waveforms]


class InPlace:
    """As much of a cluster with a GPU on a far machine, and of its datasets, as extraction asks for; all here."""

    def __init__(self) -> None:
        self.batches = 0
        self.settings: dict[str, Any] = {}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 2}}, {"Alive": True, "Resources": {"CPU": 8, "GPU": 2}}]

    def from_items(self, items: list[dict[str, Any]], **_: Any) -> "InPlace":
        self.rows, self.batches = items, len(items)
        return self

    def map(self, function: Any, *, fn_kwargs: dict[str, Any], **_: Any) -> "InPlace":
        self.rows = [function(row, **fn_kwargs) for row in self.rows]
        return self

    def map_batches(self, actor: Any, *, fn_constructor_args: tuple[Any, ...], **settings: Any) -> "InPlace":
        self.settings, made = settings, actor(*fn_constructor_args)
        self.rows = [made({name: [value] for name, value in row.items()}) for row in self.rows]
        return self

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        return ({name: value if name == "number" else value[0] for name, value in row.items()} for row in self._flat())

    def _flat(self) -> list[dict[str, Any]]:
        return [{**row, "number": row["number"][0]} for row in self.rows]


@pytest.mark.parametrize(("device", "gpus", "actors"), [("auto", 1, 2), ("cuda", 1, 2), ("cpu", 0, 2)])
def test_the_actors_device_decides_which_clips_go_together(
    device: str,
    gpus: int,
    actors: int,
    tiny_corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """Not that of this process, which has no GPU."""
    import ray.data

    from serfuse.extraction.ray_engine import Embedding, RayExtraction

    preset = counting_encoder.COUNTING_BATCH.preset
    ENCODERS.register(preset.name, EncoderEntry(preset, Paddable))
    request.addfinalizer(lambda: ENCODERS.unregister(preset.name))
    asked: list[str] = []

    class Noting(Embedding):
        """Would find the GPU that is not here."""

        def __init__(self, jobs: Any, *settings: Any) -> None:
            asked.extend(one[1].device for one in jobs)
            super().__init__([(one[0], LoadRequest(device="cpu"), *one[2:]) for one in jobs], *settings)

    cluster = InPlace()
    monkeypatch.setattr(ray_cluster, "connect", lambda *_: (cluster, False))
    for name in ("from_items", "ActorPoolStrategy"):
        monkeypatch.setattr(ray.data, name, getattr(cluster, name, lambda size: size))
    store, here = EmbeddingStore(tmp_path / "store"), EmbeddingStore(tmp_path / "here")
    with RayExtraction(tiny_corpus, store, actor=Noting) as extraction:
        report = extraction.run(preset.name, LoadRequest(device=device))
        lengths = len({facts.seconds for facts in extraction.facts.values()})
    assert asked == [device] and (report.done, report.failed) == (48, [])
    assert (cluster.settings["num_gpus"], cluster.settings["compute"]) == (gpus, actors)
    assert cluster.batches < lengths / 2 if gpus else cluster.batches >= lengths
    alone = Extraction(tiny_corpus, here).run(preset.name)
    np.testing.assert_array_equal(rows(store, report), rows(here, alone))


def test_a_device_that_no_actor_would_have_is_refused(cluster: str, tiny_corpus: Corpus, tmp_path: Path) -> None:
    from serfuse.extraction.ray_engine import RayExtraction

    with RayExtraction(tiny_corpus, EmbeddingStore(tmp_path)) as extraction:
        for device, message in (("cuda", "no GPU"), ("cuda:1", "by itself"), ("gpu", "Unknown device")):
            with pytest.raises(ConfigError, match=message):
                extraction.run("logmel", LoadRequest(device=device))
