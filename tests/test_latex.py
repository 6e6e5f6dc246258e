"""Text for LaTeX."""

from serfuse import latex


def test_every_special_letter_is_written_out() -> None:
    assert latex.escape("a_b & 5 % {x} \\ ~") == r"a\_b \& 5 \% \{x\} \textbackslash{} \textasciitilde{}"
    assert latex.escape("#1^2 $3 – W2 + SS") == r"\#1\textasciicircum{}2 \$3 -- W2 + SS"
