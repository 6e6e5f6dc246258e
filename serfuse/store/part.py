"""A part as it is read: ids and audio identities, and any rows of its vectors, never unverified."""

import base64
import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager, nullcontext
from io import FileIO
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import StoreError
from . import blocks, files, mapping, parquet, part_writing, seal, together
from .damage import DamageError, first_line, repair_command, unknown_format
from .files import Fetched
from .part_writing import ALIGNMENT, FORMAT, MAGIC, page_body

KEY, KIND = "serfuse.key", "serfuse.kind"
_MARKS = (b"serfuse.part", b"serfuse.blocks", b"serfuse.seal")
_WINDOW_BYTES = 1 << 20
_SWEEP_BYTES = 1 << 20
_LOOK_BYTES = 1 << 23
_PIECE_BYTES = 1 << 22
_MOST_FOOTER_BYTES = 1 << 29
_MOST_VECTORS = 512  # places that one call may read into: POSIX wants 16, Linux has 1,024
# The footer of a large object without a copy here: at first so much, and a 4096th of it, is asked for (a sum of every
# block takes a 6144th).
_END_BYTES, _END_SHARE = 1 << 16, 1 << 12
# Rows of such an object are fetched alone where the blocks that they lie in are less than this share of it, and so much
# at a time.
_FAR_SHARE, _FETCHED_BYTES = 4, 1 << 27
# What a part of the first format, which is compressed, may take decoded: of embeddings, 1.1 times its bytes is usual.
_FLOOR_BYTES, _MOST_RATIO = 1 << 26, 64


class Part:
    """One file of rows. Nothing stays open between calls.

    Args:
        path: the file.

    Attributes:
        path: the file.
        rows: number of rows.
        size: length of a vector.
        format: of the file.
        owner: digest of the key that the rows belong to.
        kind: that key as JSON text; "" in the first format.

    Raises:
        DamageError: it is not as it was written, or claims more than it can hold.
        StoreError: its format is unknown.
        FileNotFoundError: it is not there any more.
    """

    def __init__(self, path: files.StorePath) -> None:
        self.path = path
        self._coming: Future[np.ndarray | None] | None = None
        with self._guarded():
            self._status = status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("it is not a regular file")
            held: Path | bytes
            self._far = files.far(path, status)
            if self._far:
                self._bytes = status.st_size
                held, footer = self._end()
            else:
                held = files.local(path, status)
                with FileIO(str(held)) as file:
                    self._bytes, footer = _footer(file, os.fstat(file.fileno()).st_size)
            sealed = any(mark in footer for mark in _MARKS)
            if sealed and seal.broken(footer) is not False:
                raise ValueError("its footer is not the one that was written")
            with parquet.opened(held) as reader:
                notes = {name.decode(): text.decode() for name, text in (reader.metadata.metadata or {}).items()}
                self.owner, self.kind = notes.get(KEY, ""), notes.get(KIND, "")
                self._groups: list[tuple[int, int]] = []
                self._texts: list[tuple[int, int]] = []
                self._audio: list[int] = []  # where their second page begins
                self._sums = np.empty(0, np.uint64)
                self._data = self._bytes
                if sealed:
                    self._read_layout(notes, reader.metadata)
                else:
                    self._read_first_layout(reader)

    def _end(self) -> tuple[bytes, bytes]:
        """A file of nothing but the footer, which says what it said; and the footer."""
        end = _END_BYTES + self._bytes // _END_SHARE
        while True:
            begin = max(0, self._bytes - end)
            data = files.fetched(self.path, [(begin, self._bytes)], keep=self._status)
            length = int.from_bytes(data.pieces[0][-8:-4], "little") + 8
            if length <= end or length > min(self._bytes, _MOST_FOOTER_BYTES):
                break
            end = length
        footer = _footer(data, self._bytes)[1]
        return MAGIC + footer + data.pieces[0][-8:], footer

    def _read_layout(self, notes: dict[str, str], metadata: pq.FileMetaData) -> None:
        about = json.loads(notes["serfuse.part"])
        self.format = about["format"]
        if self.format != FORMAT:
            raise unknown_format(self.path, self.format)
        self.rows, self.size, self._data = (_count(about[name]) for name in ("rows", "values", "data"))
        self._groups = [(_count(rows), _count(place)) for rows, place in about["groups"]]
        self._sums = np.frombuffer(base64.b64decode(notes["serfuse.blocks"]), "<u8").astype(np.uint64)
        columns = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        if not (
            self.size
            and sum(rows for rows, _ in self._groups) == self.rows == metadata.num_rows
            and [rows for rows, _ in self._groups] == [group.num_rows for group in columns]
            and self._data <= self._bytes
            and len(self._sums) == blocks.count(self._data)
        ):
            raise ValueError("its counts do not agree")
        for (rows, place), group in zip(self._groups, columns, strict=True):
            texts = [group.column(number) for number in range(2)]
            begin = texts[0].data_page_offset
            end = texts[1].data_page_offset + texts[1].total_compressed_size
            # Each text takes four bytes at least, so nobody can claim more rows than there are bytes.
            fits = 8 * rows <= end - begin and begin >= 0 and max(end, place + 4 * self.size * rows) <= self._data
            if not fits or any(text.compression != "UNCOMPRESSED" or text.has_dictionary_page for text in texts):
                raise ValueError("it claims more than it holds")
            self._texts.append((begin, end))
            self._audio.append(texts[1].data_page_offset)

    def _read_first_layout(self, reader: pq.ParquetFile) -> None:
        self.format = 1
        metadata, schema = reader.metadata, reader.schema_arrow
        kind = schema.field("embedding").type
        if not pa.types.is_fixed_size_list(kind) or kind.value_type != pa.float32() or kind.list_size < 1:
            raise ValueError(f"its column embedding holds {kind}, expected lists of float32 of one length")
        for name in ("id", "audio"):
            if schema.field(name).type not in (pa.string(), pa.large_string()):
                raise ValueError(f"its column {name} holds {schema.field(name).type}, expected text")
        self.rows, self.size = metadata.num_rows, kind.list_size
        decoded = parquet.decoded_bytes(metadata) + 4 * self.rows * self.size
        if decoded > (most := _FLOOR_BYTES + _MOST_RATIO * self._bytes):
            raise ValueError(f"it claims {decoded >> 20} MB in {self._bytes >> 10} kB, more than {most >> 20} MB")

    def _held(self) -> Path:
        """The file to open. A part never changes, so what its storage said of it at first is not asked for again."""
        return files.local(self.path, self._status)

    def texts(self) -> tuple[pa.Array, pa.Array]:
        """Clip ids and audio identities of all rows, as large strings.

        Raises:
            DamageError: they are not as they were written.
            FileNotFoundError: it is not there any more.
        """
        with self._guarded():
            if self._far and self._texts:
                spans = [self._blocks(begin, end) for begin, end in self._texts]
                some = files.fetched(self.path, spans, keep=self._status)
                if found := self._even_texts(some):
                    return found
            held = self._held()
            with FileIO(str(held)) as file:
                if self._texts and (found := self._even_texts(file)):
                    return found
                for begin, end in self._texts:
                    for start in range(begin, end, _SWEEP_BYTES):
                        self._checked(file, start, min(end, start + _SWEEP_BYTES))
            most = _FLOOR_BYTES + _MOST_RATIO * self._bytes
            table = parquet.table(held, ["id", "audio"], most, sealed=self.format != 1)
            if any(table[name].null_count for name in table.column_names):
                raise ValueError("it holds empty cells")
            if table.num_rows != self.rows:
                raise ValueError("it holds another number of rows than it says")
            ids, audio = (one_array(table[name]) for name in ("id", "audio"))
            return _named(ids), audio

    def holds(self, ids: pa.ChunkedArray, audio: pa.ChunkedArray) -> bool:
        """Whether its rows are those of these clips, in their order; verified, and in little memory.

        It looks no further than to the first row group in which that is not so.

        Args:
            ids: of the clips.
            audio: the identity of the audio of each, null where it cannot be read.

        Returns:
            False too of the first format, for which `texts` is to be asked.

        Raises:
            DamageError: what it looked at is not as it was written.
            FileNotFoundError: it is not there any more.
        """
        if self.format == 1 or not len(ids) == len(audio) == self.rows or ids.null_count or audio.null_count:
            return False
        with self._guarded():
            source: Fetched | Path
            if self._far:
                source = files.fetched(self.path, [self._blocks(*place) for place in self._texts], keep=self._status)
            else:
                source = self._held()
            firsts = np.cumsum([0, *(rows for rows, _ in self._groups)]).tolist()

            def same(number: int) -> bool:
                (begin, end), middle, rows = self._texts[number], self._audio[number], self._groups[number][0]
                with nullcontext(source) if isinstance(source, Fetched) else FileIO(str(source)) as file:
                    data = self._looked_at(file, begin, end)
                some = slice(firsts[number], firsts[number] + rows)
                for page, column in ((data[: middle - begin], ids), (data[middle - begin :], audio)):
                    body = page_body(page, rows)
                    if body is None or not part_writing.holds(body, column[some]):
                        return False
                return True

            return all(together.each(same, range(len(self._groups))))

    def _even_texts(self, file: FileIO | Fetched) -> tuple[pa.Array, pa.Array] | None:
        """`texts` where those of a page are all of one length, as most are: quicker than Arrow, and held only once."""
        letters = [np.empty(0, np.uint8), np.empty(0, np.uint8)]
        lengths: list[list[int]] = [[], []]
        filled = [0, 0]
        memory = bytearray(max(end - begin for begin, end in self._texts) + 2 * blocks.BYTES)
        for (begin, end), middle, (rows, _) in zip(self._texts, self._audio, self._groups, strict=True):
            data = self._checked(file, begin, end, memory)
            for column, page in enumerate((data[: middle - begin], data[middle - begin :])):
                body = page_body(page, rows) if rows else None
                length = int.from_bytes(body[:4], "little") if body is not None and len(body) >= 4 else -1
                if body is None or length < 0 or len(body) != rows * (4 + length):
                    return None
                cells = np.frombuffer(body, np.uint8).reshape(rows, 4 + length)
                if (cells[:, :4] != np.frombuffer(body[:4], np.uint8)).any():
                    return None
                if not lengths[column]:  # most groups are like the first
                    letters[column] = np.empty(self.rows * length, np.uint8)
                size, at = rows * length, filled[column]
                if at + size > len(letters[column]):
                    letters[column] = np.concatenate([letters[column][:at], np.empty(2 * (at + size), np.uint8)])
                letters[column][at : at + size].reshape(rows, length)[:] = cells[:, 4:]
                lengths[column].append(length)
                filled[column] += size
        counts = [rows for rows, _ in self._groups]
        made = []
        for column in range(2):
            ends = np.zeros(self.rows + 1, np.int64)
            np.cumsum(np.repeat(lengths[column], counts), out=ends[1:])
            text = pa.py_buffer(letters[column][: filled[column]])
            made.append(pa.LargeStringArray.from_buffers(self.rows, pa.py_buffer(ends), text))
        return _named(made[0]), made[1]

    def read(
        self, rows: np.ndarray, into: np.ndarray, at: np.ndarray, moved: Callable[[int], object] | None = None
    ) -> None:
        """Read some rows, verified, at the speed of the disk.

        Args:
            rows: their numbers, ascending, int64.
            into: float32, `(N, size)`.
            at: the row of `into` for each.
            moved: is called with the number of rows read, now and then.

        Raises:
            DamageError: bytes that they lie in are not as they were written.
            FileNotFoundError: it is not there any more.
        """
        with self._guarded():
            if self.format == 1:
                self._decode(rows, into, at)
                return
            stride = 4 * self.size
            for windows, file in self._reading(rows):
                for begin, end, place, first in windows:
                    wanted = rows[begin:end] - first
                    low, high = int(wanted[0]), int(wanted[-1]) + 1
                    data = self._checked(file, place + low * stride, place + high * stride)
                    found = np.frombuffer(data, "<f4").reshape(-1, self.size)
                    to = at[begin:end]
                    if len(wanted) == high - low and to[-1] - to[0] == len(to) - 1 and (np.diff(to) == 1).all():
                        into[to[0] : to[0] + len(to)] = found
                    else:
                        into[to] = found[wanted - low]
                    if moved is not None:
                        moved(end - begin)

    def _reading(self, rows: np.ndarray) -> Iterator[tuple[Iterable[tuple[int, int, int, int]], FileIO | Fetched]]:
        """`_windows`, with what to read them from: the file, or, of a large object, a little of it at a time."""
        if self._far:
            stride, windows, spans = 4 * self.size, list(self._windows(rows)), []
            for begin, end, place, first in windows:
                low, high = (place + (int(rows[at]) - first) * stride for at in (begin, end - 1))
                spans.append(self._blocks(low, high + stride))
            for gap in (files.GAP_BYTES, 0):
                if _FAR_SHARE * sum(end - begin for begin, end in files.joined(spans, gap)) < self._bytes:
                    step = max(1, _FETCHED_BYTES // (gap + max(end - begin for begin, end in spans)))
                    for at in range(0, len(windows), step):
                        yield windows[at : at + step], files.fetched(self.path, spans[at : at + step], gap)
                    return
        with FileIO(str(self._held())) as file:
            yield self._windows(rows), file

    def map_ahead(self, pool: Executor) -> None:
        """Begin with what `mapped` is going to do for all rows, in another thread."""
        self._coming = pool.submit(self._mapped, np.arange(self.rows))

    def mapped(self, rows: np.ndarray, moved: Callable[[int], object] | None = None) -> np.ndarray | None:
        """Vectors of consecutive rows as one array that is read when it is looked at, verified.

        Each byte is looked at once, where it will be looked at again: in the memory that the file is mapped to.

        Args:
            rows: their numbers.
            moved: is called with the number of rows verified, now and then.

        Returns:
            float32, shape `(len(rows), size)`; `None` where they do not lie so, or the system cannot do it.

        Raises:
            DamageError: bytes that they lie in are not as they were written.
            FileNotFoundError: it is not there any more.
        """
        coming, self._coming = self._coming, None  # an array is its caller's alone
        if coming is not None and len(rows) == self.rows and (np.diff(rows) == 1).all():
            found = coming.result()
            if found is not None and moved is not None:
                moved(self.rows)
            return found
        return self._mapped(rows, moved)

    def _mapped(self, rows: np.ndarray, moved: Callable[[int], object] | None = None) -> np.ndarray | None:
        stretches = self.run(rows)
        held = self._held()
        found = mapping.mapped(held, stretches, self.size) if stretches else None
        if found is None:
            return None
        stride, at, pieces = 4 * self.size, 0, []
        for begin, length in stretches:
            end = begin + length
            for low in [begin, *range(begin - begin % _PIECE_BYTES + _PIECE_BYTES, end, _PIECE_BYTES)]:
                high = min(end, low - low % _PIECE_BYTES + _PIECE_BYTES)
                pieces.append((low, high, at + low - begin))
            at += length
        flat = found.reshape(-1).view(np.uint8)

        def check(piece: tuple[int, int, int]) -> int:
            begin, end, place = piece
            # What is no whole block is read with the bytes around it, and all of it where the system cannot say of a
            # mapped page that the disk does not give it.
            low, high = min(-(-begin // blocks.BYTES) * blocks.BYTES, end), end - end % blocks.BYTES
            if low < high and mapping.fetched(flat[place + low - begin : place + high - begin]):
                self._compare(memoryview(flat[place + low - begin : place + high - begin]), low)
            else:
                low = high = end
            with ExitStack() as opened:
                for start, stop in ((begin, low), (high, end)):
                    if start < stop:
                        self._checked(opened.enter_context(FileIO(str(held))), start, stop)
            return end - begin

        with self._guarded():
            done = told = 0
            for count in together.each(check, pieces):
                done += count
                if moved is not None:
                    moved(done // stride - told)
                    told = done // stride
        return found

    @contextmanager
    def opened(self) -> Iterator[FileIO]:
        """The file, for `gather`.

        Raises:
            DamageError: it cannot be opened.
            FileNotFoundError: it is not there any more.
        """
        with self._guarded():
            file = FileIO(str(self._held()))
        with file:
            yield file

    def gather(self, file: FileIO, rows: np.ndarray, into: np.ndarray, at: np.ndarray) -> None:
        """Read rows that may lie far apart, without verifying them: see `bad_blocks`.

        A call for each stretch of them, straight into their places. To look at them in a mapped file takes longer: the
        system maps sixteen pages around each row, and what was mapped counts as memory of this process.

        Args:
            file: from `opened`; it gives them also where the part has been removed since.
            rows: their numbers, int64, in any order.
            into: float32, C-contiguous, `(N, size)`.
            at: the row of `into` for each.

        Raises:
            DamageError: it cannot be read.
        """
        if not len(rows):
            return
        with self._guarded():
            order = np.argsort(rows, kind="stable")  # as they lie on the disk
            rows, at = rows[order], at[order]
            if self.format == 1:
                self._decode(rows, into, at)
                return
            memory, stride = memoryview(into).cast("B"), 4 * self.size
            places = self._places(rows)
            apart = np.diff(places) != stride
            # Pieces lie one behind the other in the file and in `into`; those of a stretch only in the file.
            pieces = np.concatenate([[0], np.flatnonzero(apart | (np.diff(at) != 1)) + 1])
            firsts = np.searchsorted(pieces, np.concatenate([[0], np.flatnonzero(apart) + 1]))
            lows = at[pieces] * stride
            spans = list(zip(lows.tolist(), (lows + np.diff(pieces, append=len(rows)) * stride).tolist(), strict=True))
            begins, ends = firsts.tolist(), [*firsts[1:].tolist(), len(pieces)]
            starts = places[pieces].tolist()
            for begin, end in zip(begins, ends, strict=True):  # of a million rows: whatever is done here counts
                for first in range(begin, end, _MOST_VECTORS):
                    some = [memory[low:high] for low, high in spans[first : min(end, first + _MOST_VECTORS)]]
                    _scatter(file, starts[first], some)
            if sys.byteorder == "big":
                into[at] = into[at].byteswap()

    def _places(self, rows: np.ndarray) -> np.ndarray:
        """The first byte of each row's vector, int64."""
        counts, begins = (np.array(column, np.int64) for column in zip(*self._groups, strict=True))
        ends = np.cumsum(counts)
        group = np.searchsorted(ends, rows, side="right")
        return begins[group] + 4 * self.size * (rows - (ends - counts)[group])

    def bad_blocks(self, moved: Callable[[int], object] | None = None) -> list[tuple[int, int]]:
        """Read every byte, and find those that are not as they were written.

        Args:
            moved: is called with the number of bytes read, every few megabytes.

        Returns:
            ranges of bytes. Of the first format, which has no sums of its own, an error is all there is.

        Raises:
            DamageError: it cannot be read at all.
            FileNotFoundError: it is not there any more.
        """
        bad: list[tuple[int, int]] = []
        with self._guarded():
            if self.format == 1:
                self.texts()
                self._decode(np.empty(0, np.int64), np.empty((0, self.size), np.float32), np.empty(0, np.int64))
                return bad
            for begin, length, found in self._swept(range(0, self._data, _LOOK_BYTES)):
                for block in found + begin // blocks.BYTES:
                    bad.append((int(block) * blocks.BYTES, min((int(block) + 1) * blocks.BYTES, self._data)))
                if moved is not None:
                    moved(length)
        return bad

    def _swept(self, begins: Sequence[int]) -> Iterator[tuple[int, int, np.ndarray]]:
        """The numbers of wrong blocks in each piece of `_LOOK_BYTES`, with its first byte and its length."""
        idle: SimpleQueue[tuple[FileIO, bytearray]] = SimpleQueue()
        held = self._held()
        with ExitStack() as opened:

            def look(begin: int) -> tuple[int, int, np.ndarray]:
                try:
                    file, memory = idle.get_nowait()
                except Empty:
                    file, memory = opened.enter_context(FileIO(str(held))), bytearray()
                end = min(begin + _LOOK_BYTES, self._data)
                try:
                    there = mapping.looked_at(file, begin, end)
                    if there is None and not memory:
                        memory = bytearray(_LOOK_BYTES)
                    made = blocks.sums(_exactly(file, begin, end, memory) if there is None else memoryview(there))
                finally:
                    idle.put((file, memory))
                first = begin // blocks.BYTES
                return begin, end - begin, np.flatnonzero(made != self._sums[first : first + len(made)])

            yield from together.each(look, begins)

    def rows_in(self, ranges: list[tuple[int, int]]) -> tuple[bool, np.ndarray]:
        """What damaged bytes mean.

        Returns:
            whether they touch the ids or audio identities, and which rows' vectors they touch, bool, `(rows,)`.
        """
        hit = np.zeros(self.rows, bool)
        texts = any(begin < high and low < end for low, high in self._texts for begin, end in ranges)
        stride, first = 4 * self.size, 0
        for count, place in self._groups:
            for begin, end in ranges:
                low, high = max(begin - place, 0) // stride, -(-max(end - place, 0) // stride)
                hit[first + min(low, count) : first + min(high, count)] = True
            first += count
        return texts, hit

    def run(self, rows: np.ndarray) -> list[tuple[int, int]] | None:
        """Where vectors of consecutive rows lie, if they can be mapped one behind the other.

        Returns:
            `(first byte, bytes)` of each stretch; all but the first begin, and all but the last end, at a multiple of
            `ALIGNMENT`. `None` where that is not so.
        """
        if self.format == 1 or not len(rows) or rows[-1] - rows[0] != len(rows) - 1 or (np.diff(rows) != 1).any():
            return None
        stride, first, found = 4 * self.size, 0, []
        for count, place in self._groups:
            low, high = max(int(rows[0]) - first, 0), min(int(rows[-1]) + 1 - first, count)
            if low < high:
                found.append((place + low * stride, (high - low) * stride))
            first += count
        inner = all(begin % ALIGNMENT == 0 for begin, _ in found[1:])
        ends = all((begin + length) % ALIGNMENT == 0 for begin, length in found[:-1])
        return found if inner and ends else None

    def _windows(self, rows: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
        """Rows that are read together: `(begin, end)` in `rows`, where their group's vectors lie, and its first row."""
        stride = 4 * self.size
        most = max(1, _WINDOW_BYTES // stride)
        far = np.flatnonzero(np.diff(rows) * stride > blocks.BYTES) + 1
        first = 0
        for count, place in self._groups:
            low, high = (int(number) for number in np.searchsorted(rows, [first, first + count]))
            cuts = far[np.searchsorted(far, low, side="right") : np.searchsorted(far, high)]
            for begin, end in zip([low, *cuts], [*cuts, high], strict=True):
                while begin < end:
                    stop = min(int(np.searchsorted(rows, rows[begin] + most)), int(end))
                    yield int(begin), stop, place, first
                    begin = stop
            first += count

    def _blocks(self, begin: int, end: int) -> tuple[int, int]:
        """The first byte of the blocks that bytes lie in, and the one behind their last."""
        return begin // blocks.BYTES * blocks.BYTES, min(-(-end // blocks.BYTES) * blocks.BYTES, self._data)

    def _checked(self, file: FileIO | Fetched, begin: int, end: int, memory: bytearray | None = None) -> memoryview:
        """The bytes from `begin` to `end`, verified with all of the blocks that they lie in.

        Args:
            memory: to be used again, where it is large enough.
        """
        start, stop = self._blocks(begin, end)
        data = _exactly(file, start, stop, memory if memory is not None and len(memory) >= stop - start else None)
        self._compare(data, start)
        return data[begin - start : end - start]

    def _looked_at(self, file: FileIO | Fetched, begin: int, end: int) -> memoryview:
        """As `_checked`, where the system keeps them if that is possible: without a copy."""
        start, stop = self._blocks(begin, end)
        there = None if isinstance(file, Fetched) else mapping.looked_at(file, start, stop)
        if there is None:
            return self._checked(file, begin, end)
        data = memoryview(there)
        self._compare(data, start)
        return data[begin - start : end - start]

    def _compare(self, data: memoryview, start: int) -> None:
        """Verify bytes that begin at a block, and end at one or at the end of the data."""
        made, first = blocks.sums(data), start // blocks.BYTES
        if not np.array_equal(made, self._sums[first : first + len(made)]):
            raise ValueError(f"bytes between {start} and {start + len(data)} are not those that were written")

    def _decode(self, rows: np.ndarray, into: np.ndarray, at: np.ndarray) -> None:
        """Rows of the first format, a few at a time."""
        first = 0
        with parquet.opened(self._held(), buffer_size=_WINDOW_BYTES) as reader:
            step = max(1, min(self.rows, _SWEEP_BYTES // (4 * self.size)))
            for batch in reader.iter_batches(batch_size=step, columns=["embedding"], use_threads=False):
                column = batch.column(0)
                if column.null_count or column.flatten().null_count:
                    raise ValueError("it holds empty cells")
                found = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, self.size)
                low, high = np.searchsorted(rows, [first, first + len(found)])
                into[at[low:high]] = found[rows[low:high] - first]
                first += len(found)
        if first != self.rows:
            raise ValueError("it holds another number of rows than it says")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Whatever a library raises about a file is damage, named and with a cure."""
        try:
            yield
        except (FileNotFoundError, MemoryError, StoreError):
            raise
        except Exception as error:  # Arrow alone raises AttributeError, OSError, ValueError and its own
            raise self.damaged(first_line(error)) from error

    def damaged(self, reason: str) -> DamageError:
        """The error that says so, and what to do."""
        files.distrust(self.path)
        return DamageError(
            self.path,
            f"The part {self.path} is damaged ({reason}). Set it aside with "
            f"`{repair_command(self.path.parent.parent.parent)}`, which keeps the rows that are whole and names the "
            "clips to extract again. (Delete that file by hand, and all the clips it held are computed anew by "
            "`serfuse extract`.)",
            reason,
        )


def _named(ids: pa.Array) -> pa.Array:
    """The ids.

    Raises:
        ValueError: they are not UTF-8.
    """
    if not pc.all(pc.string_is_ascii(ids)).as_py():
        ids.validate(full=True)
    return ids


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """The texts of a column as one array of large strings."""
    chunks = [chunk.cast(pa.large_string()) for chunk in column.chunks]
    if len(chunks) == 1:
        return chunks[0]
    return pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string())


def _footer(file: FileIO | Fetched, size: int) -> tuple[int, bytes]:
    """The size of a Parquet file, and its footer."""
    if size < 12:
        raise ValueError(f"it has {size} bytes")
    tail = bytes(_exactly(file, size - 8, size))
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or length > min(size - 12, _MOST_FOOTER_BYTES):
        raise ValueError("its end is cut off or overwritten")
    return size, bytes(_exactly(file, size - 8 - length, size - 8))


def _exactly(file: FileIO | Fetched, begin: int, end: int, memory: bytearray | None = None) -> memoryview:
    """The bytes from `begin` to `end`, in `memory` where there is one to be used again."""
    data = memoryview(bytearray(end - begin) if memory is None else memory)[: end - begin]
    _fill(file, begin, data)
    return data


def _fill(file: FileIO | Fetched, begin: int, memory: memoryview) -> None:
    """Read from `begin` on until `memory` is full."""
    if isinstance(file, Fetched):
        file.fill(begin, memory)
        return
    done = 0
    while done < len(memory):
        if hasattr(os, "preadv"):
            count = os.preadv(file.fileno(), [memory[done:]], begin + done)
        else:
            file.seek(begin + done)
            count = file.readinto(memory[done:])
        if not count:
            raise ValueError("it is cut off")
        done += count


def _scatter(file: FileIO, begin: int, memories: Sequence[memoryview]) -> None:
    """Read from `begin` on until each of `memories` is full."""
    if hasattr(os, "preadv") and os.preadv(file.fileno(), memories, begin) == sum(map(len, memories)):
        return
    for memory in memories:
        _fill(file, begin, memory)
        begin += len(memory)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value
