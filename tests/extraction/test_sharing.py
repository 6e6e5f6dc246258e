"""Several processes on one store divide the work, also when they are killed: the same rows, and none of them twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import counting_encoder
import numpy as np
import psutil
import pytest
import soundfile
from checkpoints import small_checkpoint

from serfuse import audio, encoders
from serfuse.audio.padding import PadPolicy
from serfuse.corpora import table
from serfuse.errors import ConfigError
from serfuse.extraction import extract
from serfuse.extraction.shard import Shard
from serfuse.store import EmbeddingKey, EmbeddingStore

CLIPS = 80
KILLS = int(os.environ.get("SERFUSE_KILLS", "3"))
RATE = 8000


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder per emotion, with clips of which no two are alike."""
    for number in range(CLIPS):
        path = tmp_path / "many" / ("anger", "fear")[number % 2] / f"{number:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.random.default_rng(number).normal(0, 0.1, 1600), RATE, subtype="FLOAT", format="WAV")
    return tmp_path / "many"


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(tmp_path / "store")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def start(many: Path, store: EmbeddingStore, log: Path, tmp_path: Path) -> Callable[..., subprocess.Popen]:
    """Starts a real, slow `serfuse extract` of the clips."""
    variables = counting_encoder.as_package(tmp_path / "package")
    variables |= {"COUNTING_LOG": str(log), "COUNTING_SLEEP": "0.05"}

    def begin(*arguments: str, **others: str) -> subprocess.Popen:
        command = [str(Path(sys.executable).parent / "serfuse"), "extract", "--corpus", "table", "--data", str(many)]
        command += ["--name", "many", "--encoder", "counting", "--store", str(store.root), "--flush-seconds", "0.1"]
        return subprocess.Popen(
            [*command, *arguments],
            env=variables | others,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return begin


def key() -> EmbeddingKey:
    counting_encoder.install()
    try:
        return extract.make_key(encoders.load("counting"), "time", PadPolicy.parse("none"))
    finally:
        counting_encoder.uninstall()


def stored(store: EmbeddingStore) -> set[str]:
    """Clips that have a row just now."""
    if "many" not in store.corpora():
        return set()
    return {clip for clip, _ in store.arrivals("many", key()).new()}


def begun(log: Path, many: Path) -> list[tuple[float, str]]:
    """When an encoder was given which clip."""
    names = {
        counting_encoder.digest(audio.read(path, RATE)): path.relative_to(many).as_posix()
        for path in many.rglob("*.wav")
    }
    lines = log.read_text().splitlines() if log.exists() else []
    return [(float(line.split()[0]), names[line.split()[1]]) for line in lines]


def finished(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
def test_killed_at_random_moments_nothing_is_lost_and_nothing_stored_is_computed_again(
    start: Callable[..., subprocess.Popen], store: EmbeddingStore, many: Path, log: Path, tmp_path: Path
) -> None:
    """`SERFUSE_KILLS=20` kills as often; every other time one of the two processes, otherwise the one above them."""
    rng = random.Random(time.time_ns())
    seen: list[tuple[float, set[str]]] = []
    process = start("--jobs", "2", COUNTING_SLEEP=str(0.03 * KILLS))
    try:
        for kill in range(KILLS):
            had = len(begun(log, many))
            limit = time.monotonic() + 300
            while process.poll() is None and len(begun(log, many)) < had + 1:
                assert time.monotonic() < limit
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.5))
            if process.poll() is not None:
                break
            workers = [
                one for one in psutil.Process(process.pid).children() if "multiprocessing.spawn" in str(one.cmdline())
            ]
            if kill % 2 == 0 and len(workers) == 2:
                rng.choice(workers).kill()
                there = stored(store)
                seen.append((time.time(), there))
                continue
            process.kill()
            process.communicate()
            assert process.returncode == -signal.SIGKILL
            _, alive = psutil.wait_procs(workers, timeout=60)
            assert not alive, "they end with the one that started them"
            there = stored(store)
            seen.append((time.time(), there))
            process = start("--jobs", "2", COUNTING_SLEEP=str(0.03 * KILLS))
        process.communicate(timeout=300)
    finally:
        process.kill()
    finished(start())
    for moment, there in seen:
        again = [clip for when, clip in begun(log, many) if when > moment and clip in there]
        assert not again, "it was stored before"
    assert len(seen) == KILLS and any(there for _, there in seen)
    _assert_like_uninterrupted(store, many, tmp_path)


def _assert_like_uninterrupted(store: EmbeddingStore, many: Path, tmp_path: Path) -> None:
    counting_encoder.install()
    try:
        whole = EmbeddingStore(tmp_path / "uninterrupted")
        report = extract.extract(table.read(many, name="many"), "counting", whole)
    finally:
        counting_encoder.uninstall()
    ids, matrix = store.load("many", report.key)
    expected_ids, expected = whole.load("many", report.key)
    assert len(ids) == CLIPS and ids == expected_ids and matrix.tobytes() == expected.tobytes()


@pytest.mark.slow
def test_two_commands_share_the_work_and_one_takes_over_when_the_other_dies(
    start: Callable[..., subprocess.Popen], store: EmbeddingStore, many: Path, log: Path
) -> None:
    one, other = start(), start()
    while len(begun(log, many)) < CLIPS // 2:
        assert one.poll() is None, one.communicate()
        time.sleep(0.02)
    one.kill()
    killed = time.time()
    one.communicate()
    output = finished(other)
    assert "0 failed" in output and len(stored(store)) == CLIPS
    clips = [clip for _, clip in begun(log, many)]
    assert len(set(clips)) == CLIPS
    # Only what the killed one had not stored yet is computed twice, and that begins at once.
    twice = [when for when, clip in begun(log, many) if clips.count(clip) > 1 and when > killed]
    assert len(clips) - CLIPS == len(twice) <= CLIPS // 4 and all(when - killed < 30 for when in twice)


def test_shards_divide_a_corpus_and_the_store_knows_the_whole(many: Path, store: EmbeddingStore) -> None:
    corpus = table.read(many, name="many")
    counting_encoder.install()
    try:
        first = extract.Extraction(corpus, store, shard="1/3")
        assert (first.summary["clips"], first.summary["of"]) == (27, CLIPS)
        report = first.run("counting")
        assert (report.done, report.reused) == (27, 0) and len(store.clips("many")) == CLIPS
        others = [extract.extract(corpus, "counting", store, shard=f"{n}/3") for n in (2, 3)]
        assert [other.done for other in others] == [27, 26]
        assert len(list((store.root / "many" / report.key.folder).glob("part-*"))) == 1, "the last one compacts"
        assert extract.extract(corpus, "counting", store).reused == CLIPS
    finally:
        counting_encoder.uninstall()


def test_the_last_shard_compacts_also_where_clips_of_others_have_failed(many: Path, store: EmbeddingStore) -> None:
    corpus = table.read(many, name="many")
    for number in (0, 1, 2):  # silence is found out only when a file is decoded: one clip in each shard
        soundfile.write(corpus.clips[number * 3].path, np.zeros(1600), RATE)
    counting_encoder.install()
    try:
        for number in (1, 2, 3):
            report = extract.extract(corpus, "counting", store, shard=f"{number}/3")
            assert len(report.failed) == (3 if number == 1 else 0)
            parts = len(list((store.root / "many" / report.key.folder).glob("part-*")))
            assert parts == (number if number < 3 else 1)
    finally:
        counting_encoder.uninstall()


def test_a_shard_has_the_same_clips_in_whatever_order_they_come(many: Path) -> None:
    clips = table.read(many, name="many").clips
    parts = [{clip.id for clip in Shard(n, 7).choose(clips)} for n in range(1, 8)]
    assert sum(len(part) for part in parts) == len(set().union(*parts)) == CLIPS
    assert {clip.id for clip in Shard.parse(" 3/7").choose(clips[::-1])} == parts[2]
    for wrong in ("0/3", "4/3", "1", "1/0", "x/2", "-1/3"):
        with pytest.raises(ConfigError, match="I/N"):
            Shard.parse(wrong)


def test_no_process_is_started_where_nothing_is_lacking(many: Path, store: EmbeddingStore) -> None:
    """A process of its own would not know this encoder."""
    corpus = table.read(many, name="many")
    counting_encoder.install()
    try:
        extract.extract(corpus, "counting", store)
        report = extract.extract(corpus, "counting", store, jobs=2)
        assert (report.reused, report.done, report.error, report.vector_size) == (CLIPS, 0, "", 4)
        assert report.key == store.find("many", "counting")
    finally:
        counting_encoder.uninstall()


def test_processes_load_their_encoders_themselves(many: Path, store: EmbeddingStore) -> None:
    counting_encoder.install()
    try:
        extraction = extract.Extraction(table.read(many, name="many"), store, jobs=2)
        with pytest.raises(ConfigError, match="counting is loaded in this one"):
            extraction.run(encoders.load("counting"))
    finally:
        counting_encoder.uninstall()


@pytest.mark.slow
def test_a_full_disk_ends_all_processes_and_keeps_what_was_stored(
    start: Callable[..., subprocess.Popen], store: EmbeddingStore, many: Path, log: Path
) -> None:
    import resource

    process = start("--jobs", "2")
    while len(stored(store)) < 10:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    for worker in psutil.Process(process.pid).children():
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (64, 64))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "no space left" in output and "Traceback" not in output, output
    had = stored(store)
    assert 10 <= len(had) < CLIPS
    moment = time.time()
    finished(start())
    assert len(stored(store)) == CLIPS
    assert not [clip for when, clip in begun(log, many) if when > moment and clip in had]


@pytest.mark.slow
def test_ctrl_c_stores_what_all_processes_have_finished(
    start: Callable[..., subprocess.Popen], store: EmbeddingStore, many: Path, log: Path
) -> None:
    process = start("--jobs", "2", "--flush-seconds", "60")
    while len(begun(log, many)) < 20:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130 and "Nothing is lost" in output and "Traceback" not in output, output
    assert 18 <= len(stored(store)) < CLIPS and f"{len(stored(store))} more clips of counting are stored" in output


@pytest.mark.slow
def test_processes_report_on_a_folder_by_the_name_that_it_has_in_the_store(many, store, tmp_path) -> None:
    folder = small_checkpoint("hubert", tmp_path / "my model")
    corpus = table.read(many, name="many")
    with pytest.raises(ConfigError, match=r"are both called hf\.my-model in the store"):
        extract.extract(corpus, [f"hf:{folder}", f"hf:{tmp_path}/my-model"], store)
    (report,) = extract.extract(corpus, [f"hf:{folder}"], store, jobs=2, limit=4)
    assert (report.encoder, report.done, report.error) == ("hf.my-model", 4, "")
    assert len(store.load("many", report.key)[0]) == 4
