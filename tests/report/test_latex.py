"""Text for LaTeX."""

from serfuse.report import latex


def test_every_special_letter_is_written_out() -> None:
    assert latex.escape("a_b & 5 % {x} \\ ~") == r"a\_b \& 5 \% \{x\} \textbackslash{} \textasciitilde{}"
    assert latex.escape("#1^2 $3 – W2 + SS") == r"\#1\textasciicircum{}2 \$3 -- W2 + SS"


def test_letters_that_other_fonts_or_commands_would_change() -> None:
    assert latex.escape("<script> a|b") == r"\textless{}script\textgreater{} a\textbar{}b"
    assert latex.escape("[2pt]\nx") == "{[}2pt{]} x", "after a line's end a bracket would be a length"
