"""The layers and whole models on TensorFlow, torch and JAX, and files of each on each other: a process per backend."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

BACKENDS = [name for name in ("tensorflow", "torch", "jax") if importlib.util.find_spec(name)]
SECONDS = 900

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What backend_worker.py found, `{backend: {check: "" or a traceback}}`."""
    folder = tmp_path_factory.mktemp("backends")
    worker = Path(__file__).with_name("backend_worker.py")
    home = folder / "home"
    (home / ".keras").mkdir(parents=True)
    hostile = {"floatx": "float64", "image_data_format": "channels_first", "epsilon": 0.001, "backend": "openvino"}
    (home / ".keras" / "keras.json").write_text(json.dumps(hostile))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    environment |= {"HOME": str(home), "KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1"}
    environment.pop("KERAS_HOME", None)
    running = {}
    for backend in BACKENDS:
        others = [other for other in BACKENDS if other != backend]
        with (folder / f"{backend}.log").open("w") as log:
            running[backend] = subprocess.Popen(
                [sys.executable, "-P", worker, folder, backend, *others], stdout=log, stderr=log, env=environment
            )
    until = time.monotonic() + SECONDS
    try:
        while any(process.poll() is None for process in running.values()) and time.monotonic() < until:
            for backend, process in running.items():
                if process.poll() is not None:
                    (folder / f"{backend}.saved").touch()  # so that the others do not wait for it
            time.sleep(0.2)
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    found = {}
    for backend in BACKENDS:
        report = folder / f"{backend}.json"
        if not report.exists():
            pytest.fail(f"{backend} did not finish:\n{(folder / f'{backend}.log').read_text()[-3000:]}")
        found[backend] = json.loads(report.read_text())["outcomes"]
    return found


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("settings", 1),  # whatever ~/.keras/keras.json and KERAS_MAX_EPOCHS say
        ("layer", 15),  # Keras' own test of each layer
        ("model", 8),  # builds, predicts, is saved
        ("gradient", 3),  # finite at zero, between equal points and far away
        ("double", 2),  # float64 keeps the digits of float64
        ("training", 4),  # a step under jit_compile=True; one with every setting
        ("loading", 8 * (len(BACKENDS) - 1)),  # files of the other backends predict the same to 1e-5
        ("comparing", 3 * (len(BACKENDS) - 1)),  # gradients are those of the other backends
    ],
)
def test_backend(outcomes, backend, kind, count):
    checks = {name: problem for name, problem in outcomes[backend].items() if name.split()[0] == kind}
    assert len(checks) == count
    failed = {name: problem for name, problem in checks.items() if problem}
    assert not failed, "\n\n".join(f"{name}:\n{problem[-2000:]}" for name, problem in failed.items())


@pytest.mark.skipif("jax" not in BACKENDS, reason="JAX is not installed")
def test_folds_in_one_program(outcomes):
    found = {name: problem for name, problem in outcomes["jax"].items() if name.split()[0] == "stacked"}
    assert len(found) == 4
    failed = [f"{name}:\n{problem[-2000:]}" for name, problem in found.items() if problem]
    assert not failed, "\n\n".join(failed)
