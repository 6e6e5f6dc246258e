"""A table as Markdown, CSV, LaTeX or HTML."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from ..errors import ConfigError
from ..report import escaping
from .table import Figure, Head, Table

MISSING = "–"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem; color: #1a1a1a; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; margin-bottom: .6rem; }
th, td { padding: .2rem .6rem; text-align: right; white-space: nowrap; }
tbody th { text-align: left; }
thead th { text-align: center; border-bottom: 1px solid #bbb; }
thead tr:first-child th:first-child { text-align: left; }
tbody + tbody { border-top: 1px solid #bbb; }
.block { text-align: left; font-style: italic; }
.interval { color: #666; font-size: .85em; }
.printed { color: #666; border-right: 1px solid #e5e5e5; }
.best { font-weight: 700; }
p { max-width: 60rem; margin: .3rem 0; }
"""


def render(table: Table, form: str) -> str:
    """The table in one of `FORMS`.

    Raises:
        ConfigError: an unknown form.
    """
    if form not in FORMS:
        raise ConfigError(f"Unknown form {form!r}. Choose one of: {', '.join(FORMS)}.")
    return FORMS[form](table)


def markdown(table: Table) -> str:
    """One line per row; a cell is `measured [interval] / printed`, in bold where it is marked."""
    plain, row = escaping.markdown, escaping.markdown_row
    heads = [table.rows_heading, *(" ".join(filter(None, (h.corpus, h.model, h.metric))) for h in table.heads)]
    lines = [f"### {plain(table.title)}", "", row([plain(head) for head in heads])]
    lines.append(row(["---", *["---:"] * len(table.heads)]))
    for block in table.blocks:
        if block.title:
            lines.append(row([f"**{plain(block.title)}**", *[""] * len(table.heads)]))
        for line in block.lines:
            lines.append(row([plain(line.label), *(_together(figure, table.compares) for figure in line.figures)]))
    cell = "measured [interval] / printed" if table.compares else "measured [interval]"
    lines += ["", f"A cell: {cell}.", *(f"\n{plain(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def comma(table: Table) -> str:
    """One line per row, five columns per figure; numbers in per cent with full precision, empty where missing.

    The last column names the encoders of the row that have random weights.
    """
    parts = ("measured", "low", "high", "printed", "best")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [" ".join(filter(None, (h.corpus, h.model, h.metric))) for h in table.heads]
    heads = ["block", "row", *(f"{name} {part}" for name in names for part in parts), "random weights"]
    writer.writerow([escaping.spreadsheet(head) for head in heads])
    for block in table.blocks:
        for line in block.lines:
            cells: list[str] = []
            for f in line.figures:
                cells += ["" if v is None else repr(round(v, 6)) for v in (f.measured, f.low, f.high, f.printed)]
                cells.append("" if f.measured is None else str(int(f.best)))
            named = [escaping.spreadsheet(text) for text in (block.title or "", line.label)]
            writer.writerow([*named, *cells, escaping.spreadsheet(" ".join(line.random_weights))])
    return out.getvalue()


def latex(table: Table) -> str:
    """A `tabular` for the package booktabs; two columns per figure, measured and printed, where anything is printed."""
    each = 2 if table.compares else 1
    width = each * len(table.heads)
    lines = [
        f"% {escaping.latex(table.title)}. Needs \\usepackage{{booktabs}}.",
        f"% Columns: measured with its interval{', then printed' if table.compares else ''}.",
        f"\\begin{{tabular}}{{l{'r' * width}}}",
        "\\toprule",
    ]
    levels = _levels(table)
    for level in levels:
        cells = [f"\\multicolumn{{{each * span}}}{{c}}{{{escaping.latex(text)}}}" for text, span in level]
        first = escaping.latex(table.rows_heading) if level is levels[-1] else ""
        lines.append(" & ".join([first, *cells]) + r" \\")
    for block in table.blocks:
        lines.append("\\midrule")
        if block.title:
            lines.append(f"\\multicolumn{{{width + 1}}}{{l}}{{\\textit{{{escaping.latex(block.title)}}}}} \\\\")
        for line in block.lines:
            cells = []
            for figure in line.figures:
                number = measured(figure, "\\textbf{", "}").replace(MISSING, "--")
                shown = interval(figure)
                cells.append(f"{number} {{\\scriptsize {shown}}}" if shown else number)
                if table.compares:
                    cells.append(printed(figure).replace(MISSING, "--"))
            lines.append(" & ".join([escaping.latex(line.label), *cells]) + r" \\")
    lines += ["\\bottomrule", "\\end{tabular}"]
    return "\n".join([*lines, *(f"% {escaping.one_line(note)}" for note in table.notes)]) + "\n"


def page(table: Table) -> str:
    """A page of HTML that stands alone."""
    levels = _levels(table)
    each = 2 if table.compares else 1
    rows = []
    for number, level in enumerate(levels):
        first = (
            f'<th rowspan="{len(levels) + each - 1}">{escaping.html(table.rows_heading)}</th>' if number == 0 else ""
        )
        cells = "".join(f'<th colspan="{each * span}">{escaping.html(text)}</th>' for text, span in level)
        rows.append(f"<tr>{first}{cells}</tr>")
    if table.compares:
        rows.append("<tr>" + "<th>measured</th><th>printed</th>" * len(table.heads) + "</tr>")
    bodies = []
    for block in table.blocks:
        lines = []
        if block.title:
            span = each * len(table.heads) + 1
            lines.append(f'<tr><th class="block" colspan="{span}">{escaping.html(block.title)}</th></tr>')
        for line in block.lines:
            cells = ""
            for figure in line.figures:
                shown = interval(figure)
                small = f' <span class="interval">{shown}</span>' if shown else ""
                name = ' class="best"' if figure.best else ""
                cells += f"<td{name}>{measured(figure)}{small}</td>"
                if table.compares:
                    cells += f'<td class="printed">{printed(figure)}</td>'
            lines.append(f"<tr><th>{escaping.html(line.label)}</th>{cells}</tr>")
        bodies.append("<tbody>\n" + "\n".join(lines) + "\n</tbody>")
    notes = "\n".join(f"<p>{escaping.html(note)}</p>" for note in table.notes)
    title = escaping.html(table.title)
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body>\n<table>\n<caption>{title}</caption>\n<thead>\n"
        + "\n".join(rows)
        + "\n</thead>\n"
        + "\n".join(bodies)
        + f"\n</table>\n{notes}\n</body>\n</html>\n"
    )


FORMS: dict[str, Callable[[Table], str]] = {
    "markdown": markdown,
    "csv": comma,
    "latex": latex,
    "html": page,
}
"""Ways of writing a table -> the function that does."""


def _levels(table: Table) -> list[list[tuple[str, int]]]:
    """The lines of the heading: corpora, models where they are columns, figures; each text with its columns."""
    keys: list[Callable[[Head], tuple[str, ...]]] = [lambda h: (h.corpus,), lambda h: (h.corpus, h.model)]
    if not any(head.model for head in table.heads):
        keys.pop()
    levels = [list(_spans(table.heads, key)) for key in keys]
    return [*levels, [(head.metric, 1) for head in table.heads]]


def _spans(heads: Sequence[Head], key: Callable[[Head], tuple[str, ...]]) -> Iterator[tuple[str, int]]:
    for names, group in groupby(heads, key=key):
        yield names[-1], len(list(group))


def measured(figure: Figure, before: str = "", after: str = "") -> str:
    """The measured figure, between `before` and `after` where it is marked."""
    if figure.measured is None:
        return MISSING
    number = f"{figure.measured:.{max(2, figure.decimals)}f}"
    return f"{before}{number}{after}" if figure.best else number


def interval(figure: Figure, short: bool = False) -> str:
    """The interval in brackets, or nothing; with a decimal less for narrow columns."""
    if figure.low is None or figure.high is None:
        return ""
    decimals = figure.decimals - 1 if short else figure.decimals
    return f"[{figure.low:.{decimals}f}, {figure.high:.{decimals}f}]"


def printed(figure: Figure) -> str:
    """The printed figure."""
    return MISSING if figure.printed is None else f"{figure.printed:.2f}"


def _together(figure: Figure, compares: bool) -> str:
    found = f"{measured(figure, '**', '**')} {interval(figure)}".rstrip()
    return f"{found} / {printed(figure)}" if compares else found
