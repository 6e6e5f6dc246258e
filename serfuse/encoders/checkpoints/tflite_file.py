"""The constant tensors of a TensorFlow Lite file, read as data: no interpreter, and nothing in the file is run."""

import struct

import numpy as np

IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of every TensorFlow Lite file."""

# Positions of fields in the tables of TensorFlow Lite's schema (tensorflow/lite/schema/schema.fbs).
_MODEL_SUBGRAPHS, _MODEL_BUFFERS = 2, 4
_SUBGRAPH_TENSORS = 0
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME = 0, 1, 2, 3
_BUFFER_DATA = 0
_FLOAT32 = 0


def read_tensors(content: bytes) -> dict[str, np.ndarray]:
    """The float32 tensors that a model holds (weights, not what is computed), by name, of its first graph.

    Args:
        content: the whole file.

    Raises:
        ValueError: no TensorFlow Lite file, damaged, or a name stands twice.
    """
    if content[4:8] != IDENTIFIER:
        raise ValueError("not a TensorFlow Lite file")
    try:
        model = _Table(content, _follow(content, 0))
        buffers = model.tables(_MODEL_BUFFERS)
        tensors: dict[str, np.ndarray] = {}
        for tensor in model.tables(_MODEL_SUBGRAPHS)[0].tables(_SUBGRAPH_TENSORS):
            data = buffers[tensor.integer(_TENSOR_BUFFER, "<I")].vector(_BUFFER_DATA, "<u1")
            if tensor.integer(_TENSOR_TYPE, "<b") != _FLOAT32 or not data.size:
                continue
            name = tensor.vector(_TENSOR_NAME, "<u1").tobytes().decode()
            if name in tensors:
                raise ValueError(f"tensor {name[:80]!r} stands there twice")
            tensors[name] = data.view("<f4").reshape(tensor.vector(_TENSOR_SHAPE, "<i4")).astype(np.float32)
    except (struct.error, IndexError) as error:
        raise ValueError(f"damaged: {error}") from error
    return tensors


class _Table:
    """A table of a flatbuffer: fields by position, any of which may be absent."""

    def __init__(self, content: bytes, position: int) -> None:
        self._content, self._position = content, position
        self._fields = position - struct.unpack_from("<i", content, position)[0]
        self._size = struct.unpack_from("<H", content, self._fields)[0]

    def _field(self, number: int) -> int | None:
        entry = 4 + 2 * number
        offset = struct.unpack_from("<H", self._content, self._fields + entry)[0] if entry < self._size else 0
        return self._position + offset if offset else None

    def integer(self, number: int, form: str) -> int:
        field = self._field(number)
        return 0 if field is None else struct.unpack_from(form, self._content, field)[0]

    def vector(self, number: int, form: str) -> np.ndarray:
        field = self._field(number)
        if field is None:
            return np.empty(0, form)
        start = _follow(self._content, field)
        count = struct.unpack_from("<I", self._content, start)[0]
        return np.frombuffer(self._content, form, count, start + 4)

    def tables(self, number: int) -> list["_Table"]:
        field = self._field(number)
        if field is None:
            return []
        start = _follow(self._content, field) + 4
        offsets = self.vector(number, "<u4")
        return [_Table(self._content, start + 4 * place + int(offset)) for place, offset in enumerate(offsets)]


def _follow(content: bytes, position: int) -> int:
    return position + struct.unpack_from("<I", content, position)[0]
