"""Small TensorFlow Lite files that hold nothing but named tensors, written with the flatbuffers package."""

import flatbuffers
import numpy as np

TYPES = {"float32": 0, "int32": 2}


def tflite(tensors: dict[str, np.ndarray] | list[tuple[str, np.ndarray]]) -> bytes:
    """A file whose one graph has these constant tensors, and one of the graph's own that holds no data."""
    build = flatbuffers.Builder(0)

    def table(**slots) -> int:
        build.StartObject(5)
        for slot, (kind, value) in slots.items():
            getattr(build, f"Prepend{kind}Slot")(int(slot[1:]), value, 0)
        return build.EndObject()

    def vector(offsets: list[int]) -> int:
        build.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            build.PrependUOffsetTRelative(offset)
        return build.EndVector()

    empty = np.empty((0,), np.float32)
    items = [("input", empty), *(tensors.items() if isinstance(tensors, dict) else tensors)]
    buffers, entries = [], []
    for number, (name, array) in enumerate(items):
        data = build.CreateByteVector(np.ascontiguousarray(array).tobytes()) if array.size else None
        buffers.append(table(**({"_0": ("UOffsetTRelative", data)} if data else {})))
        shape = build.CreateNumpyVector(np.array(array.shape, np.int32))
        label = build.CreateString(name)
        entries.append(
            table(
                _0=("UOffsetTRelative", shape),
                _1=("Int8", TYPES[array.dtype.name]),
                _2=("Uint32", number),
                _3=("UOffsetTRelative", label),
            )
        )
    graphs, held = vector([table(_0=("UOffsetTRelative", vector(entries)))]), vector(buffers)
    root = table(_0=("Uint32", 3), _2=("UOffsetTRelative", graphs), _4=("UOffsetTRelative", held))
    build.Finish(root, file_identifier=b"TFL3")
    return bytes(build.Output())
