"""One vocabulary of emotions, whatever corpora write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serfuse.corpora import emotions
from serfuse.errors import CorpusError


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Happy", "happiness"),
        ("joy", "happiness"),
        ("ANG", "anger"),
        ("Freude", "happiness"),
        ("Ärger", "anger"),
        ("fear/anxiety", "fear"),
        ("Pleasant Surprise", "surprise"),
        ("pleasant_surprise", "surprise"),
        ("  neutral ", "neutral"),
        ("boredem", "boredom"),
    ],
)
def test_usual_names(written: str, meant: str) -> None:
    assert emotions.canonical(written) == meant


@given(st.sampled_from(emotions.EMOTIONS), st.data())
def test_case_and_spaces_do_not_matter_and_canonical_is_idempotent(name: str, data) -> None:
    written = "".join(data.draw(st.sampled_from([c.lower(), c.upper()])) for c in name)
    assert emotions.canonical(f" {written}\t") == name == emotions.canonical(name)


@given(st.text(max_size=12))
def test_anything_else_is_an_error_that_lists_the_choices(text: str) -> None:
    if emotions.known(text) is None:
        with pytest.raises(CorpusError, match="anger"):
            emotions.canonical(text)


def test_aliases_of_the_caller_come_first() -> None:
    assert emotions.canonical("cheer", {"Cheer": "joy"}) == "happiness"
    assert emotions.canonical("calm", {"calm": "neutral"}) == "neutral"
    with pytest.raises(CorpusError):
        emotions.canonical("cheer", {"cheer": "nonsense"})
