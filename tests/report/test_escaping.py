"""Names and headings of others stay text in every form that is written."""

from serfuse.report import escaping


def test_every_special_letter_is_written_out() -> None:
    assert escaping.latex("a_b & 5 % {x} \\ ~") == r"a\_b \& 5 \% \{x\} \textbackslash{} \textasciitilde{}"
    assert escaping.latex("#1^2 $3 – W2 + SS") == r"\#1\textasciicircum{}2 \$3 -- W2 + SS"


def test_letters_that_other_fonts_or_commands_would_change() -> None:
    assert escaping.latex("<script> a|b") == r"\textless{}script\textgreater{} a\textbar{}b"
    assert escaping.latex("[2pt]\nx") == "{[}2pt{]} x", "after a line's end a bracket would be a length"


def test_a_spreadsheet_takes_no_name_for_a_formula() -> None:
    assert [escaping.spreadsheet(cell) for cell in ("=1+1", "+a", "-a", "@a", "\tx")] == [
        "'=1+1",
        "'+a",
        "'-a",
        "'@a",
        "'\tx",
    ]
    assert [escaping.spreadsheet(cell) for cell in ("a=1", -1.5, "", None)] == ["a=1", -1.5, "", None]


def test_markdown_passes_no_html_and_no_link() -> None:
    assert escaping.markdown("<img src=x>\n[a](b) `c`") == r"\<img src=x> \[a\](b) \`c\`"
    assert escaping.markdown_row(["a|b", "c"]) == r"| a\|b | c |"
