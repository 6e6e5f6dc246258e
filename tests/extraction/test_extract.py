"""Extraction: only what is missing is computed, bad clips are named, and nothing that was finished is lost."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import counting_encoder
import numpy as np
import pytest
import soundfile

from serfuse import audio, encoders
from serfuse.audio.padding import PadPolicy
from serfuse.corpora import table
from serfuse.corpora.base import Clip, Corpus
from serfuse.encoders.base import Encoder, LoadRequest
from serfuse.errors import ConfigError, CorpusError, EncoderError, StoreError, UnknownNameError, WeightsError
from serfuse.extraction import extract
from serfuse.extraction.survey import resolve_pad, survey
from serfuse.progress import Observer
from serfuse.store import EmbeddingStore, FileStamp

RATE = 8000


pytestmark = pytest.mark.usefixtures("counting")


def write_wav(path: Path, seconds: float, seed: int, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate))
    soundfile.write(path, noise, rate, subtype="FLOAT", format="WAV")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Twelve clips of 0.2 to 0.4 s, in groups of three of equal length; 3 emotions, 2 speakers."""
    clips = []
    for number in range(12):
        path = tmp_path / "wav" / f"c{number:02d}.wav"
        write_wav(path, 0.2 + 0.05 * (number % 4), number)
        clips.append(Clip(path.stem, path, ["anger", "fear", "neutral"][number % 3], f"s{number % 2}"))
    return Corpus("tiny", tuple(clips))


def load(name: str = "counting", **options: object) -> Encoder:
    return encoders.load(name, LoadRequest(options=options))


def age(path: Path, seconds: float = 60) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.mark.parametrize("seconds", [float("nan"), -1.0])
def test_seconds_that_are_none_are_refused(corpus: Corpus, tmp_path: Path, seconds: float) -> None:
    store = EmbeddingStore(tmp_path / "store")
    for setting in ("flush_seconds", "batch_seconds"):
        with pytest.raises(ConfigError, match=f"{setting} must be .* got {seconds}"):
            extract.extract(corpus, "counting", store, **{setting: seconds})


class Batches(Observer):
    """Calls a function with the clips done and the part of the audio, after each batch."""

    def __init__(self, function: Callable[[int, float], None]) -> None:
        self.function = function
        self.begun: list[tuple[str, int, str]] = []
        self.ended = 0

    def begin(self, what: str, total: int, unit: str = "clip") -> None:
        self.begun.append((what, total, unit))

    def advance(self, done: int | None = None, *, note: str | None = None, fraction: float | None = None) -> None:
        if self.begun[-1][2] == "clip":
            self.function(done, fraction)

    def end(self) -> None:
        self.ended += 1


# --- what is computed -------------------------------------------------------------------------------------------


def test_the_second_time_nothing_is_computed(corpus: Corpus, store: EmbeddingStore) -> None:
    first = extract.extract(corpus, load(), store)
    assert (first.done, first.reused, first.failed, first.vector_size) == (12, 0, [], 4)
    assert first.audio_seconds == pytest.approx(sum(0.2 + 0.05 * (n % 4) for n in range(12)))
    matrix = store.load("tiny", first.key)[1]
    counting_encoder.HEARD.clear()
    again = extract.extract(corpus, load(), store)
    assert (again.done, again.reused, again.failed, again.vector_size) == (0, 12, [], 4)
    assert counting_encoder.HEARD == [] and again.key == first.key
    np.testing.assert_array_equal(store.load("tiny", first.key)[1], matrix)


def test_a_vector_is_the_pooled_frames_of_the_resampled_clip(corpus: Corpus, store: EmbeddingStore) -> None:
    """Recomputed step by step from the file, at another rate than the file's."""
    path = corpus.clips[3].path
    write_wav(path, 0.31, 99, rate=22050)
    report = extract.extract(corpus, load(), store, pooling="mean-std", pad="0.5")
    ids, matrix = store.load("tiny", report.key)
    waveform = np.zeros(4000, np.float32)
    heard = audio.read(path, RATE)
    waveform[: len(heard)] = heard
    blocks = waveform.reshape(-1, 80)
    frames = np.stack([blocks.mean(1), blocks.std(1), blocks.max(1), blocks.min(1)], axis=1).astype(np.float64)
    expected = np.concatenate([frames.mean(0), frames.std(0)])
    np.testing.assert_allclose(matrix[ids.index("c03")], expected, rtol=1e-5, atol=1e-7)


def test_a_changed_file_is_computed_anew_and_only_that(corpus: Corpus, store: EmbeddingStore) -> None:
    before = store.load("tiny", extract.extract(corpus, load(), store).key)[1]
    write_wav(corpus.clips[5].path, 0.3, 1234)
    report = extract.extract(corpus, load(), store)
    assert (report.done, report.reused) == (1, 11)
    after = store.load("tiny", report.key)[1]
    assert [bool((a != b).any()) for a, b in zip(before, after, strict=True)] == [n == 5 for n in range(12)]


def test_a_change_within_the_same_size_and_second_is_noticed(corpus: Corpus, store: EmbeddingStore) -> None:
    """A fresh file's stamp is not trusted, since it could change again without a newer one."""
    path = corpus.clips[0].path
    extract.extract(corpus, load(), store)
    status = path.stat()
    write_wav(path, 0.2, 777)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert extract.extract(corpus, load(), store).done == 1


def test_a_touched_or_moved_file_is_not_computed_again(corpus: Corpus, store: EmbeddingStore, tmp_path: Path) -> None:
    extract.extract(corpus, load(), store)
    age(corpus.clips[2].path)
    moved = shutil.copytree(tmp_path / "wav", tmp_path / "elsewhere")
    there = replace(corpus, clips=tuple(replace(clip, path=moved / clip.path.name) for clip in corpus.clips))
    assert extract.extract(corpus, load(), store).reused == 12
    assert extract.extract(there, load(), store).reused == 12


def test_known_files_are_not_read_again(corpus: Corpus, store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 10**10)  # files that were written long ago
    extract.extract(corpus, load(), store)

    def opened(path: object) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(audio, "identify", opened)
    assert extract.extract(corpus, load(), store).reused == 12


def test_a_survey_that_was_interrupted_reads_no_file_again(
    corpus: Corpus, store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 10**10)  # files that were written long ago

    class Impatient(Observer):
        def advance(self, done: int | None = None, *, note: str | None = None, fraction: float | None = None) -> None:
            if done == 7:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        survey(corpus, store, Impatient())
    assert len(store.known_files("tiny")) == 7 and store.corpora() == []
    read, real = [], audio.identify
    monkeypatch.setattr(audio, "identify", lambda path: read.append(Path(path).stem) or real(path))
    facts = survey(corpus, store)
    assert sorted(read) == [f"c{number:02d}" for number in range(7, 12)]
    assert facts == survey(corpus, EmbeddingStore(store.root.with_name("other")))
    # Once the table holds them, nothing else does.
    (kept,) = store.root.glob("tiny/looked-*.json")
    kept.write_bytes(kept.read_bytes().replace(b"wav", b"vaw", 1))
    assert store.known_files("tiny") == {}, "what is damaged is not believed"
    store.record_files("tiny", {"/elsewhere/x.wav": (FileStamp(1, 2, 3), "0" * 64, 1.0)})
    store.write_corpus(corpus, facts)
    assert [len(json.loads(path.read_text())["files"]) for path in store.root.glob("tiny/looked-*.json")] == [1]
    assert len(store.known_files("tiny")) == 13


def test_a_new_clip_is_added_and_a_lost_one_leaves(corpus: Corpus, store: EmbeddingStore) -> None:
    extract.extract(replace(corpus, clips=corpus.clips[:8]), load(), store)
    report = extract.extract(replace(corpus, clips=corpus.clips[2:]), load(), store)
    assert (report.done, report.reused) == (4, 6)
    assert store.load("tiny", report.key)[0] == [f"c{n:02d}" for n in range(2, 12)]


@pytest.mark.parametrize(
    "change",
    [
        {"pooling": "mean-std"},
        {"pad": "0.5"},
        {"pad": "max"},
        {"encoder": {"scale": 2.0}},
        {"encoder": {"loud": True}},
        {"weights": "random"},
        {"name": "counting-batch"},
    ],
)
def test_any_other_setting_computes_everything_beside_the_old(
    corpus: Corpus, store: EmbeddingStore, change: dict
) -> None:
    old = extract.extract(corpus, load(), store)
    request = LoadRequest(options=change.pop("encoder", {}), weights=change.pop("weights", None))
    report = extract.extract(corpus, encoders.load(change.pop("name", "counting"), request), store, **change)
    assert report.done == 12 and report.key != old.key
    assert extract.extract(corpus, load(), store).reused == 12, "the old ones stay"


def test_pad_max_is_the_longest_clip_and_part_of_the_key(corpus: Corpus, store: EmbeddingStore) -> None:
    report = extract.extract(corpus, load(), store, pad="max")
    assert report.key.pad == "max:0.350"
    write_wav(corpus.clips[0].path, 0.6, 5)
    longer = extract.extract(corpus, load(), store, pad="max")
    assert longer.key.pad == "max:0.600" and longer.done == 12, "all embeddings depend on the longest clip"


def test_parts_of_one_file_are_clips_of_their_own(store: EmbeddingStore, tmp_path: Path) -> None:
    write_wav(tmp_path / "long.wav", 2.0, 0)
    clips = tuple(Clip(f"p{n}", tmp_path / "long.wav", "anger", start=n * 0.5, end=n * 0.5 + 0.5) for n in range(4))
    corpus = Corpus("parts", clips)
    report = extract.extract(corpus, load(), store)
    assert report.done == 4 and len(np.unique(store.load("parts", report.key)[1], axis=0)) == 4
    shifted = replace(corpus, clips=(replace(clips[0], end=0.4), *clips[1:]))
    assert extract.extract(shifted, load(), store).done == 1
    assert list(store.clips("parts")["seconds"]) == pytest.approx([0.4, 0.5, 0.5, 0.5])


def test_the_papers_pooling_has_the_papers_options_unless_they_are_given(corpus: Corpus, store: EmbeddingStore) -> None:
    """As DAC's `pad_to`: 512 gives the 251 frames that the papers print, for which no other pooling has a use."""
    entry = encoders.ENCODERS.get("counting")
    encoders.ENCODERS.unregister("counting")
    encoders.ENCODERS.register("counting", replace(entry, preset=replace(entry.preset, paper_options={"scale": 3.0})))

    def options(pooling: str, request: LoadRequest | None = None) -> dict:
        made = extract.Extraction(corpus, store, pooling=pooling, pad="0.5").run("counting", request)
        return dict(made.key.options)

    assert options("time")["scale"] == 1.0
    assert options("paper")["scale"] == 3.0
    assert options("paper", LoadRequest(options={"scale": 2.0}))["scale"] == 2.0


def test_paper_pooling_over_channels_needs_one_length(corpus: Corpus, store: EmbeddingStore) -> None:
    encoder = load()
    encoder.preset = replace(encoder.preset, paper_pooling="channels")
    with pytest.raises(ConfigError, match=r"--pad 5\.0"):
        extract.extract(corpus, encoder, store, pooling="paper")
    assert extract.extract(corpus, encoder, store, pooling="paper", pad="0.5").vector_size == 50


# --- several encoders -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_several_encoders_by_name_loaded_or_with_a_request(corpus: Corpus, store: EmbeddingStore) -> None:
    first, second = extract.extract(corpus, ["counting", load("counting-batch")], store)
    assert (first.encoder, first.done, second.encoder, second.done) == ("counting", 12, "counting-batch", 12)
    asked = {"counting": LoadRequest(options={"scale": 2.0}), "counting-batch": LoadRequest()}
    scaled, same = extract.extract(corpus, asked, store)
    assert (scaled.done, scaled.key.options["scale"], same.reused) == (12, 2.0, 12)
    assert extract.extract(corpus, "counting", store).reused == 12, "one encoder, one report"


@pytest.mark.slow
def test_one_encoders_failure_takes_no_other_along(
    corpus: Corpus, store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Encoder, waveforms: object) -> None:
        raise WeightsError("of another model")

    monkeypatch.setattr(counting_encoder.CountingBatch, "frames_batch", broken)
    unknown, failed, good = extract.extract(corpus, ["hubbert", "counting-batch", "counting"], store)
    assert "Did you mean 'hubert'" in unknown.error and failed.error == "of another model"
    assert unknown.to_dict() == {"encoder": "hubbert", "error": unknown.error}
    assert good.done == 12 and [report.complete for report in (unknown, failed, good)] == [False, False, True]
    with pytest.raises(UnknownNameError, match="hubbert"):
        extract.extract(corpus, "hubbert", store)


def test_a_limit_adds_to_the_store_and_max_means_the_whole_corpus(corpus: Corpus, store: EmbeddingStore) -> None:
    report = extract.extract(corpus, "counting", store, limit=3, pad="max")
    assert report.done == 3 and report.key.pad == "max:0.350" and len(store.clips("tiny")) == 3
    extraction = extract.Extraction(corpus, store, limit=4)
    assert extraction.summary["clips"] == 4 and extraction.summary["of"] == 12 and len(extraction.facts) == 4
    assert extract.extract(corpus, "counting", store, pad="max").reused == 3


def test_settings_are_checked_before_a_file_is_looked_at(corpus: Corpus, store: EmbeddingStore) -> None:
    for wrong in ({"pooling": "median"}, {"pad": "long"}):
        with pytest.raises(ConfigError, match=next(iter(wrong.values()))):
            extract.extract(corpus, "counting", store, **wrong)
    assert not store.root.exists()


# --- batches ----------------------------------------------------------------------------------------------------


def test_only_clips_of_equal_length_are_batched_and_the_numbers_are_the_same(
    corpus: Corpus, store: EmbeddingStore
) -> None:
    alone = extract.extract(corpus, load(), store)
    counting_encoder.HEARD.clear()
    batched = extract.extract(corpus, load("counting-batch"), store)
    assert counting_encoder.HEARD == [3, 3, 3, 3]
    np.testing.assert_allclose(store.load("tiny", batched.key)[1], store.load("tiny", alone.key)[1], rtol=1e-6)
    counting_encoder.HEARD.clear()
    extract.extract(corpus, load("counting-batch"), store, pad="1.0", batch_seconds=5.0)
    assert counting_encoder.HEARD == [5, 5, 2], "padded to one length, at most five seconds"


def test_a_clip_that_breaks_its_batch_takes_no_other_along(corpus: Corpus, store: EmbeddingStore) -> None:
    path = corpus.clips[4].path
    soundfile.write(path, np.full(1600, 3.0) * np.resize([1, -1], 1600), RATE, subtype="FLOAT")
    report = extract.extract(corpus, load("counting-batch"), store, pad="0.5")
    assert report.done == 12, "alone it does not fail"
    assert counting_encoder.HEARD.count(1) == 12


def test_a_library_that_fails_for_the_first_clips_alike_is_not_the_clips_fault(
    corpus: Corpus, store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (corpus.clips[0].path).write_bytes(b"")  # one clip is bad, which changes nothing
    right, calls = counting_encoder.Counting.frames, []

    def fails(self: Any, waveform: np.ndarray) -> np.ndarray:
        calls.append(waveform)
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(counting_encoder.Counting, "frames", fails)
    with pytest.raises(EncoderError, match=r"first 3 clips in the same way \(RuntimeError: cannot cache function"):
        extract.extract(corpus, load(), store, skip_bad=True)
    assert len(calls) == 3, "the others are not tried"
    monkeypatch.setattr(counting_encoder.Counting, "frames", right)
    report = extract.extract(corpus, load(), store, skip_bad=True)
    assert report.done == 11 and store.skipped("tiny", report.key)[0].clip == corpus.clips[0].id
    # Where some clips have vectors already, the same words are about the clips that lack one.
    for clip in corpus.clips[1:4]:
        write_wav(clip.path, 0.2, 99)
    monkeypatch.setattr(counting_encoder.Counting, "frames", fails)
    assert len(extract.extract(corpus, load(), store).failed) == 4


# --- bad clips --------------------------------------------------------------------------------------------------


def _bad_files(folder: Path) -> dict[str, str]:
    """Name -> what the reason must say."""
    good = folder / "good.wav"
    write_wav(good, 0.3, 0)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "cut.wav").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (folder / "text.wav").write_text("this is no audio at all " * 50)
    soundfile.write(folder / "zero.wav", np.zeros(0), RATE)
    soundfile.write(folder / "silent.wav", np.zeros(4000), RATE)
    write_wav(folder / "short.wav", 0.05, 1)
    broken = np.random.default_rng(0).normal(0, 0.1, 4000)
    broken[1000] = np.nan
    soundfile.write(folder / "nan.wav", broken, RATE, subtype="FLOAT")
    (folder / "folder.wav").mkdir()
    return {
        "empty": "is empty",
        "cut": "truncated",
        "text": "is not audio",
        "zero": "no samples",
        "silent": "silent",
        "short": "Too short for counting: 400 samples",
        "nan": "NaN",
        "folder": "is a folder",
        "missing": "no such file",
    }


def test_every_bad_clip_is_named_with_its_reason_and_the_good_ones_are_done(
    corpus: Corpus, store: EmbeddingStore, tmp_path: Path
) -> None:
    reasons = _bad_files(tmp_path / "wav")
    bad = tuple(Clip(name, tmp_path / "wav" / f"{name}.wav", "anger") for name in sorted(reasons))
    mixed = replace(corpus, clips=(*corpus.clips, *bad))
    report = extract.extract(mixed, load(), store)
    assert report.done == 12 and [clip for clip, _ in report.failed] == sorted(reasons)
    for clip, reason in report.failed:
        assert reasons[clip] in reason, (clip, reason)
    assert store.skipped("tiny", report.key) == []
    with pytest.raises(StoreError, match="lacks 9"):
        store.join("tiny", [report.key])

    skipping = extract.extract(mixed, load(), store, skip_bad=True)
    assert (skipping.done, skipping.reused, len(skipping.failed)) == (0, 12, 9)
    clips, _ = store.join("tiny", [skipping.key])
    assert len(clips) == 12 and {item["clip"] for item in clips.attrs["dropped"]} == set(reasons)

    write_wav(tmp_path / "wav" / "silent.wav", 0.3, 5)  # mended
    mended = extract.extract(mixed, load(), store, skip_bad=True)
    assert mended.done == 1 and len(store.skipped("tiny", mended.key)) == 8


def test_embeddings_that_are_not_finite_are_not_stored(
    corpus: Corpus, store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = counting_encoder.Counting.frames

    def overflows(self: Encoder, waveform: np.ndarray) -> np.ndarray:
        found = frames(self, waveform)
        found[0, :2] = [np.inf, np.nan] if len(waveform) == 2400 else 0
        return found

    monkeypatch.setattr(counting_encoder.Counting, "frames", overflows)
    report = extract.extract(corpus, load(), store)
    assert report.failed == [(f"c{n:02d}", "2 of the 4 values of its embedding are not finite") for n in (2, 6, 10)]
    assert len(store.load("tiny", report.key)[0]) == report.done == 9


def test_what_a_library_raises_on_one_clip_is_that_clips_reason(
    corpus: Corpus, store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = counting_encoder.Counting.frames

    def fragile(self: Encoder, waveform: np.ndarray) -> np.ndarray:
        if len(waveform) == 2000:
            raise IndexError("inner trouble\nwith details")
        return frames(self, waveform)

    monkeypatch.setattr(counting_encoder.Counting, "frames", fragile)
    report = extract.extract(corpus, load(), store)
    assert report.done == 9
    assert report.failed == [(f"c{n:02d}", "IndexError: inner trouble") for n in (1, 5, 9)]


def test_an_error_about_the_weights_is_no_clips_fault(
    corpus: Corpus, store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Encoder, waveform: np.ndarray) -> np.ndarray:
        raise WeightsError("of another model")

    monkeypatch.setattr(counting_encoder.Counting, "frames", broken)
    with pytest.raises(WeightsError, match="of another model"):
        extract.extract(corpus, load(), store)


def test_a_file_that_changes_while_it_is_extracted_is_not_stored_under_its_old_hash(
    corpus: Corpus, store: EmbeddingStore
) -> None:
    extraction = extract.Extraction(corpus, store)
    write_wav(corpus.clips[7].path, 0.9, 4)
    report = extraction.run(load())
    assert report.done == 11 and report.failed[0][0] == "c07" and "changed while" in report.failed[0][1]
    assert extract.extract(corpus, load(), store).done == 1


def test_no_readable_clip_at_all(store: EmbeddingStore, tmp_path: Path) -> None:
    corpus = Corpus("gone", (Clip("a", tmp_path / "a.wav", "anger"),))
    report = extract.extract(corpus, load(), store)
    assert report.done == 0 and len(report.failed) == 1 and report.vector_size == 0
    with pytest.raises(CorpusError, match="--pad max"):
        resolve_pad(PadPolicy.parse("max"), survey(corpus, store))


def test_a_store_that_cannot_be_written_is_found_out_before_anything_is_computed(
    corpus: Corpus, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="Cannot write"):
        extract.extract(corpus, load(), EmbeddingStore(tmp_path / "file"))
    assert counting_encoder.HEARD == []


def test_a_disk_that_fills_up_keeps_the_earlier_rows(
    corpus: Corpus, store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr(time, "monotonic", itertools.count(0.0, 60.0).__next__)  # so slow that every clip is stored
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fills_up(done: int, fraction: float) -> None:
        if done == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))

    try:
        with pytest.raises(StoreError, match="no space left"):
            extract.extract(corpus, load(), store, observer=Batches(fills_up))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    report = extract.extract(corpus, load(), store)
    assert (report.done, report.reused) == (7, 5)


@pytest.mark.parametrize("step", ["compaction", "the record of skipped clips", "heard.json"])
def test_a_disk_that_is_full_at_the_end_keeps_all_rows_and_the_next_call_ends_the_work(
    corpus: Corpus, store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    import resource

    soundfile.write(corpus.clips[3].path, np.zeros(2000), RATE, format="WAV")
    monkeypatch.setattr(time, "monotonic", itertools.count(0.0, 60.0).__next__)  # so slow that every clip is stored
    steps = {"compaction": "compact", "the record of skipped clips": "record_skipped", "heard.json": "record_heard"}
    name = steps[step]
    right = getattr(EmbeddingStore, name)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(self: EmbeddingStore, *arguments: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
        try:
            right(self, *arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    with monkeypatch.context() as patched:
        patched.setattr(EmbeddingStore, name, full)
        with pytest.raises(StoreError, match="no space left"):
            extract.extract(corpus, load(), store, skip_bad=True)
    report = extract.extract(corpus, load(), store, skip_bad=True)
    assert (report.done, report.reused) == (0, 11) and "tiny" in store.corpora()
    assert len(list((store.root / "tiny" / report.key.folder).glob("part-*"))) == 1
    assert [item.clip for item in store.skipped("tiny", report.key)] == [corpus.clips[3].id]
    known = store.clips("tiny")
    if step != "heard.json":  # what only decoding tells is known of the clips that were decoded
        assert known["sound"].notna().sum() == 11


# --- interruption -----------------------------------------------------------------------------------------------


def test_ctrl_c_keeps_the_finished_clips(corpus: Corpus, store: EmbeddingStore) -> None:
    def interrupt(done: int, fraction: float) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(extract.Interrupted) as caught:
        extract.extract(corpus, load(), store, observer=Batches(interrupt))
    assert caught.value.report.done == 5
    assert len(store.load("tiny", caught.value.report.key)[0]) == 5
    report = extract.extract(corpus, load(), store)
    assert (report.done, report.reused) == (7, 5)


def test_progress_counts_clips_and_the_part_of_the_audio(corpus: Corpus, store: EmbeddingStore) -> None:
    seen: list[tuple] = []
    watch = Batches(lambda *item: seen.append(item))
    extract.extract(corpus, load(), store, observer=watch)
    assert watch.begun == [("tiny: looking at the files", 12, "file"), ("counting", 12, "clip")] and watch.ended == 2
    assert [done for done, _ in seen] == [n + 1 for n in range(12)]
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions) and fractions[0] == pytest.approx(0.2 / 3.3) and fractions[-1] == 1.0


def test_progress_counts_the_clips_that_failed(corpus: Corpus, store: EmbeddingStore) -> None:
    soundfile.write(corpus.clips[3].path, np.zeros(2000), RATE, format="WAV")
    seen: list[int] = []
    report = extract.extract(corpus, load(), store, observer=Batches(lambda done, fraction: seen.append(done)))
    assert seen == list(range(1, 13)) and [clip for clip, _ in report.failed] == [corpus.clips[3].id]


_WORKER = """
import sys
import counting_encoder
from serfuse.cli import main
counting_encoder.install()
data, store = sys.argv[1:]
many = ["extract", "--corpus", "table", "--data", data, "--name", "many"]
main([*many, "--encoder", "counting", "--store", store, "--flush-seconds", "0.05"])
"""


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder per emotion with 60 clips."""
    for number in range(60):
        write_wav(tmp_path / "many" / ("anger", "fear")[number % 2] / f"{number:02d}.wav", 0.2, number)
    return tmp_path / "many"


@pytest.fixture
def start(many: Path, store: EmbeddingStore) -> Callable[..., subprocess.Popen]:
    """Starts a real, slow `serfuse extract` of the 60 clips."""

    def begin() -> subprocess.Popen:
        paths = os.pathsep.join([str(Path(counting_encoder.__file__).parent), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _WORKER, str(many), str(store.root)],
            env={**os.environ, "PYTHONPATH": paths, "COUNTING_SLEEP": "0.1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return begin


def _stored(store: EmbeddingStore) -> int:
    key = extract.make_key(load(), "time", PadPolicy.parse("none"))
    return len(store.present("many", key)) if "many" in store.corpora() else 0


def _wait_for(store: EmbeddingStore, count: int, process: subprocess.Popen) -> None:
    limit = time.monotonic() + 300
    while _stored(store) < count:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_numbers(
    start: Callable[..., subprocess.Popen], store: EmbeddingStore, many: Path, tmp_path: Path
) -> None:
    rng = random.Random(time.time_ns())
    stored = 0
    for _ in range(2):
        process = start()
        _wait_for(store, stored + 1, process)
        time.sleep(rng.uniform(0, 0.8))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was killed in the middle"
        now = _stored(store)
        assert now > stored, "what was finished stays, and the next run goes on from there"
        stored = now
    assert stored < 60
    corpus = table.read(many, name="many")
    report = extract.extract(corpus, load(), store)
    assert (report.done, report.reused) == (60 - stored, stored)
    other = EmbeddingStore(tmp_path / "uninterrupted")
    assert extract.extract(corpus, load(), other).done == 60
    ids, matrix = store.load("many", report.key)
    expected_ids, expected = other.load("many", report.key)
    assert ids == expected_ids and matrix.tobytes() == expected.tobytes()


def test_ctrl_c_ends_a_real_run_in_order(start: Callable[..., subprocess.Popen], store: EmbeddingStore) -> None:
    process = start()
    _wait_for(store, 3, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130, output
    assert "Nothing is lost: run the same command again" in output and "Traceback" not in output
    assert 3 <= _stored(store) < 60


# --- following the advice of a message --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clips.parquet", "key.json"])
def test_a_damaged_file_that_was_deleted_as_advised_comes_back(corpus: Corpus, store: EmbeddingStore, name) -> None:
    first = extract.extract(corpus, load(), store)
    path = store.root / "tiny" / (name if name == "clips.parquet" else f"{first.key.folder}/{name}")
    path.write_bytes(b"junk")
    with pytest.raises(StoreError, match="Delete"):
        extract.extract(corpus, load(), store)
    path.unlink()
    again = extract.extract(corpus, load(), store)
    assert (again.done, again.reused, again.vector_size) == (0, 12, 4)
    assert path.exists() and len(store.load("tiny", first.key)[0]) == 12


@pytest.mark.parametrize(
    ("start", "end", "seconds", "mark"),
    [(None, 0.5, 0.5, "@0.000000-0.500000"), (0.5, None, 1.5, "@0.500000-"), (0.25, 0.5, 0.25, "@0.250000-0.500000")],
)
def test_half_a_pair_of_times_is_a_part_as_well(
    store: EmbeddingStore, tmp_path: Path, start: float | None, end: float | None, seconds: float, mark: str
) -> None:
    write_wav(tmp_path / "long.wav", 2.0, 0)
    whole = Clip("whole", tmp_path / "long.wav", "anger")
    facts = survey(Corpus("parts", (whole, replace(whole, id="part", start=start, end=end))), store)
    assert facts["part"].audio == facts["whole"].audio + mark
    assert facts["part"].seconds == pytest.approx(seconds) and facts["whole"].seconds == 2.0


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (1.0, 0.5), (-0.5, 1.0), (2.5, None), (0.0, 2.01)])
def test_a_part_that_cannot_be_read_has_no_length(
    store: EmbeddingStore, tmp_path: Path, start: float, end: float | None
) -> None:
    write_wav(tmp_path / "long.wav", 2.0, 0)
    facts = survey(Corpus("parts", (Clip("part", tmp_path / "long.wav", "anger", start=start, end=end),)), store)
    assert np.isnan(facts["part"].seconds)


def test_a_parts_end_may_be_rounded_up(store: EmbeddingStore, tmp_path: Path) -> None:
    write_wav(tmp_path / "long.wav", 1.99975, 0)
    clip = Clip("part", tmp_path / "long.wav", "anger", start=1.5, end=2.0)
    assert survey(Corpus("parts", (clip,)), store)["part"].seconds == pytest.approx(0.5)
    assert extract.extract(Corpus("parts", (clip,)), load(), store).done == 1


def test_a_segment_beyond_its_file_does_not_lengthen_the_pad(corpus: Corpus, store: EmbeddingStore) -> None:
    clips = (corpus.clips[0], replace(corpus.clips[1], start=0.0, end=60.0))
    facts = survey(Corpus("tiny", clips), store)
    assert resolve_pad("max", facts) == PadPolicy.parse("max").resolve(facts[clips[0].id].seconds)


def test_mended_segments_are_no_other_corpus_but_another_folder_is(corpus: Corpus, store: EmbeddingStore) -> None:
    def segments(end: float, root: Path | None = None) -> Corpus:
        """Ids as the table's reader makes them: file and times."""
        return Corpus("seg", tuple(replace(c, id=f"{c.id}#0-{end}", start=0.0, end=end) for c in corpus.clips[:3]))

    def write(given: Corpus, data: str) -> None:
        store.write_corpus(given, survey(given, store), source={"corpus": "table", "data": data})

    write(segments(0.1), "/data/seg.csv")
    write(segments(0.15), "/data/seg.csv")
    assert all(name.endswith("#0-0.15") for name in store.clips("seg")["id"])
    # The same names, other sound: a folder that happens to be called alike.
    one, two = (
        tuple(replace(c, id=name) for c, name in zip(corpus.clips[n : n + 3], "xyz", strict=True)) for n in (0, 3)
    )
    write(Corpus("speech", one), "/x/speech")
    with pytest.raises(StoreError, match=r"already holds a corpus called 'speech'.*/x/speech.*/y/speech"):
        write(Corpus("speech", two), "/y/speech")
    write(Corpus("speech", one), "/moved/speech")
    assert store.corpus_info("speech")["source"]["data"] == "/moved/speech"
