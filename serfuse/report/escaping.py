"""Text out of files and names, for every form that serfuse writes: nothing in it becomes a command there."""

import re
from html import escape as html
from typing import Any

_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",  # after a line's end it would be read as a length
        "]": "{]}",
        "–": "--",
    }
)


def one_line(text: str) -> str:
    """Join `text` to one line, whatever breaks lines in it."""
    return " ".join(text.split())


def latex(text: str) -> str:
    """Put `text` on one line, with everything written out that LaTeX would take for a command or another letter."""
    return one_line(text).translate(_SPECIAL)


def markdown(text: str) -> str:
    """Put `text` on one line, with nothing in it that Markdown takes for HTML, a link, code or an escape."""
    return re.sub(r"([\\`<\[\]])", r"\\\1", one_line(text))


def markdown_row(cells: list[str]) -> str:
    """Make a row of a Markdown table; the cells are Markdown already."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def spreadsheet(cell: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would take for a formula; numbers stay as they are."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


__all__ = ["html", "latex", "markdown", "markdown_row", "one_line", "spreadsheet"]
