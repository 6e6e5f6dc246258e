"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

from serfuse.corpora.base import Corpus

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def emodb_dir() -> Path:
    """The wav folder of the real Emo-DB: `$SERFUSE_EMODB`, or a copy beside the repository, or skip."""
    given = os.environ.get("SERFUSE_EMODB")
    if given:
        # A folder that was asked for by name must be there: a skip would hide a typing mistake.
        assert Path(given).is_dir(), f"SERFUSE_EMODB={given} is not a folder"
        return Path(given)
    beside = REPOSITORY.parent / "shared" / "data" / "emodb" / "wav"
    if not beside.is_dir():
        pytest.skip("needs the real Emo-DB: set SERFUSE_EMODB to its wav folder")
    return beside


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """48 synthetic clips: 4 speakers x 3 emotions (anger, neutral, sadness) x 2 texts x 2 takes, at 16 kHz.

    Generated once per session. Read only: a test that changes files copies `tiny_corpus_dir` first.
    """
    from serfuse.corpora import synthetic

    root = tmp_path_factory.mktemp("tiny") / "corpus"
    return synthetic.generate(
        root, speakers=4, texts=2, takes=2, emotions=("anger", "neutral", "sadness"), seed=7
    )


@pytest.fixture(scope="session")
def tiny_corpus_dir(tiny_corpus: Corpus) -> Path:
    """The root folder of `tiny_corpus` (`<root>/<speaker>/<clip>.wav` and corpus.json)."""
    return tiny_corpus.clips[0].path.parent.parent
