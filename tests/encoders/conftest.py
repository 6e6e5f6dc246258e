"""Fixtures of the encoders' tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def lyra_dir() -> Path:
    """The folder with Lyra's published `soundstream_encoder.tflite`: `$SERFUSE_LYRA`, or one beside the
    repository, or skip."""
    given = os.environ.get("SERFUSE_LYRA")
    if given:
        # A folder that was asked for by name must be there: a skip would hide a typing mistake.
        assert Path(given).is_dir(), f"SERFUSE_LYRA={given} is not a folder"
        return Path(given)
    beside = Path(__file__).resolve().parents[3] / "shared" / "weights" / "lyra"
    if not beside.is_dir():
        pytest.skip("needs Lyra's weights: set SERFUSE_LYRA to the folder of soundstream_encoder.tflite")
    return beside


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any weights and without a network; returns the (absent) weights folder."""
    monkeypatch.setenv("SERFUSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "weights"
