"""Dependencies point downwards, and nothing heavy is imported before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("tensorflow", "torch", "keras", "jax", "transformers", "librosa", "sklearn", "pandas", "matplotlib", "ray")


def _imports(path: Path) -> set[str]:
    """Absolute names of every module imported anywhere in a file."""
    package = ("serfuse", *path.relative_to(ROOT / "serfuse").parent.parts) if "serfuse" in path.parts else ()
    if path.is_relative_to(ROOT / "cli"):
        package = ("serfuse", "cli", *path.relative_to(ROOT / "cli").parent.parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def _files(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def _uses(path: Path, *modules: str) -> list[str]:
    return [name for name in _imports(path) for module in modules if name == module or name.startswith(module + ".")]


# From the ground up: a role may import those before it, and nothing behind it.
ROLES = (
    *(
        "errors",
        "registry",
        "atomic_io",
        "bounded_file",
        "progress",
        "claims",
        "machine",
        "child_process",
        "ray_cluster",
        "audio",
        "corpora",
        "encoders",
        "store",
        "extraction",
    ),
    *("splits", "metrics", "ops", "layers", "models", "published", "experiment", "runs", "prediction", "report"),
    *("recommendation", "sweep"),
)
# Stand beside what is before them rather than on it.
APART = {
    **dict.fromkeys(("splits", "metrics", "ops", "layers", "models"), ("audio", "corpora", "encoders", "store")),
    **dict.fromkeys(("experiment", "runs"), ("audio", "corpora", "encoders", "extraction")),
    "layers": ("registry", "atomic_io", "bounded_file", "audio", "corpora", "encoders", "store", "splits", "metrics"),
    "report": ("encoders", "extraction", "prediction"),
    "recommendation": ("audio", "corpora", "encoders", "extraction", "prediction", "report"),
    "sweep": ("prediction", "extraction", "recommendation"),
}


def _roles(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())


def test_every_module_has_its_place_in_the_order() -> None:
    assert [role for role in _roles(ROOT / "serfuse") if role != "__init__"] == sorted(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_dependencies_point_downwards(role: str) -> None:
    above = ROLES[ROLES.index(role) + 1 :]
    forbidden = [f"serfuse.{name}" for name in (*above, *APART.get(role, ()))]
    for path in _files(f"serfuse/{role}") or [ROOT / f"serfuse/{role}.py"]:
        assert not _uses(path, "serfuse.cli", "click", "rich", *forbidden), path


@pytest.mark.parametrize("folder", ["serfuse/encoders", "serfuse/corpora", "serfuse/extraction", "serfuse/store"])
def test_what_makes_embeddings_never_imports_keras(folder: str) -> None:
    for path in _files(folder):
        assert not _uses(path, "keras", "tensorflow"), path


@pytest.mark.parametrize("role", ["splits", "metrics", "ops", "layers", "models", "experiment", "runs"])
def test_training_never_imports_torch(role: str) -> None:
    for path in _files(f"serfuse/{role}"):
        assert not _uses(path, "torch", "transformers"), path


@pytest.mark.parametrize("role", ["ops", "layers"])
def test_layers_stand_on_keras_alone(role: str) -> None:
    for path in _files(f"serfuse/{role}"):
        assert not _uses(path, "tensorflow", "torch", "jax"), path


def test_nothing_unpickles() -> None:
    """One file reads pickles, through a list of admitted names; everything else has no way to."""
    for path in _files("serfuse") + _files("cli"):
        text = path.read_text("utf-8")
        if path.name != "restricted_unpickler.py":
            assert not _uses(path, "pickle", "dill", "joblib", "cloudpickle"), path
        assert "allow_pickle=True" not in text and "trust_remote_code=True" not in text, path
        assert "yaml.load(" not in text and "weights_only=False" not in text, path


def _loaded(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after running `code`."""
    script = f"{code}\nimport sys\nprint('LOADED', *sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(next(line for line in done.stdout.splitlines() if line.startswith("LOADED")).split()[1:])


def _run(*arguments: str) -> str:
    """Code that runs a command line in the interpreter, and fails as it does."""
    lines = ["import serfuse.cli", "try:", f"    serfuse.cli.main({list(arguments)!r})"]
    return "\n".join([*lines, "except SystemExit as end:", "    assert not end.code, end.code"])


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["cv", "--help"], ["extract", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert not _loaded(_run(*arguments)) & set(HEAVY)


def test_the_library_itself_imports_nothing_heavy() -> None:
    code = "import serfuse, serfuse.errors, serfuse.encoders, serfuse.corpora, serfuse.models"
    assert not _loaded(code) & set(HEAVY)


@pytest.mark.slow
def test_cv_never_imports_torch_under_tensorflow(make_store, tmp_path: Path) -> None:
    store = make_store()
    cv = ["cv", "--head", "fcn", "--a", "hubert", "--folds", "2", "--epochs", "1"]
    loaded = _loaded(_run(*cv, "--store", str(store.root), "--out", str(tmp_path / "run"), "--quiet"))
    assert "tensorflow" in loaded
    assert not loaded & {"torch", "transformers", "librosa"}  # TensorFlow itself imports jax where it is installed


@pytest.mark.slow
def test_svm_needs_neither_keras_nor_tensorflow(make_store, tmp_path: Path) -> None:
    store = make_store()
    cv = ["cv", "--head", "svm", "--a", "hubert", "--folds", "2", "--store", str(store.root)]
    loaded = _loaded(_run(*cv, "--out", str(tmp_path / "run"), "--quiet"))
    assert "sklearn" in loaded and not loaded & {"tensorflow", "keras", "torch"}
