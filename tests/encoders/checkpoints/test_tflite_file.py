"""TensorFlow Lite files are read as tables of numbers, and damage is an error."""

import numpy as np
import pytest
from tflite_writer import tflite

from serfuse.encoders.checkpoints.tflite_file import read_tensors

TENSORS = {
    "kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
    "model/conv2d_1/Conv2D": np.array([1.5], np.float32),
    "scale": np.float32(-0.4).reshape(()),
    "paddings": np.array([[0, 1]], np.int32),
}


def test_float_tensors_by_name() -> None:
    found = read_tensors(tflite(TENSORS))
    assert list(found) == ["kernel", "model/conv2d_1/Conv2D", "scale"], "no integers, and nothing that holds no data"
    for name, array in found.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, TENSORS[name])


def test_what_is_none_or_damaged() -> None:
    whole = tflite(TENSORS)
    for content in (b"", b"PK\x03\x04" + bytes(40), whole[:4] + b"TFL2" + whole[8:]):
        with pytest.raises(ValueError, match="not a TensorFlow Lite file"):
            read_tensors(content)
    for size in (8, 40, len(whole) // 2):
        with pytest.raises(ValueError, match=r"damaged|buffer"):
            read_tensors(whole[:size])
    with pytest.raises(ValueError, match="'kernel' stands there twice"):
        read_tensors(tflite([("kernel", TENSORS["kernel"])] * 2))


def test_every_damaged_byte_is_an_error_or_a_number_and_never_more() -> None:
    whole = tflite(TENSORS)
    for place in range(len(whole)):
        damaged = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        try:
            found = read_tensors(damaged)
        except ValueError:
            continue
        assert sum(array.nbytes for array in found.values()) <= 10 * len(whole)
