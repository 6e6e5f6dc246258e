"""What is installed is what is in the folders, under the names that imports use."""

import configparser
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from serfuse.sweep import spec

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_every_folder_with_code_is_in_the_package_list(setup: configparser.ConfigParser) -> None:
    listed = set(setup["options"]["packages"].split())
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "serfuse").rglob("__init__.py")
        if "__pycache__" not in path.parts
    }
    found |= {"serfuse.cli", "serfuse.configs"}
    assert listed == found


def test_every_data_file_is_packaged(setup: configparser.ConfigParser) -> None:
    patterns = {
        package: [pattern.strip() for pattern in text.replace("\n", ",").split(",") if pattern.strip()]
        for package, text in setup["options.package_data"].items()
    }
    folders = {"serfuse.configs": ROOT / "configs"}
    for package in setup["options"]["packages"].split():
        folders.setdefault(package, ROOT / package.replace(".", "/"))
    folders["serfuse.cli"] = ROOT / "cli"
    owned = set(folders.values())
    for package, folder in folders.items():
        for path in folder.rglob("*"):
            if not path.is_file() or path.suffix in (".py", ".pyc") or "__pycache__" in path.parts:
                continue
            inner = next(parent for parent in path.parents if parent in owned)
            if inner != folder:
                continue
            name = path.relative_to(folder)
            assert any(name.match(pattern) for pattern in patterns.get(package, [])), f"{path} would not be installed"


def test_the_entry_point_is_the_command_line() -> None:
    (entry,) = metadata.entry_points(group="console_scripts", name="serfuse")
    assert entry.value == "serfuse.cli:main"
    assert callable(entry.load())


def test_no_package_called_cli_or_configs_is_installed() -> None:
    names = {path.parts[0] for path in metadata.distribution("serfuse").files or []}
    assert not names & {"cli", "configs", "tests"}


def test_constraints_pin_every_requirement(setup: configparser.ConfigParser) -> None:
    import re

    pinned = {
        re.split("==", line)[0].strip().lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    }
    wanted = setup["options"]["install_requires"].split("\n")
    for extra in setup["options.extras_require"].values():
        wanted += extra.split("\n")
    for line in filter(None, (item.strip() for item in wanted)):
        name = re.split(r"[><=!~;\[ ]", line)[0].lower().replace("_", "-")
        assert name in {*pinned, "serfuse"}, f"{name} is not in constraints.txt"


@pytest.mark.slow
def test_a_wheel_holds_the_command_line_and_the_configurations(tmp_path: Path) -> None:
    """Built from a copy, so that no build folder is left in the project."""
    import shutil
    import zipfile

    copy = tmp_path / "project"
    made = shutil.ignore_patterns(".git", ".venv", "*.egg-info", "__pycache__", "build", ".*_cache")

    def left_out(folder: str, names: list[str]) -> set[str]:
        """What a build makes anywhere, and what commands leave at the top."""
        return made(folder, names) | ({"runs", "demo", "tests"} if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, copy, ignore=left_out)
    pytest.importorskip("setuptools")
    script = "import sys; from setuptools import build_meta; print('wheel:' + build_meta.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path)], cwd=copy, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    name = next(line for line in done.stdout.splitlines() if line.startswith("wheel:"))[6:]
    inside = zipfile.ZipFile(tmp_path / name).namelist()
    assert {"serfuse/cli/cv.py", "serfuse/configs/hyfuse.yaml", "serfuse/published/results.csv"} <= set(inside)
    assert "serfuse/published/sources.csv" in inside
    assert {f"serfuse/configs/tables/{name}.yaml" for name in spec.shipped_names()} <= set(inside)
    assert not [path for path in inside if path.split("/")[0] not in ("serfuse", name.split("-py3")[0] + ".dist-info")]
