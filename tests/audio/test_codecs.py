"""What libsndfile does not read is known by name, and read where its decoder is installed."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serfuse import audio
from serfuse.errors import AudioError

HEADS = {
    "phone.m4a": (b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom\0\0\0\0", "MP4"),
    "clip.webm": (b"\x1a\x45\xdf\xa3", "WebM"),
    "call.amr": (b"#!AMR\n", "AMR"),
    "old.wma": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
    "raw.aac": (b"\xff\xf1\x50\x80", "AAC"),
    "film.avi": (b"RIFF\x00\x10\0\0AVI LIST", "AVI"),
    "named.wav": (b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom\0\0\0\0", "MP4"),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_missing_decoder_is_one_sentence_with_its_cure(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    head, words = HEADS[name]
    (tmp_path / name).write_bytes(head + np.random.default_rng(0).bytes(2000))
    for look in (audio.info, lambda path: audio.read(path, 16000)):
        with pytest.raises(AudioError, match=rf"{name}: is {words}.*pip install 'serfuse\[codecs\]'"):
            look(tmp_path / name)


def test_text_is_no_media(tmp_path: Path) -> None:
    (tmp_path / "a.m4a").write_text("version https://git-lfs.github.com/spec/v1\n", "utf-8")
    with pytest.raises(AudioError, match="is not audio"):
        audio.read(tmp_path / "a.m4a", 16000)


def _encode(path: Path, wave: np.ndarray, codec: str, rate: int) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        size = stream.codec_context.frame_size or 0
        convert = av.AudioResampler(stream.codec_context.format or "fltp", "mono", rate, size)
        frame = av.AudioFrame.from_ndarray(audio.resample(wave, 16000, rate)[None], "fltp", "mono")
        frame.sample_rate, frame.pts = rate, 0
        for piece in [*convert.resample(frame), *convert.resample(None), None]:
            container.mux(stream.encode(piece))


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [("a.m4a", "aac", 16000), ("a.mp4", "aac", 44100), ("a.webm", "libopus", 48000), ("a.wv", "wavpack", 16000)],
)
def test_other_formats_by_the_optional_decoder(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    time = np.arange(3 * 16000) / 16000
    wave = (0.3 * np.sin(2 * np.pi * (200 + 100 * time) * time)).astype("float32")
    path = tmp_path / name
    _encode(path, wave, codec, rate)
    found = audio.read(path, 16000)
    assert audio.info(path).sample_rate == rate and len(found) == pytest.approx(len(wave), abs=2500)
    likeness = np.correlate(found[:24000], wave[4000:20000], "valid").max() / np.sum(wave[4000:20000] ** 2)
    assert likeness > 0.97
    piece = audio.read(path, 16000, start=1.0, end=2.0)
    np.testing.assert_allclose(piece[100:-100], found[16100:31900], atol=2e-3)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AudioError, match=r"damaged|truncated|any audio"):
        audio.read(path, 16000)


def test_a_damaged_header_that_sends_the_decoder_far_behind_the_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """libsndfile does not know its codec any more, and FFmpeg looks for its audio where there is none."""
    pytest.importorskip("av")
    path = tmp_path / "a.caf"
    wave = np.random.default_rng(0).normal(0, 0.1, (4096, 2))
    soundfile.write(path, wave, 16000, format="CAF", subtype="ALAC_32")
    content = bytearray(path.read_bytes())
    content[29] = 0x7F  # of "alac"
    at = content.index(b"data") + 4
    content[at : at + 8] = (20).to_bytes(8, "big")
    content[at + 28 : at + 40] = b"free" + (1 << 62).to_bytes(8, "big")
    path.write_bytes(content)
    for look in (audio.identify, lambda path: audio.read(path, 16000)):
        try:
            found, _ = look(path)
        except AudioError as error:
            found = error
        assert isinstance(found, AudioError) and "damaged" in str(found)
    assert "exception" not in capfd.readouterr().err
