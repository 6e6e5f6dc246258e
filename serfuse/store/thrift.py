"""As much of Thrift's compact protocol as it takes to write the metadata of a Parquet file, and to know it again."""

from collections.abc import Sequence
from typing import Any

I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12

Field = tuple[int, int, Any]
"""Number, kind and value of a field: an int, text or bytes, `(kind of the items, items)`, or a sequence of fields."""


def struct(fields: Sequence[Field]) -> bytes:
    """A struct; its fields in ascending order of their numbers, which may differ by at most 15."""
    written, last = bytearray(), 0
    for number, kind, value in fields:
        written.append((number - last) << 4 | kind)
        written += _value(kind, value)
        last = number
    return bytes(written) + b"\0"


def varint(value: int) -> bytes:
    """An unsigned number, seven bits a byte."""
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])


def read_varint(data: memoryview, place: int) -> tuple[int, int]:
    """The unsigned number that stands at a place, and the place behind it.

    Raises:
        IndexError: the data end before it does.
    """
    value = shift = 0
    while (byte := data[place]) & 128:
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
    return value | byte << shift, place + 1


def _value(kind: int, value: Any) -> bytes:
    if kind in (I32, I64):
        return varint(value << 1 if value >= 0 else (-value << 1) - 1)
    if kind == BINARY:
        data = value.encode() if isinstance(value, str) else value
        return varint(len(data)) + data
    if kind == STRUCT:
        return struct(value)
    item, items = value
    head = bytes([len(items) << 4 | item]) if len(items) < 15 else bytes([0xF0 | item]) + varint(len(items))
    return head + b"".join(_value(item, one) for one in items)
