"""The Keras backend: chosen, imported without notices on the screen, and set so that no file outside changes a number.

Keras reads `~/.keras/keras.json` and some variables when it is imported. None of them may change a figure while
`config.yaml` of a run stays the same: what can be fixed is fixed here (float type, axis order, epsilon, limits on
epochs), and what cannot (switches of the numerical libraries) is part of a run's identity, see `environment`.
"""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ConfigError

DEFAULT = "tensorflow"
BACKENDS = ("tensorflow", "torch", "jax")
_INSTALL = {
    "tensorflow": "pip install tensorflow",
    "torch": "pip install 'serfuse[encoders]'",
    "jax": "pip install 'serfuse[jax]'",
}
"""Those that serfuse is tested with. Each is also the name of the package it needs."""

# Switches of numerical libraries that can change a result's last digits, by how their names begin or what they are.
_SWITCHES = (
    "TF_ENABLE_",
    "TF_XLA_",
    "TF_CUDNN_",
    "TF_CUBLAS_",
    "TF_DETERMINISTIC_",
    "TF_DISABLE_",
    "TF_USE_",
    "XLA_",
    "ONEDNN_",
    "DNNL_",
    "MKL_",
    "OPENBLAS_",
    "CUBLAS_",
    "CUDNN_",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "ATEN_CPU_CAPABILITY",
    "NPY_DISABLE_CPU_FEATURES",
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_NUMPY_",
    "JAX_PLATFORM",
    "KERAS_TORCH_DEVICE",
    "KERAS_NNX_ENABLED",
)
_WITHOUT_EFFECT = ("_NUM_THREADS", "_VERBOSE", "_LOG_LEVEL")  # threads are recorded as such
_LIMITS = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH")  # for debugging; they would cut a training short unseen


def set_up_backend() -> None:
    """Choose TensorFlow unless the user chose otherwise, and import Keras, quietly and with settings that are fixed.

    Whatever `~/.keras/keras.json`, `KERAS_MAX_EPOCHS` or an earlier import of Keras in this process say: float32,
    channels last, epsilon 1e-7, no limit on epochs or steps.

    Raises:
        ConfigError: `KERAS_BACKEND` names no backend, or one that is not installed.
    """
    os.environ["KERAS_BACKEND"] = backend_name()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" in sys.modules:
        _fix_settings()
        return
    # Nothing can be read or written below the null device, so Keras falls back to its own defaults.
    with notices_held_back(), _variables({"KERAS_HOME": os.devnull, **dict.fromkeys(_LIMITS)}):
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.get_logger().setLevel("ERROR")
            tf.config.list_physical_devices()  # provokes the search for GPUs, and its notices, now
        elif keras.backend.backend() == "jax" and "JAX_DEFAULT_MATMUL_PRECISION" not in os.environ:
            import jax

            # On a GPU, JAX would multiply float32 matrices with 10 bits of mantissa.
            jax.config.update("jax_default_matmul_precision", "highest")
    _fix_settings()


def backend_name() -> str:
    """The Keras backend that `set_up_backend` chooses or has chosen, found out without importing Keras.

    Raises:
        ConfigError: `KERAS_BACKEND` names no backend, or one that is not installed.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"].backend.backend()
    asked = os.environ.get("KERAS_BACKEND", "")
    name = asked.strip().lower() or DEFAULT
    if name not in BACKENDS:
        raise ConfigError(
            f"KERAS_BACKEND is {asked!r}, which is no backend of Keras that serfuse knows. Set it to one of "
            f"{', '.join(BACKENDS)}, or unset it for {DEFAULT}."
        )
    if name not in sys.modules and importlib.util.find_spec(name) is None:
        chosen = f"KERAS_BACKEND is {asked!r}" if asked.strip() else f"The backend is {name}"
        raise ConfigError(
            f"{chosen}, but the package {name} is not installed. Install it ({_INSTALL[name]}), or set "
            f"KERAS_BACKEND to another of {', '.join(BACKENDS)}."
        )
    return name


def environment() -> dict[str, str]:
    """Variables that are set now and that can change a result's digits, sorted: switches of TensorFlow, XLA, oneDNN ...

    They are part of a run's identity (`config.yaml`, and the fingerprint of its folds). How many threads there are is
    recorded apart, see `serfuse.experiment.threads`.
    """
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(_SWITCHES) and not name.endswith(_WITHOUT_EFFECT)
    }


def save(network: Any, path: Path) -> None:
    """Write a network as a `.keras` file. Whatever Keras unpacks for a moment, it unpacks beside that file.

    The folder for temporary files may be full, or not there at all.

    Raises:
        OSError: the file cannot be written.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=path.parent, ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = folder
        try:
            network.save(path)
        finally:
            tempfile.tempdir = before


def _fix_settings() -> None:
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)
    keras.config.set_max_epochs(None)
    keras.config.set_max_steps_per_epoch(None)


@contextmanager
def _variables(values: Mapping[str, str | None]) -> Iterator[None]:
    """Environment variables for a moment; `None` unsets one."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def notices_held_back() -> Iterator[None]:
    """Send file descriptor 2 elsewhere for a moment, and show what was written if something fails.

    TensorFlow's C++ libraries write about missing GPUs before any of their log settings is read.
    """
    try:
        kept = os.dup(2)
    except OSError:  # standard error is closed: nothing can be shown
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    held = _scratch()
    os.dup2(held, 2)
    try:
        yield
    except BaseException:
        os.lseek(held, 0, os.SEEK_SET)
        while part := os.read(held, 1 << 16):
            os.write(kept, part)
        raise
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(held)


def _scratch() -> int:
    """A descriptor to write to: memory where the system has that, since a temporary folder may be full."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("notices")
    return os.open(os.devnull, os.O_RDWR)
