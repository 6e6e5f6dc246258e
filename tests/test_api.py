"""The names that `import serfuse` offers, and the page that shows them."""

import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import serfuse

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"
NOTEBOOK = PAGE.with_name("study.ipynb")


def test_every_name_is_there_and_says_what_it_does() -> None:
    assert set(serfuse.__all__) <= set(dir(serfuse))
    for name in serfuse.__all__:
        assert inspect.getdoc(getattr(serfuse, name)), name
        assert f"`{name}" in PAGE.read_text("utf-8"), f"{name} is not on docs/api.md"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'serfuse' has no attribute 'train_all'"):
        serfuse.train_all  # noqa: B018


def test_importing_it_takes_next_to_nothing() -> None:
    script = (
        "import sys; before = set(sys.modules); import serfuse; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["serfuse"]


def blocks() -> list[str]:
    """The page's program."""
    return [block.strip() for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)]


def test_the_notebook_is_the_page_with_what_it_prints() -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert ["".join(cell["source"]) for cell in cells] == blocks(), "run `make study`"
    assert all(cell["execution_count"] for cell in cells)
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert sum(bool(cell["outputs"]) for cell in cells) >= len(cells) - 2


@pytest.mark.slow
def test_the_page_and_its_notebook_run_from_top_to_bottom(tiny_corpus_dir: Path, tmp_path: Path) -> None:
    """As it stands, in a kernel of its own, but on the tests' corpus in place of one that would be generated."""
    spec = importlib.util.spec_from_file_location("make_study", PAGE.parent / "make_study.py")
    make_study = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_study)
    (tmp_path / "speech").symlink_to(tiny_corpus_dir, target_is_directory=True)
    made = make_study.notebook()
    make_study.run(made, tmp_path)
    printed = "".join(output.get("text", "") for cell in made.cells for output in cell.get("outputs", []))
    assert "prosody 48 clips, 52 values each" in printed
    assert "The speech is synthetic" in printed and "fold 1 done" in printed
    assert len(set(re.search(r"^\['(\w+)', '(\w+)', '(\w+)'\]$", printed, re.MULTILINE).groups())) == 1
    assert (tmp_path / "report.html").stat().st_size > 10_000 and (tmp_path / "winner.serfuse").exists()
