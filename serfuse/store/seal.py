"""A digest of a file's bytes that stands in the file itself, so that no wrong byte goes unnoticed.

The place of the digest holds zeros while the digest is made. In JSON it is the value of the last key, in Parquet one of
the footer's key-value pairs: other readers see one more text, and need not know of it.
"""

import hashlib
import re

NAME = "serfuse.seal"
DIGITS = 32
BLANK = "0" * DIGITS
# Between name and value stand two bytes in Parquet's footer, and `": "` in JSON.
_PLACE = re.compile(rb"serfuse\.seal[^0-9a-f]{1,8}([0-9a-f]{%d})" % DIGITS)


def sealed(data: bytes) -> bytes:
    """`data` with the digest in the place that is left for it.

    Args:
        data: holds `NAME` with the value `BLANK`.
    """
    found = list(_PLACE.finditer(data))[-1]
    return data[: found.start(1)] + _digest(data, found).encode() + data[found.end(1) :]


def fill(data: bytearray) -> None:
    """As `sealed`, without a copy of what may be large."""
    found = list(_PLACE.finditer(data))[-1]
    begin, digest = found.start(1), _digest(data, found).encode()
    del found  # which keeps the array from being written
    data[begin : begin + DIGITS] = digest


def broken(data: bytes) -> bool | None:
    """Whether the bytes are others than those that were sealed; `None` where there is no seal."""
    found = list(_PLACE.finditer(data))
    if not found:
        return None
    return _digest(data, found[-1]) != found[-1].group(1).decode()


def _digest(data: bytes | bytearray, place: re.Match[bytes]) -> str:
    view = memoryview(data)
    made = hashlib.blake2b(view[: place.start(1)], digest_size=DIGITS // 2)
    made.update(BLANK.encode())
    made.update(view[place.end(1) :])
    return made.hexdigest()
