"""docs/formats/wal-blocks.md, row by row."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from tallykeep.systems.postgres.blocks import HEAD_SIZE, HEADER_SIZE, Encoder, Header
from tallykeep.systems.postgres.checksum import crc32c
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.lsn import LSN, Segment

_PAGE = Path(__file__).parents[2] / "docs" / "formats" / "wal-blocks.md"
_SEGMENT = Segment(2, LSN(0x3000000), 16 << 20)


def rows(table: int) -> list[tuple[int, int, str]]:
    """(offset, size, field) of the page's first or second table of offsets."""
    tables = _PAGE.read_text().split("| offset | size | field | |\n|---|---|---|---|\n")[1:]
    lines = tables[table].split("\n\n")[0].splitlines()
    found = [re.split(r"\s*\|\s*", line.strip("| ")) for line in lines]
    return [(int(words[0]), int(words[1]), words[2]) for words in found]


def fields(table: int, data: bytes) -> dict[str, bytes]:
    """The bytes of each field, as the page says where they are."""
    return {name: data[at : at + size] for at, size, name in rows(table)}


def number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def test_the_tables_cover_every_byte() -> None:
    """No hole, no overlap, to the end."""
    for table, end in ((0, HEADER_SIZE), (1, HEAD_SIZE)):
        at = 0
        for offset, size, _ in rows(table):
            assert offset == at
            at += size
        assert at == end


def test_headers_and_heads_are_as_the_page_says() -> None:
    """Every field at its place, with its value, and both checksums over what the page says."""
    header = Header(False, _SEGMENT, LSN(0x3000100), 77, bytes(range(16)))
    encoder = Encoder(header, None)
    found = fields(0, encoder.header)
    assert found["magic"] == b"PGW1" and number(found["flags"]) == 0 and number(found["timeline"]) == 2
    assert number(found["segment size"]) == 16 << 20 and number(found["segment"]) == 0x3000000
    assert number(found["start"]) == 0x3000100 and number(found["system identifier"]) == 77
    assert found["id of the file"] == bytes(range(16)) and number(found["CRC-32C"]) == crc32c(encoder.header[:60])
    for block, raw, kind, packing in (
        (encoder.block(0x3000100, b"a" * 900), 900, 0, 1),
        (encoder.block(0x3000100, b"abc"), 3, 0, 0),
        (encoder.end(0x4000000), 0, 1, 0),
    ):
        head = fields(1, block)
        assert number(head["stored"]) == len(block) - HEAD_SIZE and number(head["raw"]) == raw
        assert number(head["LSN"]) == (0x3000100 if raw else 0x4000000)
        assert number(head["kind"]) == kind and number(head["packing"]) == packing
        assert number(head["CRC-32C"]) == crc32c(encoder.header[:60] + block[:20] + block[HEAD_SIZE:])
    assert Header.decode(encoder.header, "x") == header


def test_a_sealed_block_opens_with_the_key_the_page_describes() -> None:
    """By AES-GCM and HKDF alone, without this program."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    key, id = bytes(range(32)), b"0123456789abcdef"
    encoder = Encoder(Header(True, _SEGMENT, LSN(0x3000000), 77, id), Cipher.from_key(key))
    block = encoder.block(0x3000000, b"abc")
    own = HKDF(SHA256(), 32, None, b"tallykeep wal " + id.hex().encode()).derive(key)
    stored = block[HEAD_SIZE:]
    assert AESGCM(own).decrypt(stored[:12], stored[12:], encoder.header + block[:20]) == b"abc"
    assert struct.unpack_from("<I", encoder.header, 4) == (1,)
