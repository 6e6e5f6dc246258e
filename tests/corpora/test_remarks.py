"""Remarks about labels and names."""

import pytest

from serfuse.corpora import remarks


@pytest.mark.parametrize(
    "names",
    [("Anna", "anna"), ("s1", "S01"), ("1", "1.0"), ("a b", "a_b"), ("é", "e\N{COMBINING ACUTE ACCENT}"), ("7", "007")],
)
def test_names_that_differ_only_in_how_they_are_written(names: tuple[str, str]) -> None:
    (said,) = remarks.speaker_spellings([*names, None])
    assert all(repr(name) in said for name in names)


@pytest.mark.parametrize("names", [("Anna", "Anne"), ("s1", "s10"), ("1", "1.5"), ("10", "1-0"), ("100", "1")])
def test_other_names_are_others(names: tuple[str, str]) -> None:
    assert remarks.speaker_spellings(names) == []


def test_text_that_cannot_be_written_is_escaped() -> None:
    assert remarks.escaped("c\udcf3lera") == "c\\xf3lera"
    assert remarks.escaped("half \ud83d") == "half \\ud83d"
    assert remarks.escaped("Ärger \N{GRINNING FACE}") == "Ärger \N{GRINNING FACE}"
