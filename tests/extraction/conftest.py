"""What the tests of extraction share: the encoder that counts what it hears, and an empty store."""

from collections.abc import Iterator
from pathlib import Path

import counting_encoder
import pytest

from serfuse.store import EmbeddingStore


@pytest.fixture
def counting() -> Iterator[None]:
    """The encoders of `counting_encoder` in the registry, which have heard nothing."""
    counting_encoder.install()
    counting_encoder.HEARD.clear()
    yield
    counting_encoder.uninstall()


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(tmp_path / "store")
