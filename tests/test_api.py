"""The names that `import serfuse` offers, and the page that shows them."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import serfuse
from serfuse import splits

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"


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


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(tiny_corpus_dir: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """As it stands, but on the tests' corpus in place of one that would be generated."""
    monkeypatch.chdir(tmp_path)
    Path("speech").symlink_to(tiny_corpus_dir, target_is_directory=True)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    try:
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
    finally:
        if "halves" in splits.SPLITS:
            splits.SPLITS.unregister("halves")
    printed = capsys.readouterr().out
    assert "prosody 48 clips, 52 values each" in printed
    assert "The speech is synthetic" in printed and "fold 1 done" in printed
    assert len(set(re.search(r"\['(\w+)', '(\w+)', '(\w+)'\]$", printed, re.MULTILINE).groups())) == 1
    assert Path("report.html").stat().st_size > 10_000 and Path("winner.serfuse").exists()
