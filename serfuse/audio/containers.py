"""What a file of audio holds by its own account, before anything is decoded.

libsndfile decodes the first recording of a file and is silent about what lies behind it, and it believes lengths that
a program wrote before it knew them. Here the bytes themselves are looked at: joined recordings are told apart, wrong
or missing lengths are mended, and a file that was cut off is told from one whose header is wrong.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import BinaryIO

MAX_PARTS = 1000
"""Most recordings that are taken from one file."""

# What programs that write to a pipe, not knowing the length, put into a WAV header for it.
_UNKNOWN_SIZE = 0x7FFFF000
_CHUNK = 1 << 20
_FIRST_LOOK = 1 << 12
# How far behind a recording another one is looked for: a sparse file of terabytes costs its writer nothing.
_LOOKED_THROUGH = 1 << 30
# A WAV header that is longer is not mended: its chunks may claim gigabytes, which would be held in memory.
_LONGEST_HEAD = 1 << 24
# More bytes than this behind the audio are worth a word (tags and padding are smaller).
_MUCH = 4096

# How a recording of each format begins: enough bytes to never occur by chance, for the beginning of one behind another.
_BEGINNINGS: dict[bytes, re.Pattern[bytes]] = {
    b"RIFF": re.compile(rb"RIFF.{4}WAVE", re.S),
    b"RIFX": re.compile(rb"RIFX.{4}WAVE", re.S),
    b"RF64": re.compile(rb"RF64\xff{4}WAVE"),
    b"riff": re.compile(rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"),
    b"FORM": re.compile(rb"FORM.{4}AIF[FC]", re.S),
    b"fLaC": re.compile(rb"fLaC[\x00\x80]\x00\x00\x22"),
    b".snd": re.compile(rb"\.snd\x00\x00.{6}\x00\x00\x00[\x01-\x1b]\x00[\x00-\x0b]..\x00\x00\x00[\x01-\x10]", re.S),
    b"caff": re.compile(rb"caff\x00\x01\x00.desc\x00{7}\x20", re.S),
    b"NIST": re.compile(rb"NIST_1A\n   1024\n"),
}
_LONGEST_BEGINNING = 32
_NOT_ZERO = re.compile(rb"[^\0]")


@dataclass(frozen=True)
class Part:
    """One recording of a file.

    Attributes:
        start: its first byte.
        end: the byte behind its last.
        head: bytes to read in place of its first `replaced` ones, where its header had to be mended.
        replaced: see `head`.
        tail: bytes to read in place of its last ones.
        frames: samples per channel that were counted in the container, `None` where they were not.
        guessed: nothing in the container states its length, so that decoders guess it.
    """

    start: int
    end: int
    head: bytes = b""
    replaced: int = 0
    tail: bytes = b""
    frames: int | None = None
    guessed: bool = False


@dataclass(frozen=True)
class Layout:
    """What a file holds.

    Attributes:
        parts: its recordings, at least one.
        notes: what is wrong with the file without being in the way of reading it, in words that follow its name.
        cut: why it is not whole, "" when it is.
    """

    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    cut: str = ""


def layout(file: BinaryIO, size: int) -> Layout:
    """Look at an open file of `size` bytes. What is not known here is one part without a word.

    Args:
        file: can be read and moved in; its place afterwards is undefined.
        size: in bytes.
    """
    at = _behind_tags(file, 0)
    magic = _read(file, at, 4)
    if magic == b"OggS":
        return _ogg(file, at, size)
    if magic in (b"RIFF", b"RIFX"):
        return _wave(file, at, size, magic)
    if magic in _BEGINNINGS:
        starts = [0, *islice(_find(file, _BEGINNINGS[magic], at + 4, size), MAX_PARTS)]
        return _joined([Part(a, b) for a, b in zip(starts, [*starts[1:], size], strict=True)], [])
    if _Mpeg.of(magic) is not None:
        return _mpeg(file, at, size)
    return Layout((Part(0, size),))


def _joined(parts: list[Part], notes: list[str], cut: str = "") -> Layout:
    if len(parts) > 1:
        notes = [f"holds {len(parts)} recordings joined to one file: all are read, one behind the other", *notes]
    return Layout(tuple(parts), tuple(dict.fromkeys(notes)), cut)


def _read(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)


def _find(file: BinaryIO, pattern: re.Pattern[bytes], start: int, end: int) -> Iterator[int]:
    """Find where a pattern begins between two offsets, block by block, as far as is looked.

    The first blocks are small: in a file that is damaged everywhere, what is looked for is near, again and again.
    """
    end = min(end, start + _LOOKED_THROUGH)
    block = _FIRST_LOOK
    while start < end:
        data = _read(file, start, min(block + _LONGEST_BEGINNING, end - start))
        if not data:
            return
        for found in pattern.finditer(data):
            if found.start() < block:
                yield start + found.start()
        start += block
        block = min(2 * block, _CHUNK)


def _behind_tags(file: BinaryIO, at: int) -> int:
    """Find the offset behind the ID3v2 tags at `at`."""
    while (head := _read(file, at, 10))[:3] == b"ID3" and len(head) == 10 and max(head[6:]) < 128:
        at += 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]) + (10 if head[5] & 16 else 0)
    return at


# -- WAV ---------------------------------------------------------------------------------------------------


def _wave(file: BinaryIO, at: int, size: int, magic: bytes) -> Layout:
    parts: list[Part] = []
    notes: list[str] = []
    cut = ""
    start = 0
    while len(parts) <= MAX_PARTS:
        part, remarks, cut = _wave_part(file, start, at, size, magic)
        parts.append(part)
        notes += remarks
        if part.end >= size:
            break
        start = at = part.end
    return _joined(parts, notes, cut)


def _wave_part(file: BinaryIO, start: int, at: int, size: int, magic: bytes) -> tuple[Part, list[str], str]:
    """Read the recording whose header is at `at`, what is odd about it, and why it is cut off if it is."""
    order = "<" if magic == b"RIFF" else ">"
    whole = struct.unpack(f"{order}I", _read(file, at + 4, 4).ljust(4, b"\0"))[0]
    align, data, promised = 1, None, 0
    for name, offset, length in _chunks(file, at + 12, size, order):
        if name == b"fmt " and len(found := _read(file, offset + 12, 2)) == 2:
            align = struct.unpack(f"{order}H", found)[0] or 1
        elif name == b"data":
            data, promised = offset, length
            break
    if data is None:
        return Part(start, size), [], ""
    # Where the length is not to be trusted, another header may lie within what it spans.
    trusted = 0 < promised <= size - data
    end = next(_find(file, _BEGINNINGS[magic], data + promised if trusted else data, size), size)
    room = end - data
    part = Part(start, end)
    if promised > room:
        if promised >= _UNKNOWN_SIZE:
            return part, ["has a header that states no length: all audio that is there is read"], ""
        # A header that counts itself, or the whole file, as audio; or the outer length says that all is there.
        if promised - room <= data - at or abs(at + 8 + whole - end) <= 1:
            return part, [f"has a header that promises {promised - room} bytes too many: all that is there is read"], ""
        return part, [], f"its header promises {promised} bytes of audio, the file holds {room}"
    behind = _behind_chunks(file, data + promised + promised % 2, end, order)
    if promised == 0 and room > 0 and behind and data - start <= _LONGEST_HEAD:
        head = bytearray(_read(file, start, data - start))
        struct.pack_into(f"{order}I", head, at + 4 - start, min(end - at - 8, 0xFFFFFFFF))
        struct.pack_into(f"{order}I", head, data - 4 - start, min(room - room % align, 0xFFFFFFFF))
        note = "was never closed, so that its header states a length of zero: all audio that is there is read"
        return Part(start, end, bytes(head), len(head)), [note], ""
    filled = behind <= _MUCH or next(_find(file, _NOT_ZERO, end - behind, end), None) is None
    if not filled:
        return part, [f"holds {behind} bytes behind the audio that its header counts: they are not read"], ""
    return part, [], ""


def _chunks(file: BinaryIO, at: int, end: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """List name, offset of the content, and length of each chunk."""
    for _ in range(MAX_PARTS):
        head = _read(file, at, 8)
        if at >= end or len(head) < 8:
            return
        length = struct.unpack(f"{order}I", head[4:])[0]
        yield head[:4], at + 8, length
        at += 8 + length + length % 2


def _behind_chunks(file: BinaryIO, at: int, end: int, order: str) -> int:
    """Count the bytes up to `end` that are no chunks."""
    for name, offset, length in _chunks(file, at, end, order):
        # A program that does not fill up odd chunks is one byte off: the audio is the same.
        if not all(32 <= byte < 127 for byte in name) or offset + length > end + 1:
            break
        at = offset + length + length % 2
    return max(0, end - at)


# -- Ogg (RFC 3533) ----------------------------------------------------------------------------------------


def _ogg(file: BinaryIO, at: int, size: int) -> Layout:
    parts: list[Part] = []
    notes: list[str] = []
    cut, start, end, begun, last = "", 0, 0, True, b""
    while at + 27 <= size and len(parts) < MAX_PARTS:
        head = _read(file, at, 27 + 255)
        if head[:4] != b"OggS":
            following = next(_find(file, re.compile(b"OggS"), at, size), None)
            if following is None:
                break
            at = following
            continue
        lacing = head[27 : 27 + head[26]]
        length = 27 + head[26] + sum(lacing)
        if head[5] & 2 and not begun:
            parts.append(_ogg_part(start, end, last, notes))
            start = at
        begun = bool(head[5] & 2)
        if at + length > size or len(lacing) < head[26]:
            cut = f"its last page needs {length} bytes, {size - at} are there"
            break
        last = _read(file, at, length)
        at += length
        end = at
    if not cut and last:  # one more than are taken, where the loop has ended because of that
        # A packet that goes on in a page that is not there.
        cut = "its last page is missing" if not last[5] & 4 and last[26 + last[26]] == 255 else ""
        parts.append(_ogg_part(start, end, last, notes))
    return _joined(parts or [Part(0, size)], notes, cut)


def _ogg_part(start: int, end: int, last: bytes, notes: list[str]) -> Part:
    """Cut a recording behind its last page, which gets the mark of an end if it has none: decoders rely on it."""
    if last[5] & 4:
        return Part(start, end)
    notes.append("has no mark of its end (it may have been cut off there): all audio that is there is read")
    page = bytearray(last)
    page[5] |= 4
    page[22:26] = bytes(4)
    page[22:26] = _ogg_checksum(page).to_bytes(4, "little")
    return Part(start, end, tail=bytes(page))


def _ogg_checksum(page: bytes) -> int:
    """Compute the CRC of a page: polynomial 0x04C11DB7, most significant bit first, from 0 (RFC 3533, section 6)."""
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _CRC[value >> 24 ^ byte]
    return value


def _crc_of(byte: int) -> int:
    value = byte << 24
    for _ in range(8):
        value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


_CRC = [_crc_of(byte) for byte in range(256)]


# -- MPEG audio (ISO 11172-3 and 13818-3) ------------------------------------------------------------------

_KBIT = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)


@dataclass(frozen=True)
class _Mpeg:
    """A frame's header: its rate in Hz, layer, version, length in bytes and samples, and where a Xing mark stands."""

    rate: int
    layer: int
    version: int
    length: int
    samples: int
    mark: int

    @property
    def kind(self) -> tuple[int, int, int]:
        """Give what does not change within a recording."""
        return self.layer, self.version, self.rate

    @classmethod
    def of(cls, head: bytes) -> "_Mpeg | None":
        if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
            return None
        version, layer = {3: 1, 2: 2, 0: 3}.get(head[1] >> 3 & 3), 4 - (head[1] >> 1 & 3)
        bits, rates = head[2] >> 4, head[2] >> 2 & 3
        if version is None or layer == 4 or bits in (0, 15) or rates == 3:
            return None
        kbit = _KBIT[(1, layer) if version == 1 else (2, min(layer, 2))][bits - 1]
        rate, padding = _RATES[rates] >> (version - 1), head[2] >> 1 & 1
        samples = 384 if layer == 1 else 576 if layer == 3 and version > 1 else 1152
        length = (12000 * kbit // rate + padding) * 4 if layer == 1 else samples // 8 * 1000 * kbit // rate + padding
        mono = head[3] >> 6 == 3
        side = (17 if mono else 32) if version == 1 else (9 if mono else 17)
        return cls(rate, layer, version, length, samples, 4 + side)


def _mpeg(file: BinaryIO, at: int, size: int) -> Layout:
    """Parts begin at a tag or at a frame that counts the frames behind it, as encoders write one in front."""
    starts, counts = [0], [0]
    marked: set[int] = set()
    first = kind = None
    while at + 4 <= size:
        head = _read(file, at, 48)
        frame = _Mpeg.of(head)
        if frame is None or (kind is not None and frame.kind != kind):
            tagged = _behind_tags(file, at)
            following = tagged if tagged > at else _next_frame(file, at if frame else at + 1, size)
            if following is None:
                break
            found = _Mpeg.of(_read(file, following, 4))
            if tagged > at or found is None or found.kind != kind:
                if counts[-1]:
                    starts.append(following if tagged == at else at)
                    counts.append(0)
                kind = None
            at = following
            continue
        kind = frame.kind
        mark = head[frame.mark : frame.mark + 4] in (b"Xing", b"Info") or head[36:40] == b"VBRI"
        if mark and counts[-1]:
            starts.append(at)
            counts.append(0)
        if mark:
            marked.add(len(counts) - 1)
        first = first or frame
        # The frame that counts the others holds no audio; a last one that is cut off is not decoded.
        if not mark and at + frame.length <= size:
            counts[-1] += frame.samples
        at += frame.length
        if len(starts) > MAX_PARTS:
            break
    if first is None or not counts[0]:
        return Layout((Part(0, size),))
    if not counts[-1]:  # a tag at the end
        starts.pop()
        counts.pop()
    ends = [*starts[1:], size]
    rows = enumerate(zip(starts, ends, counts, strict=True))
    return _joined([Part(a, b, frames=n, guessed=i not in marked) for i, (a, b, n) in rows], [])


def counted(file: BinaryIO, part: Part) -> Part:
    """An MPEG recording with a count of its frames in front that is right, for decoders that believe it or guess.

    A frame that counts the others gets the right number; where there is none, one is put in front.
    """
    assert part.frames is not None
    at = _behind_tags(file, part.start)
    if _Mpeg.of(_read(file, at, 4)) is None:
        at = _next_frame(file, at, part.end) or at
    head = _read(file, at, 4)
    frame = _Mpeg.of(head)
    if frame is None:
        return part
    number = (part.frames // frame.samples).to_bytes(4, "big")
    first = bytearray(_read(file, at, frame.length))
    mark = frame.mark
    if first[mark : mark + 4] in (b"Xing", b"Info") and first[mark + 7] & 1:
        first[mark + 8 : mark + 12] = number
        return replace(part, start=at, head=bytes(first), replaced=len(first))
    first[4:] = bytes(len(first) - 4)
    # 12 bytes of mark, flags and count, in a frame that is long enough for them.
    first = first.ljust(mark + 12, b"\0")
    first[1] |= 1  # no checksum
    first[mark : mark + 12] = b"Xing" + (1).to_bytes(4, "big") + number
    return replace(part, start=at, head=bytes(first), replaced=0)


def _bytes_of(place: int, *, like: bytes = b"\xff\xfb\x90\x00") -> bytes:
    """Give the values of one byte of a frame's header with which it is one, as a class of a pattern."""
    valid = [byte for byte in range(256) if _Mpeg.of(like[:place] + bytes([byte]) + like[place + 1 :])]
    return b"[" + b"".join(re.escape(bytes([byte])) for byte in valid) + b"]"


# As narrow as can be: each place that it finds is looked at.
_FRAME_OR_TAG = re.compile(rb"\xff" + _bytes_of(1) + _bytes_of(2) + rb"|ID3[\x02-\x04]", re.S)


def _next_frame(file: BinaryIO, at: int, size: int) -> int | None:
    """Find the next offset at which two frames follow each other, or a tag begins."""
    for found in _find(file, _FRAME_OR_TAG, at, size):
        if _read(file, found, 3) == b"ID3":
            if _behind_tags(file, found) > found:
                return found
            continue
        frame = _Mpeg.of(_read(file, found, 4))
        if frame is None:
            continue
        after = _Mpeg.of(_read(file, found + frame.length, 4))
        if after is not None and after.kind == frame.kind:
            return found
    return None
