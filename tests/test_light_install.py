"""What works where libraries are not installed: environments of the same packages but for those."""

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="makes links to what is installed"),
]

ENCODERS = ("torch", "torchaudio", "torchgen", "functorch", "transformers", "encodec", "speechbrain")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def without(tmp_path: Path) -> Callable[..., Run]:
    """Make an environment that lacks packages, and give what runs Python in it."""

    def make(*packages: str) -> Run:
        folder = tmp_path / f"without-{packages[0]}"
        venv.create(folder, symlinks=True)
        (site,) = (folder / "lib").glob("python*/site-packages")
        for entry in filter(lambda one: one.endswith("site-packages"), sys.path):
            for there in Path(entry).iterdir():
                name = there.name.partition("-")[0].replace("_cpu", "").lower()
                if name not in packages and there.suffix != ".pth" and not (site / there.name).exists():
                    (site / there.name).symlink_to(there)
        # An editable install of serfuse is a hook named in a .pth file.
        hooks = {there for entry in sys.path for there in Path(entry).glob("__editable__*serfuse*.pth")}
        for there in hooks:
            (site / there.name).write_bytes(there.read_bytes())

        def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
            variables = {key: value for key, value in os.environ.items() if key not in ("KERAS_BACKEND", "PYTHONPATH")}
            return subprocess.run(
                [folder / "bin" / "python", "-P", *arguments],
                cwd=tmp_path,
                # What numba compiles is of no use to the next environment: quickly, and not into the user's folder.
                env=variables
                | {"NUMBA_OPT": "0", "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
                | {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
                | environment,
                capture_output=True,
                text=True,
                timeout=300,
            )

        missing = run("-c", f"import importlib.util as u; print([u.find_spec(n) for n in {packages!r}])")
        assert set(missing.stdout.strip("[]\n").split(", ")) == {"None"}, missing
        return run

    return make


CV = ("-m", "serfuse.cli", "cv", "--a", "hubert", "--split", "random", "--folds", "2", "--quiet")
FCN = ("--head", "fcn", "--set", "training.epochs=1")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_networks_train_on_other_backends_without_tensorflow(without, standin_store, backend: str) -> None:
    pytest.importorskip(backend)
    run = without("tensorflow")
    done = run(*CV, *FCN, "--store", str(standin_store.root), "--out", "run", KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stderr
    config = (Path(done.args[0]).parents[2] / "run" / "config.yaml").read_text()
    assert f"backend: {backend}" in config and "tensorflow" not in config


def test_a_light_install_extracts_trains_and_says_what_it_lacks(without, standin_store, tiny_corpus_dir: Path) -> None:
    run = without(*ENCODERS)
    speech = ("--corpus", "synthetic", "--data", str(tiny_corpus_dir), "--limit", "4", "--store", "own")
    extracted = run("-m", "serfuse.cli", "extract", *speech, "--encoder", "logmel", "--encoder", "hubert")
    assert extracted.returncode == 1 and "logmel: 4 computed" in extracted.stdout, extracted
    assert "hubert needs torch, which is not installed: pip install 'serfuse[encoders]'." in extracted.stderr
    assert "Traceback" not in extracted.stderr
    done = run(*CV, *FCN, "--store", str(standin_store.root), "--out", "run")
    assert done.returncode == 0, done.stderr


def test_without_tensorflow_the_default_backend_is_one_sentence(without, standin_store) -> None:
    refused = without("tensorflow")(*CV, *FCN, "--store", str(standin_store.root))
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "the package tensorflow is not installed" in refused.stderr and "pip install tensorflow" in refused.stderr
