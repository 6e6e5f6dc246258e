"""Writes a part: a Parquet file whose vectors lie in it as they lie in memory, with a sum of every block.

Any reader of Parquet opens it. serfuse itself knows from the footer where the vectors are and reads them as bytes, or
maps them, since decoding lists takes other readers several times as long. So nothing is compressed (embeddings are
close to noise), every column of a row group is one page, and where there are several row groups the vectors of each
begin at a multiple of `ALIGNMENT`, so that the operating system can map them one behind the other.

The layout is that of https://parquet.apache.org/docs/file-format/; the names of the numbers below are from there.
"""

import base64
import json
import math
import struct as binary
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from ..errors import StoreError
from . import blocks, seal
from .thrift import BINARY, I32, I64, LIST, STRUCT, Field, read_varint, struct, varint

FORMAT = 2
MAGIC = b"PAR1"
ALIGNMENT = 1 << 16  # a multiple of every usual page of memory
_GROUP_BYTES = 1 << 25  # of vectors in a row group
_MOST_ROWS = 1 << 16
_WRITTEN_BYTES = 1 << 18
_MOST_PAGE_BYTES = 1 << 30  # Parquet counts the bytes of a page in 31 bits
_FLOAT, _BYTE_ARRAY = 4, 6
_REQUIRED, _REPEATED = 0, 2
_UTF8, _LIST = 0, 3
_PLAIN, _RLE = 0, 3
_SIZE = 6  # the field of a column's metadata that holds its bytes


def group_rows(size: int) -> int:
    """How many rows of `size` values stand in one row group of a part with several."""
    whole = ALIGNMENT // math.gcd(ALIGNMENT, 4 * size)  # the least whose bytes are a multiple of ALIGNMENT
    wanted = min(max(1, _GROUP_BYTES // (4 * size)), _MOST_ROWS)
    return max(whole, wanted // whole * whole) if whole * 4 * size <= 4 * _GROUP_BYTES else wanted


@dataclass(frozen=True)
class Group:
    """A row group, ready to be written.

    Attributes:
        rows: how many.
        ids: page of the clip ids, with its header.
        audio: page of the audio identities, likewise.
        head: what stands before the vectors in their page.
        values: the vectors' bytes, not copied.
    """

    rows: int
    ids: bytes
    audio: bytes
    head: bytes
    values: memoryview


def group(ids: Sequence[str], hashes: Sequence[str], matrix: np.ndarray) -> Group:
    """Make a row group.

    Args:
        ids: clip ids, texts or an Arrow array of large strings.
        hashes: audio identities, likewise.
        matrix: float32, C-contiguous, shape `(len(ids), size)`; it is to stay as it is until the group is written.

    Raises:
        StoreError: a vector of more than a gigabyte.
    """
    rows, size = matrix.shape
    if 4 * matrix.size > _MOST_PAGE_BYTES:  # `group_rows` keeps all but such vectors from it
        raise StoreError(f"A vector of {size} values is too long for the store, which takes {_MOST_PAGE_BYTES // 4}.")
    # Each row begins with a 0 and goes on with 1 ("repeats"); all values are there. RLE: twice the length, value.
    row = varint(2) + b"\0" + (varint(2 * (size - 1)) + b"\1" if size > 1 else b"")
    repeats = row * rows if size > 1 else varint(2 * rows) + b"\0"
    there = varint(2 * matrix.size) + b"\1"
    levels = b"".join(binary.pack("<I", len(part)) + part for part in (repeats, there))
    values = memoryview(np.ascontiguousarray(matrix, "<f4")).cast("B")
    head = _page_header(matrix.size, len(levels) + len(values), zlib.crc32(values, zlib.crc32(levels)))
    return Group(rows, _text_page(ids), _text_page(hashes), head + levels, values)


class PartWriter:
    """A part on its way into a file.

    Args:
        file: open for writing, at its beginning.
        size: length of a vector.
        notes: texts for the footer, by name.
        align: begin the vectors of each row group at a multiple of `ALIGNMENT`; for a part with several.
    """

    def __init__(self, file: BinaryIO, size: int, notes: dict[str, str], *, align: bool) -> None:
        self._file, self._size, self._notes, self._align = file, size, notes, align
        self._sums = blocks.Summing()
        self._groups: list[list[Field]] = []
        self._places: list[list[int]] = []
        self._rows = 0
        self._put(MAGIC)

    def add(self, group: "Group") -> None:
        """Write a row group."""
        chunks = [self._strings(name, page, group.rows) for name, page in (("id", group.ids), ("audio", group.audio))]
        count, head = len(group.values) // 4, group.head
        self._put(bytes(-(self._sums.size + len(head)) % (ALIGNMENT if self._align else 64)))
        begin = self._sums.size
        self._put(head)
        place = self._sums.size
        self._put(group.values)
        path = ["embedding", "list", "element"]
        chunks.append(_column(_FLOAT, path, count, begin, self._sums.size - begin))
        self._rows += group.rows
        total = sum(value for chunk in chunks for number, _, value in chunk if number == _SIZE)
        columns = [[(2, I64, 0), (3, STRUCT, chunk)] for chunk in chunks]
        self._groups.append([(1, LIST, (STRUCT, columns)), (2, I64, total), (3, I64, group.rows)])
        self._places.append([group.rows, place])

    def finish(self) -> None:
        """Write the footer."""
        about = {
            "format": FORMAT,
            "rows": self._rows,
            "values": self._size,
            "data": self._sums.size,
            "groups": self._places,
        }
        made = self._sums.finish()
        notes = {
            "ARROW:schema": base64.b64encode(schema(self._size).with_metadata(self._notes).serialize()).decode(),
            **self._notes,
            "serfuse.part": json.dumps(about, separators=(",", ":")),
            "serfuse.blocks": base64.b64encode(made.astype("<u8").tobytes()).decode(),
            seal.NAME: seal.BLANK,
        }
        pairs = [[(1, BINARY, name), (2, BINARY, value)] for name, value in notes.items()]
        footer = struct(
            [
                (1, I32, 2),
                (2, LIST, (STRUCT, _SCHEMA)),
                (3, I64, self._rows),
                (4, LIST, (STRUCT, self._groups)),
                (5, LIST, (STRUCT, pairs)),
                (6, BINARY, "serfuse"),
            ]
        )
        self._file.write(seal.sealed(footer) + binary.pack("<I", len(footer)) + MAGIC)

    def _strings(self, name: str, page: bytes, count: int) -> list[Field]:
        """A column of text; returns its metadata."""
        begin = self._sums.size
        self._put(page)
        return _column(_BYTE_ARRAY, [name], count, begin, self._sums.size - begin)

    def _put(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        for begin in range(0, len(view), _WRITTEN_BYTES):  # so few that the second look finds them in the processor
            piece = view[begin : begin + _WRITTEN_BYTES]
            self._sums.add(piece)
            self._file.write(piece)


def write(file: BinaryIO, size: int, notes: dict[str, str], groups: Iterable[Group], *, several: bool) -> None:
    """Write a whole part.

    Args:
        file: open for writing, at its beginning.
        size: length of a vector.
        notes: texts for the footer, by name.
        groups: from `group`.
        several: there are several groups, all but the last with `group_rows(size)` rows.
    """
    writer = PartWriter(file, size, notes, align=several)
    for one in groups:
        writer.add(one)
    writer.finish()


def schema(size: int) -> pa.Schema:
    """What Arrow makes of a part."""
    vector = pa.list_(pa.field("element", pa.float32(), nullable=False), size)
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("audio", pa.string(), nullable=False),
            pa.field("embedding", vector, nullable=False),
        ]
    )


_TEXT = ((6, I32, _UTF8), (10, STRUCT, [(1, STRUCT, [])]))
_SCHEMA: list[list[Field]] = [
    [(4, BINARY, "schema"), (5, I32, 3)],
    [(1, I32, _BYTE_ARRAY), (3, I32, _REQUIRED), (4, BINARY, "id"), *_TEXT],
    [(1, I32, _BYTE_ARRAY), (3, I32, _REQUIRED), (4, BINARY, "audio"), *_TEXT],
    [(3, I32, _REQUIRED), (4, BINARY, "embedding"), (5, I32, 1), (6, I32, _LIST), (10, STRUCT, [(3, STRUCT, [])])],
    [(3, I32, _REPEATED), (4, BINARY, "list"), (5, I32, 1)],
    [(1, I32, _FLOAT), (3, I32, _REQUIRED), (4, BINARY, "element")],
]


def _text_page(texts: Sequence[str]) -> bytes:
    """A page of text, behind its header."""
    page = _lengths_and_texts(texts if isinstance(texts, pa.LargeStringArray) else pa.array(texts, pa.large_string()))
    return _page_header(len(texts), len(page), zlib.crc32(page)) + page


def holds(body: memoryview, texts: pa.ChunkedArray) -> bool:
    """Whether a page that was written here is of these texts.

    Args:
        body: of the page, from `page_body`.
        texts: none of them null.
    """
    at = 0
    for chunk in texts.chunks:
        letters, ends = _letters(chunk)
        count, begin = len(chunk), at
        at += len(letters) + 4 * count
        if not count:
            continue
        length = len(letters) // count
        if at > len(body):
            return False
        if length * count != len(letters) or not length or (np.diff(ends) != length).any():
            if body[begin:at].tobytes() != _lengths_and_texts(chunk.cast(pa.large_string())):
                return False
            continue
        # Of one length, as most are: brought together by NumPy and compared by Arrow, each the quicker one at that.
        heads = np.ndarray(count, "<u4", body, begin, 4 + length)
        mine = np.ndarray(count, f"V{length}", body, begin + 4, 4 + length).copy()
        if (heads != length).any() or not pa.py_buffer(mine).equals(pa.py_buffer(letters)):
            return False
    return at == len(body)


def _letters(texts: pa.StringArray | pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of texts one behind the other, and where each begins, with the end of the last."""
    _, places, data = texts.buffers()
    kind = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    ends = np.frombuffer(places or bytes(8), kind)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]], ends


def _lengths_and_texts(texts: pa.LargeStringArray) -> bytes:
    """Each text in UTF-8 behind its length, which takes four bytes."""
    letters, ends = _letters(texts)
    page = np.empty(len(letters) + 4 * len(texts), np.uint8)
    heads = (ends[:-1] - ends[0] + 4 * np.arange(len(texts)))[:, None] + np.arange(4)
    is_text = np.ones(len(page), bool)
    is_text[heads] = False
    page[heads] = np.diff(ends).astype("<u4").view(np.uint8).reshape(-1, 4)
    page[is_text] = letters
    return page.tobytes()


def page_body(page: memoryview, count: int) -> memoryview | None:
    """What a page of `count` values that was written here holds behind its header; `None` of any other page."""
    try:
        size, place = read_varint(page, 3)  # behind the kind of the page and the mark of the next field
        _, place = read_varint(page, place + 1)
        signed, _ = read_varint(page, place + 1)
    except IndexError:
        return None
    number = signed >> 1 if not signed & 1 else -(signed + 1 >> 1)
    header = _page_header(count, size >> 1, number & 0xFFFFFFFF)
    whole = page[: len(header)] == header and len(page) == len(header) + (size >> 1)
    return page[len(header) :] if whole else None


def _page_header(count: int, size: int, crc: int) -> bytes:
    page = [(1, I32, count), (2, I32, _PLAIN), (3, I32, _RLE), (4, I32, _RLE)]
    signed = crc - (1 << 32) if crc >> 31 else crc
    return struct([(1, I32, 0), (2, I32, size), (3, I32, size), (4, I32, signed), (5, STRUCT, page)])


def _column(kind: int, path: list[str], count: int, begin: int, size: int) -> list[Field]:
    return [
        (1, I32, kind),
        (2, LIST, (I32, [_RLE, _PLAIN])),
        (3, LIST, (BINARY, path)),
        (4, I32, 0),
        (5, I64, count),
        (_SIZE, I64, size),
        (7, I64, size),
        (9, I64, begin),
    ]
