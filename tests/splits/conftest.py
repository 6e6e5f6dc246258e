"""Corpora that several tests of the splits look at."""

import pandas as pd
import pytest
from clip_tables import cremad_names, labels, mesd_names

from serfuse import corpora


class Tables(dict[str, pd.DataFrame]):
    """Labels by corpus, read at the first look: only tests that ask for the real Emo-DB are skipped without it."""

    def __init__(self, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> None:
        super().__init__()
        self._folders, self._request = tmp_path_factory, request

    def __missing__(self, name: str) -> pd.DataFrame:
        if name == "emodb":
            root = self._request.getfixturevalue("emodb_dir")
        else:
            root = self._folders.mktemp(name)
            for stem in {"cremad": cremad_names, "mesd": mesd_names}[name]():
                (root / f"{stem}.wav").touch()
        corpus = corpora.get(name)(root)
        # Counts are as published; that some of CREMA-D's clips are bad is no matter of their labels.
        assert not [text for text in corpus.warnings if "were published" in text]
        self[name] = labels(corpus)
        return self[name]


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Tables:
    return Tables(tmp_path_factory, request)
