"""Write docs/study.ipynb from the blocks of docs/api.md, run it, and keep what it prints: `make study`.

The notebook is api.md's program: prose becomes Markdown cells, blocks become code cells.
"""

import re
import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

DOCS = Path(__file__).resolve().parent


def notebook() -> nbformat.NotebookNode:
    """The page as a notebook that was not run yet."""
    text = (DOCS / "api.md").read_text("utf-8")
    study = text[text.index("## A study") :]
    cells = [new_markdown_cell("# A study with serfuse\n\nMade from [api.md](api.md) by `make study`.")]
    for number, part in enumerate(re.split(r"```python\n(.*?)```", study, flags=re.DOTALL)):
        if part.strip():
            cells.append(new_code_cell(part.strip()) if number % 2 else new_markdown_cell(part.strip()))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # drawn at random otherwise, and another at every run
    made = new_notebook(cells=cells)
    made.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made.metadata["language_info"] = {"name": "python"}
    return made


def run(made: nbformat.NotebookNode, folder: Path) -> None:
    """Run every cell in a folder and keep the outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    client = nbclient.NotebookClient(made, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute()
    for cell in made.cells:
        cell.metadata.pop("execution", None)  # times of day
        if cell.cell_type == "code":  # what libraries write while they are imported is no result
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]


if __name__ == "__main__":
    found = notebook()
    with tempfile.TemporaryDirectory() as scratch:
        run(found, Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch))
    nbformat.write(found, DOCS / "study.ipynb")
