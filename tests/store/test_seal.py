"""The digest that stands in the file it is of."""

import pytest

from serfuse.store import seal

BLANK = f'{{"text": "x", "{seal.NAME}": "{seal.BLANK}"}}'.encode()


@pytest.mark.parametrize("before", [b"", f'"{seal.NAME}": "{"a" * 32}" '.encode(), seal.NAME.encode() * 3])
@pytest.mark.parametrize("after", [b"", f' {seal.NAME}, {seal.NAME}: "{"a" * 31}"'.encode()])
def test_both_ways_of_sealing_fill_the_same_place(before: bytes, after: bytes) -> None:
    """Also where the content itself names the seal."""
    data = before + BLANK + after
    filled = bytearray(data)
    seal.fill(filled)
    assert seal.sealed(data) == bytes(filled) and len(filled) == len(data)
    assert filled.startswith(before) and filled.endswith(after)
    assert seal.broken(bytes(filled)) is False and seal.broken(data) is True
    for place in (0, len(before) + 3, len(before) + len(BLANK) - 10, len(data) - 1):
        other = bytearray(filled)
        other[place] ^= 1
        assert seal.broken(bytes(other)) is not False


def test_what_has_no_place_for_a_seal_is_told() -> None:
    assert seal.broken(b'{"a": 1}') is None and seal.broken(b"") is None
    for data in (b"{}", f"{seal.NAME}: {'0' * 31}".encode()):
        with pytest.raises(ValueError, match="no place for a seal"):
            seal.sealed(data)
