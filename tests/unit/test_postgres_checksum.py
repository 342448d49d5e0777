"""CRC-32C of pieces put together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tallykeep.systems.postgres.checksum import combined, crc32c


@given(st.lists(st.binary(max_size=3000), max_size=6))
def test_the_checksum_of_pieces_is_that_of_the_whole(pieces: list[bytes]) -> None:
    """Any cut gives the checksum that fastcrc has for the whole."""
    found = 0
    for piece in pieces:
        found = combined(found, crc32c(piece), len(piece))
    assert found == crc32c(b"".join(pieces))


def test_large_pieces() -> None:
    """Pieces as long as chunks are put together as well, and the order in which gigabytes are does not matter."""
    chunk = bytes(range(256)) * 2048
    assert combined(crc32c(chunk), crc32c(chunk), len(chunk)) == crc32c(chunk * 2)
    one, length = crc32c(chunk), len(chunk)
    doubled = one
    for power in range(14):
        doubled = combined(doubled, doubled, length << power)
    for _ in range(2**14 - 1):
        one = combined(one, crc32c(chunk), length)
    assert one == doubled
