"""Which backend of Keras is taken, and that nothing outside changes its settings."""

import sys

import pytest

from serfuse.errors import ConfigError
from serfuse.experiment import backend, threads


@pytest.fixture
def without_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not imported Keras yet."""
    monkeypatch.delitem(sys.modules, "keras", raising=False)


@pytest.mark.parametrize(("asked", "name"), [("torch", "torch"), (" TensorFlow ", "tensorflow"), ("", "tensorflow")])
def test_the_backend_that_is_asked_for(without_keras, monkeypatch, asked: str, name: str) -> None:
    monkeypatch.setenv("KERAS_BACKEND", asked)
    assert backend.backend_name() == name


def test_a_backend_that_is_misspelt_or_not_installed_is_one_sentence(without_keras, monkeypatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "tensorflwo")
    with pytest.raises(ConfigError, match=r"KERAS_BACKEND is 'tensorflwo'.*tensorflow, torch, jax"):
        backend.set_up_backend()
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"KERAS_BACKEND is 'jax', but the package jax is not installed"):
        backend.backend_name()


def test_settings_of_keras_that_were_there_before_do_not_count() -> None:
    backend.set_up_backend()
    import keras

    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("mixed_float16")
    keras.config.set_image_data_format("channels_first")
    keras.config.set_epsilon(0.1)
    keras.config.set_max_epochs(1)
    backend.set_up_backend()
    found = keras.config
    assert (found.floatx(), found.dtype_policy().name, found.image_data_format()) == (
        "float32",
        "float32",
        "channels_last",
    )
    assert found.epsilon() == 1e-7 and found.max_epochs() is None


def test_threads_are_those_that_the_library_takes(monkeypatch) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert {threads.threads(name) for name in ("tensorflow", "torch", "jax", "scikit-learn")} == {threads.cores()}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.threads("scikit-learn") == threads.threads("torch") == 3
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "many")
    assert threads.threads("scikit-learn") == 5 and threads.threads("torch") == 3
    assert threads.threads("tensorflow") == threads.cores()
