"""A limit takes few clips that meet many emotions and speakers."""

from pathlib import Path

import pytest

from serfuse.corpora.base import Clip, Corpus
from serfuse.corpora.subset import spread
from serfuse.errors import ConfigError


def test_limits_spread_over_emotions_and_speakers() -> None:
    emotions = ("anger", "fear", "neutral")
    clips = tuple(Clip(f"c{n:02d}", Path(f"c{n:02d}.wav"), emotions[n % 3], f"s{n % 2}") for n in range(12))
    corpus = Corpus("tiny", clips)
    some = spread(corpus, 6)
    assert len({(clip.emotion, clip.speaker) for clip in some.clips}) == 6
    assert some == spread(corpus, 6) and [c.id for c in some.clips] == sorted(c.id for c in some.clips)
    assert spread(corpus, 99).clips == corpus.clips
    with pytest.raises(ConfigError):
        spread(corpus, 0)
