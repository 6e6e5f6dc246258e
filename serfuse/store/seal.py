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

    Raises:
        ValueError: it does not.
    """
    begin = _place_in(data)
    return data[:begin] + _digest(data, begin).encode() + data[begin + DIGITS :]


def fill(data: bytearray) -> None:
    """As `sealed`, without a copy of what may be large."""
    begin = _place_in(data)
    data[begin : begin + DIGITS] = _digest(data, begin).encode()


def broken(data: bytes) -> bool | None:
    """Whether the bytes are others than those that were sealed; `None` where there is no seal."""
    begin = _place(data)
    return None if begin is None else _digest(data, begin).encode() != data[begin : begin + DIGITS]


def _place(data: bytes | bytearray) -> int | None:
    """Where the digest begins: behind the last `NAME` that has one."""
    at = data.rfind(NAME.encode())
    while at >= 0:
        if found := _PLACE.match(data, at):
            return found.start(1)
        at = data.rfind(NAME.encode(), 0, at)
    return None


def _place_in(data: bytes | bytearray) -> int:
    """`_place` of what is to be sealed."""
    begin = _place(data)
    if begin is None:
        raise ValueError(f"there is no place for a seal: expected {NAME} with {DIGITS} zeros")
    return begin


def _digest(data: bytes | bytearray, begin: int) -> str:
    """Of all bytes, with zeros in the place of the digest."""
    with memoryview(data) as view:
        made = hashlib.blake2b(view[:begin], digest_size=DIGITS // 2)
        made.update(BLANK.encode())
        made.update(view[begin + DIGITS :])
        return made.hexdigest()
