"""Several encoders of a call: each file is decoded once, and each encoder gets what it would get alone."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import counting_encoder
import numpy as np
import pytest
import soundfile

from serfuse import audio, encoders
from serfuse.corpora.base import Clip, Corpus
from serfuse.encoders.base import LoadRequest
from serfuse.encoders.turns import TURNS
from serfuse.errors import AudioError, ConfigError, WeightsError
from serfuse.extraction import extract, grouping
from serfuse.extraction.prefetch import ReadAhead
from serfuse.progress import Observer
from serfuse.store import EmbeddingStore

pytestmark = pytest.mark.usefixtures("counting")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Nine clips at 22050 Hz, in three lengths."""
    clips = []
    for number in range(9):
        path = tmp_path / f"c{number}.wav"
        noise = np.random.default_rng(number).normal(0, 0.1, round(22050 * (0.3 + 0.05 * (number % 3))))
        soundfile.write(path, noise, 22050, subtype="FLOAT")
        clips.append(Clip(path.stem, path, "anger"))
    return Corpus("tiny", tuple(clips))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was decoded, and at which rates."""
    found: Counter[str] = Counter()
    right = audio.read_recordings

    def counted(path: Path, rates: list[int], **settings: Any) -> Any:
        found[path.stem] += 1
        return right(path, rates, **settings)

    monkeypatch.setattr(audio, "read_recordings", counted)
    return found


class Lines(Observer):
    def __init__(self) -> None:
        self.begun: list[tuple[str, int, str]] = []
        self.last: tuple[int | None, float | None] = (0, 0.0)

    def begin(self, what: str, total: int, unit: str = "clip") -> None:
        self.begun.append((what, total, unit))

    def advance(self, done: int | None = None, *, note: str | None = None, fraction: float | None = None) -> None:
        self.last = (done, fraction)


def other_rate(name: str, rate: int) -> Any:
    encoder = encoders.load(name)
    encoder.preset = replace(encoder.preset, sample_rate=rate)
    return encoder


def test_each_file_is_decoded_once_for_encoders_of_different_rates(
    corpus: Corpus, store: EmbeddingStore, decoded: Counter[str], tmp_path: Path
) -> None:
    several = [encoders.load("counting"), other_rate("counting-batch", 16000), encoders.load("logmel")]
    reports = extract.extract(corpus, several, store)
    assert decoded == {clip.id: 1 for clip in corpus.clips}
    alone = EmbeddingStore(tmp_path / "alone")
    for encoder, report in zip(several, reports, strict=True):
        expected = extract.extract(corpus, encoder, alone)
        assert report.key == expected.key and (report.done, report.vector_size) == (9, expected.vector_size)
        assert store.load("tiny", report.key)[1].tobytes() == alone.load("tiny", report.key)[1].tobytes()
        assert report.remarks.keys() == expected.remarks.keys()


class Padding(counting_encoder.Counting):
    """Takes clips of any lengths, as the speech transformers do."""

    pads = True
    together: ClassVar[list[list[int]]] = []

    def frames_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.together.append([len(waveform) for waveform in waveforms])
        return [self.frames(waveform) for waveform in waveforms]


def padding(device: str) -> Padding:
    found = Padding(encoders.preset("counting"), LoadRequest())
    found.device = device  # only its name is looked at: it says what padding costs
    Padding.together.clear()
    return found


def test_on_a_gpu_clips_of_nearly_equal_length_go_together(corpus: Corpus, store: EmbeddingStore) -> None:
    lengths = [round(8000 * seconds) for seconds in (0.4, 0.35, 0.3)]
    report = extract.extract(corpus, padding("cuda"), store)
    # 0.3 s is less than 0.4 s / 1.2.
    assert [
        [(count, group.count(count)) for count in sorted(set(group), reverse=True)] for group in Padding.together
    ] == [
        [(lengths[0], 3), (lengths[1], 3)],
        [(lengths[2], 3)],
    ]
    expected = extract.extract(corpus, "counting", EmbeddingStore(store.root / "other"))
    assert report.key == expected.key and report.done == 9
    found = dict(zip(*store.load("tiny", report.key), strict=True))
    for clip, row in zip(*EmbeddingStore(store.root / "other").load("tiny", report.key), strict=True):
        assert np.array_equal(found[clip], row)
    # In at most a second of what is computed, padding included; and on a CPU only what is of equal length.
    extract.extract(corpus, padding("cuda"), EmbeddingStore(store.root / "short"), batch_seconds=1.0)
    assert [len(group) for group in Padding.together] == [2, 2, 2, 3]
    extract.extract(corpus, padding("cpu"), EmbeddingStore(store.root / "cpu"))
    assert [len(set(group)) for group in Padding.together] == [1, 1, 1]


def test_readers_rest_while_a_gpu_is_given_its_work() -> None:
    """And work while it is waited for, or after a moment where an encoder does not say that it waits."""
    rested = threading.Event()

    def reader() -> None:
        TURNS.rest(60)
        rested.set()

    thread = threading.Thread(target=reader)
    with TURNS.launching():
        thread.start()
        assert not rested.wait(0.05)
        with TURNS.waiting():
            assert rested.wait(60)
    thread.join()
    clips = list(range(8))
    ahead = ReadAhead(lambda _, clip: clip, [clips], lambda batch: batch, len, lambda: 9.0)
    with TURNS.launching(), ahead as batches:
        begun = time.monotonic()
        assert list(batches) == [(clips, clips)]
        assert time.monotonic() - begun > 0.03


def test_beside_one_that_pads_another_still_gets_equal_lengths(corpus: Corpus, store: EmbeddingStore) -> None:
    bad = corpus.clips[3].path
    bad.write_bytes(b"")
    reports = extract.extract(corpus, [padding("cuda"), encoders.load("counting-batch")], store)
    assert [(report.done, [clip for clip, _ in report.failed]) for report in reports] == [(8, ["c3"])] * 2


def test_what_one_encoder_has_is_decoded_only_for_the_others(
    corpus: Corpus, store: EmbeddingStore, decoded: Counter[str]
) -> None:
    extract.extract(replace(corpus, clips=corpus.clips[:5]), "counting", store)
    extract.extract(corpus, ["counting-batch"], store)
    decoded.clear()
    one, other = extract.extract(corpus, ["counting", "counting-batch"], store)
    assert (one.done, one.reused, other.done, other.reused) == (4, 5, 0, 9)
    assert decoded == {clip.id: 1 for clip in corpus.clips[5:]}


def test_there_is_one_line_of_progress(corpus: Corpus, store: EmbeddingStore) -> None:
    lines = Lines()
    extract.extract(replace(corpus, clips=corpus.clips[:2]), "counting", store)
    extract.extract(corpus, ["counting", "counting-batch"], store, observer=lines)
    assert lines.begun[1:] == [("counting, counting-batch", 16, "embedding")] and lines.last[0] == 16
    assert lines.last[1] == pytest.approx(1.0)


def test_an_encoder_that_fails_half_way_keeps_its_rows_and_the_others_go_on(
    corpus: Corpus, store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = counting_encoder.Counting.frames
    calls: list[int] = []

    def changes(self: Any, waveform: np.ndarray) -> np.ndarray:
        found = right(self, waveform)
        if self.name != "counting":
            return found
        calls.append(1)
        return found if len(calls) < 4 else found[:, :2]

    monkeypatch.setattr(counting_encoder.Counting, "frames", changes)
    failed, good = extract.extract(corpus, ["counting", "counting-batch"], store)
    assert "Vectors of one length" in failed.error and not failed.complete and good.complete and good.done == 9
    assert len(calls) == 4 and failed.done == 3 and len(store.load("tiny", failed.key)[0]) == 3
    with pytest.raises(ConfigError, match="Vectors of one length"):
        calls[:] = []
        extract.extract(corpus, "counting", EmbeddingStore(store.root / "other"))


class Paired(counting_encoder.Counting):
    """A pass waits until another one is under way, or none is left to come; `wrong` fails in the third."""

    passes_at_once = 2

    def __init__(self, *args: Any, clips: int, wrong: Exception | None = None) -> None:
        super().__init__(*args)
        self._clips, self._wrong = clips, wrong
        self._changed = threading.Condition()
        self.begun, self.inside, self.most, self.failed = 0, 0, 0, False

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        with self._changed:
            self.begun, self.inside = self.begun + 1, self.inside + 1
            mine, self.most = self.begun, max(self.most, self.inside)
            self._changed.notify_all()
            met = self._changed.wait_for(lambda: self.begun > mine or mine == self._clips or self.failed, 60)
        try:
            assert met, "no other pass began"
            if self._wrong and mine == 3:
                raise self._wrong
            return super().frames(waveform)
        finally:
            with self._changed:
                self.inside -= 1
                self.failed = self.failed or bool(self._wrong and mine == 3)
                self._changed.notify_all()


def test_two_passes_run_at_once_where_an_encoder_takes_that(
    corpus: Corpus, store: EmbeddingStore, tmp_path: Path
) -> None:
    preset = encoders.preset("counting")
    paired = Paired(preset, LoadRequest(), clips=len(corpus.clips))
    reports = extract.extract(corpus, [paired, encoders.load("logmel")], store)
    assert paired.most == 2 and [report.done for report in reports] == [9, 9]
    alone = EmbeddingStore(tmp_path / "alone")
    for name, report in zip(("counting", "logmel"), reports, strict=True):
        assert report.complete and report.seconds > 0
        expected = extract.extract(corpus, name, alone)
        ids, matrix = store.load(corpus.name, report.key)
        assert ids == alone.load(corpus.name, expected.key)[0]
        np.testing.assert_array_equal(matrix, alone.load(corpus.name, expected.key)[1])


def test_of_passes_at_once_one_that_fails_ends_its_encoder_only(corpus: Corpus, store: EmbeddingStore) -> None:
    wrong = WeightsError("its weights are gone")
    paired = Paired(encoders.preset("counting"), LoadRequest(), clips=len(corpus.clips), wrong=wrong)
    failed, other = extract.extract(corpus, [paired, encoders.load("logmel")], store)
    assert failed.error == str(wrong) and failed.done == 2
    assert other.complete and other.done == 9
    assert extract.extract(corpus, "counting", store).done == 7


def test_passes_at_once_hear_no_more_than_one_batch_may_with_its_padding(corpus: Corpus, store: EmbeddingStore) -> None:
    lock, inside = threading.Lock(), [0.0]
    heard: list[float] = []

    class Measured(counting_encoder.CountingBatch):
        passes_at_once = 2

        def frames_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
            seconds = sum(map(len, waveforms)) / self.sample_rate
            with lock:
                inside[0] += seconds
                heard.append(inside[0])
            time.sleep(0.02)
            with lock:
                inside[0] -= seconds
            return super().frames_batch(waveforms)

    measured = Measured(encoders.preset("counting-batch"), LoadRequest())
    assert extract.extract(corpus, measured, store, pad="5", batch_seconds=10.0).done == 9
    assert max(heard) == 10.0


def test_ctrl_c_keeps_what_a_pass_beside_the_one_that_is_waited_for_has_made(
    corpus: Corpus, store: EmbeddingStore
) -> None:
    released = threading.Event()

    class Stuck(counting_encoder.Counting):
        """The first pass does not end; the second one does; Ctrl-C comes with the third."""

        passes_at_once = 2
        begun = 0

        def frames(self, waveform: np.ndarray) -> np.ndarray:
            with lock:
                self.begun += 1
                mine = self.begun
            if mine == 1:
                released.wait(60)
            if mine == 3:
                time.sleep(0.5)  # a signal in the instant before somebody waits is not seen: until he does, and again
                os.kill(os.getpid(), signal.SIGINT)
                while not released.wait(15):
                    os.kill(os.getpid(), signal.SIGINT)
            return super().frames(waveform)

    lock = threading.Lock()
    try:
        with pytest.raises(extract.Interrupted):
            extract.extract(corpus, Stuck(encoders.preset("counting"), LoadRequest()), store)
    finally:
        released.set()
    (key,) = store.keys("tiny")
    assert len(store.load("tiny", key)[0]) == 1


def test_encoders_that_do_not_fit_into_memory_together_run_in_turns() -> None:
    asked = {name: LoadRequest() for name in ("hubert", "xvector", "wav2vec2", "nobody", "logmel")}
    sizes = [grouping.weight_bytes(encoders.preset(name)) for name in ("hubert", "xvector", "wav2vec2")]
    forward = grouping.forward_bytes(encoders.preset("hubert"), 30.0)

    def groups(room: int) -> list[list[str]]:
        return grouping.groups(asked, longest=5.0, room=room)

    assert groups(sum(sizes) + forward) == [list(asked)]
    assert groups(sum(sizes) + forward - 1) == [["hubert", "xvector"], ["wav2vec2", "nobody", "logmel"]]
    assert groups(0) == [[name] for name in asked]
    half = {name: replace(request, dtype="float16") for name, request in asked.items()}
    assert grouping.groups(half, longest=5.0, room=sum(sizes) // 2 + 3 + forward) == [list(asked)]
    # A clip longer than a batch decides what a forward takes.
    assert len(grouping.groups(asked, longest=600.0, room=sum(sizes) + forward)) > 1


def test_a_recording_at_several_rates_is_that_of_each_rate_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (200_000, 2)), 44100)
    found = audio.read_recordings(path, [8000, 44100, 16000], start=0.5, end=4.0)
    for rate, recording in found.items():
        alone = audio.read_recording(path, rate, start=0.5, end=4.0)
        assert isinstance(recording, audio.Recording) and recording.sample_rate == rate
        assert recording.waveform.tobytes() == alone.waveform.tobytes() and recording.sound == alone.sound
    soundfile.write(path, [0.1, -0.1], 96000)
    short = audio.read_recordings(path, [96000, 1])
    assert isinstance(short[96000], audio.Recording) and isinstance(short[1], AudioError)
