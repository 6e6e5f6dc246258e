"""Text for LaTeX."""

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


def escape(text: str) -> str:
    """`text` on one line, with everything that LaTeX would take for a command or another letter written out."""
    return " ".join(text.split()).translate(_SPECIAL)
