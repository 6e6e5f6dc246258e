"""A table in Markdown, CSV, LaTeX and HTML."""

import csv
import io
from xml.etree import ElementTree

import pytest

from serfuse.errors import ConfigError
from serfuse.sweep import render
from serfuse.sweep.table import Block, Figure, Head, Line, Table


@pytest.fixture
def shown() -> Table:
    heads = tuple(
        Head(corpus, model, metric, (corpus, model, metric))
        for corpus in ("CREMA-D", "Emo_DB")
        for model in ("FCN", "CNN")
        for metric in ("Acc", "F1")
    )
    best = Figure(63.456, 60.0, 66.66, 64.7, best=True)
    plain = Figure(50.0, None, None, 51.25)
    blocks = (
        Block("R & D", (Line("W2", (best,) * 8), Line("A|T <x>", (plain,) * 8))),
        Block(None, (Line("SS_1", (Figure(printed=12.0),) * 8),)),
    )
    return Table("50 % of {all} & more", "Rep", heads, blocks, ("a < b",))


def test_csv_has_every_number_and_reads_back(shown: Table) -> None:
    rows = list(csv.DictReader(io.StringIO(render.render(shown, "csv"))))
    assert [(row["block"], row["row"]) for row in rows] == [("R & D", "W2"), ("R & D", "A|T <x>"), ("", "SS_1")]
    first = {name: rows[0][f"Emo_DB CNN F1 {name}"] for name in ("measured", "low", "high", "printed", "best")}
    assert first == {"measured": "63.456", "low": "60.0", "high": "66.66", "printed": "64.7", "best": "1"}
    assert rows[1]["CREMA-D FCN Acc low"] == "" and rows[2]["CREMA-D FCN Acc measured"] == ""
    assert len(rows[0]) == 3 + 5 * 8
    assert [row["random weights"] for row in rows] == ["", "", ""]


def test_markdown_has_as_many_cells_in_every_line(shown: Table) -> None:
    lines = [line for line in render.render(shown, "markdown").splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {10}
    assert "**63.46** [60.0, 66.7] / 64.70" in lines[3]
    assert lines[4].startswith("| A\\|T \\<x> | 50.00 / 51.25 |")
    assert "– / 12.00" in lines[5]


def test_latex_is_balanced_and_escaped(shown: Table) -> None:
    text = render.render(shown, "latex")
    assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")
    assert "R \\& D" in text and "SS\\_1" in text and "Emo\\_DB" in text
    assert "\\textbf{63.46} {\\scriptsize [60.0, 66.7]} & 64.70" in text
    rows = [line for line in text.splitlines() if line.startswith(("W2", "A\\textbar{}T", "SS"))]
    assert len(rows) == 3 and all(row.count(" & ") == 16 and row.endswith("\\\\") for row in rows)
    heads = [line for line in text.splitlines() if "multicolumn{8}{c}" in line or "multicolumn{4}{c}" in line]
    assert heads[0] == " & \\multicolumn{8}{c}{CREMA-D} & \\multicolumn{8}{c}{Emo\\_DB} \\\\"
    assert heads[1].count("multicolumn{4}{c}{FCN}") == 2


def test_html_is_well_formed_and_escaped(shown: Table) -> None:
    text = render.render(shown, "html")
    body = ElementTree.fromstring(text[text.index("<table>") : text.index("</table>") + len("</table>")])
    rows = [row for row in body.iter("tr") if row.find("td") is not None]
    assert [row.find("th").text for row in rows] == ["W2", "A|T <x>", "SS_1"]
    assert all(len(row.findall("td")) == 16 for row in rows)
    levels = [[(cell.text, cell.get("colspan")) for cell in row] for row in body.find("thead")]
    assert levels[0] == [("Rep", None), ("CREMA-D", "8"), ("Emo_DB", "8")]
    assert levels[1] == [("FCN", "4"), ("CNN", "4")] * 2
    assert len(levels) == 4 and body.find("thead")[0][0].get("rowspan") == "4"
    assert "a &lt; b" in text and rows[0].find("td").get("class") == "best"


def test_without_printed_figures_there_is_no_column_for_them(shown: Table) -> None:
    lines = tuple(Line(line.label, (Figure(1.0, 0.5, 2.0),) * 8) for line in shown.blocks[0].lines)
    alone = Table(shown.title, shown.rows_heading, shown.heads, (Block(None, lines),), ())
    assert not alone.compares and shown.compares
    assert "printed" not in render.render(alone, "html").partition("<table>")[2]
    assert "| 1.00 [0.5, 2.0] |" in render.render(alone, "markdown")
    row = next(line for line in render.render(alone, "latex").splitlines() if line.startswith("W2"))
    assert row.count(" & ") == 8


def test_an_unknown_form_lists_the_known(shown: Table) -> None:
    with pytest.raises(ConfigError, match="markdown, csv, latex, html"):
        render.render(shown, "word")


def test_what_a_specification_says_stays_text() -> None:
    """A specification, and the names in it, may come from anybody."""
    evil = "=cmd()\n\\input{/etc/passwd}\n<script>alert(1)</script>"
    head = Head(evil, evil, evil, (evil, evil, evil))
    table = Table(evil, evil, (head,), (Block(evil, (Line(evil, (Figure(50.0),), (evil,)),)),), (evil,))
    tex = render.render(table, "latex")
    assert not any("\\input" in line and not line.startswith("%") for line in tex.splitlines())
    assert "<script" not in render.render(table, "html").partition("</style>")[2]
    assert "<script" not in render.render(table, "markdown").replace("\\<", "")
    cells = [cell for row in csv.reader(io.StringIO(render.render(table, "csv"))) for cell in row]
    assert not [cell for cell in cells if cell.startswith("=")]
