"""The Keras backend: chosen and imported without notices on the screen, or named without importing it."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def set_up_backend() -> None:
    """Choose TensorFlow unless the user chose otherwise, and import Keras without start-up notices on the screen."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" in sys.modules:
        return
    with _notices_held_back():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.get_logger().setLevel("ERROR")
            tf.config.list_physical_devices()  # provokes the search for GPUs, and its notices, now


def backend_name() -> str:
    """The Keras backend that `set_up_backend` chooses or has chosen, found out without importing Keras."""
    if "keras" in sys.modules:
        return sys.modules["keras"].backend.backend()
    return os.environ.get("KERAS_BACKEND", "tensorflow")


@contextmanager
def _notices_held_back() -> Iterator[None]:
    """Send file descriptor 2 elsewhere for a moment, and show what was written if something fails.

    TensorFlow's C++ libraries write about missing GPUs before any of their log settings is read.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        kept = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
