"""The generated corpus: the same bytes from the same seed, and voices that do what their emotion says."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serfuse.corpora import synthetic
from serfuse.errors import CorpusError
from serfuse.progress import Observer

SMALL = {"speakers": 1, "texts": 1, "takes": 1, "emotions": ("anger", "sadness")}


def hashes(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.wav")}


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        synthetic.generate(tmp_path / name, seed=seed, **SMALL)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert not set(hashes(tmp_path / "a").values()) & set(hashes(tmp_path / "c").values())


def test_clips_do_not_depend_on_which_others_there_are(tmp_path: Path) -> None:
    synthetic.generate(tmp_path / "a", **SMALL)
    synthetic.generate(tmp_path / "b", **{**SMALL, "speakers": 2})
    few, more = hashes(tmp_path / "a"), hashes(tmp_path / "b")
    assert few.items() <= more.items() and len(more) == 2 * len(few)


def test_what_is_there_is_kept_and_what_was_changed_is_mended(tmp_path: Path) -> None:
    corpus = synthetic.generate(tmp_path / "a", **SMALL)
    before, victim = hashes(tmp_path / "a"), corpus.clips[0].path
    times = {clip.path: clip.path.stat().st_mtime_ns for clip in corpus.clips}
    victim.write_bytes(b"broken")
    synthetic.generate(tmp_path / "a", **SMALL)
    assert hashes(tmp_path / "a") == before
    assert corpus.clips[1].path.stat().st_mtime_ns == times[corpus.clips[1].path]


def test_read_gives_what_generate_gave(tiny_corpus, tiny_corpus_dir: Path) -> None:
    assert synthetic.read(tiny_corpus_dir) == tiny_corpus
    assert tiny_corpus.synthetic and tiny_corpus.name == "synthetic" and len(tiny_corpus.clips) == 48
    assert {clip.emotion for clip in tiny_corpus.clips} == {"anger", "neutral", "sadness"}
    assert {len({clip.speaker for clip in tiny_corpus.clips}), len({clip.text for clip in tiny_corpus.clips})} == {4, 2}


def test_voices_follow_the_emotion(tiny_corpus) -> None:
    """Loudness, tempo and brightness per emotion, averaged over speakers, texts and takes."""
    measured: dict[str, list[tuple[float, float, float]]] = {}
    for clip in tiny_corpus.clips:
        wave, rate = soundfile.read(clip.path)
        spectrum = np.abs(np.fft.rfft(wave)) ** 2
        frequencies = np.fft.rfftfreq(len(wave), 1 / rate)
        centre = float((spectrum * frequencies).sum() / spectrum.sum())
        level = 10 * np.log10(np.mean(wave**2))
        measured.setdefault(clip.emotion, []).append((level, len(wave) / rate, centre))
        assert np.abs(wave).max() < 1.0
    level, seconds, centre = {}, {}, {}
    for emotion, values in measured.items():
        level[emotion], seconds[emotion], centre[emotion] = np.mean(values, axis=0)
    assert level["anger"] > level["neutral"] > level["sadness"]
    assert seconds["anger"] < seconds["neutral"] < seconds["sadness"]
    assert centre["anger"] > centre["neutral"] > centre["sadness"]


def test_progress_counts_every_clip(tmp_path: Path) -> None:
    seen = []

    class Watch(Observer):
        def begin(self, what: str, total: int, unit: str = "clip") -> None:
            seen.append((total, unit))

        def advance(self, done: int | None = None, **_: object) -> None:
            seen.append(done)

        def end(self) -> None:
            seen.append("end")

    synthetic.generate(tmp_path / "a", **SMALL, observer=Watch())
    assert seen == [(2, "clip"), 1, 2, "end"]


def test_bad_requests(tmp_path: Path) -> None:
    for wrong in ({"speakers": 0}, {"emotions": ()}, {"emotions": ("boredom",)}, {"sample_rate": 100}):
        with pytest.raises(CorpusError):
            synthetic.generate(tmp_path / "a", **{**SMALL, **wrong})
    with pytest.raises(CorpusError, match="no synthetic corpus"):
        synthetic.read(tmp_path)
    synthetic.generate(tmp_path / "b", **SMALL)
    with pytest.raises(CorpusError, match="other settings"):
        synthetic.generate(tmp_path / "b", **SMALL, seed=9)
    (tmp_path / "b" / "corpus.json").write_text("{", "utf-8")
    with pytest.raises(CorpusError, match="damaged"):
        synthetic.read(tmp_path / "b")


def test_an_interrupted_generation_goes_on(tmp_path: Path) -> None:
    class Stop(Observer):
        def advance(self, done: int | None = None, **_: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthetic.generate(tmp_path / "a", **SMALL, observer=Stop())
    with pytest.raises(CorpusError, match="no synthetic corpus"):
        synthetic.read(tmp_path / "a")
    synthetic.generate(tmp_path / "a", **SMALL)
    synthetic.generate(tmp_path / "b", **SMALL)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("keep me", "utf-8")
    with pytest.raises(CorpusError, match=r"something else \(thesis\.txt\)"):
        synthetic.generate(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_pitch_follows_the_emotion(tiny_corpus) -> None:
    """Median pitch by autocorrelation: anger above neutral above sadness for every voice, on average of its clips."""
    pitch: dict[tuple[str, str], list[float]] = {}
    for clip in tiny_corpus.clips:
        wave, rate = soundfile.read(clip.path)
        frames = np.lib.stride_tricks.sliding_window_view(wave, 640)[::320]
        loud = frames[np.square(frames).mean(axis=1) > 0.3 * np.square(wave).mean()] * np.hanning(640)
        power = np.abs(np.fft.rfft(loud, 1280, axis=1)) ** 2
        correlation = np.fft.irfft(power, axis=1)[:, :400]
        window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(640), 1280)) ** 2)[:400]
        lags = 40 + np.argmax((correlation / window)[:, 40:230], axis=1)
        pitch.setdefault((clip.speaker, clip.emotion), []).append(float(np.median(rate / lags)))
    mean = {key: np.mean(values) for key, values in pitch.items()}
    for speaker in {clip.speaker for clip in tiny_corpus.clips}:
        assert mean[speaker, "anger"] > mean[speaker, "neutral"] > mean[speaker, "sadness"], mean


def test_a_manifest_cannot_point_out_of_its_folder(tmp_path: Path) -> None:
    synthetic.generate(tmp_path / "b", **SMALL)
    path = tmp_path / "b" / "corpus.json"
    path.write_text(path.read_text("utf-8").replace("spk01/spk01_t01_anger_1.wav", "../spk01_t01_anger_1.wav"), "utf-8")
    with pytest.raises(CorpusError, match="not the name"):
        synthetic.read(tmp_path / "b")
