"""openSMILE's functionals against the package itself; skipped where it is not installed."""

import sys

import numpy as np
import pytest
from checkpoints import speechlike

from serfuse import encoders
from serfuse.encoders import LoadRequest
from serfuse.encoders.smile import ENTRIES
from serfuse.errors import AudioError, ConfigError, WeightsError


def test_a_machine_without_the_package_says_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(ConfigError, match=r"^egemaps needs opensmile, .*: pip install 'serfuse\[opensmile\]'\.$"):
        encoders.load("egemaps")


def test_what_is_known_without_the_package() -> None:
    for name, size in (("egemaps", 88), ("compare-2016", 6373)):
        row = encoders.table_row(name)
        assert (row["time"], row["family"], row["frame_rate"], row["where"]) == (size, "signal", None, "needs none")
        assert "Research" in row["licence"] and "commercial" in row["licence"]
    with pytest.raises(WeightsError, match="has no weights"):
        encoders.load("egemaps", LoadRequest(weights="random"))
    with pytest.raises(ConfigError, match="no layers"):
        encoders.load("egemaps", LoadRequest(layer="2"))


@pytest.fixture(params=ENTRIES)
def smile(request):
    pytest.importorskip("opensmile", reason="needs openSMILE: pip install 'serfuse[opensmile]'")
    return encoders.load(request.param)


def test_gives_what_the_package_does(smile) -> None:
    import opensmile

    theirs = opensmile.Smile(opensmile.FeatureSet[smile.preset.config["feature_set"]])
    clips = [speechlike(16_000), 0.1 * speechlike(16_000, 1)]
    for clip, batched in zip(clips, smile.frames_batch(clips), strict=True):
        expected = theirs.process_signal(clip, 16_000).to_numpy()
        frames = smile.frames(clip)
        assert frames.shape == (1, smile.preset.vector_size) == expected.shape and frames.dtype == np.float32
        assert np.array_equal(frames, expected) and np.array_equal(frames, batched)


def test_full_scale_is_no_overflow_and_silence_is_finite(smile) -> None:
    square = np.sign(np.sin(np.arange(8_000) * 0.1)).astype(np.float32)
    # The package counts to 32767: what is louder would come out negative.
    assert np.array_equal(smile.frames(square), smile.frames(np.minimum(square, np.float32(32767 / 32768))))
    assert np.isfinite(smile.frames(np.zeros(8_000, np.float32))).all()


def test_shortest_clip(smile) -> None:
    assert np.isfinite(smile.frames(speechlike(960))).all()
    with pytest.raises(AudioError, match="at least 960"):
        smile.frames(speechlike(959))


def test_the_version_is_part_of_the_key(smile) -> None:
    from importlib import metadata

    assert encoders.libraries(smile.preset) == {"opensmile": metadata.version("opensmile")}
