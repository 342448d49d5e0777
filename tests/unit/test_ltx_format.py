"""docs/formats/ltx.md, row by row."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from tests.support import ltx_encoder as ltx

from tallykeep.systems.litestream.ltx import Decoder, Header, LtxError, LtxName, Tail, Txid, index_pages, verify
from tallykeep.systems.litestream.ltx.checksum import crc, page_checksum

PAGE = Path(__file__).parents[2] / "docs/formats/ltx.md"
HEADER_ROWS = [
    (0, 4, "magic", b"LTX1"),
    (4, 4, "flags", 0),
    (8, 4, "page size", 1024),
    (12, 4, "commit", 7),
    (16, 8, "min TXID", 2),
    (24, 8, "max TXID", 0x1F),
    (32, 8, "timestamp", -5),
    (40, 8, "pre-apply checksum", ltx.FLAG | 77),
    (48, 8, "WAL offset", 32),
    (56, 8, "WAL size", 4152),
    (64, 4, "WAL salt 1", 0xA1B2C3D4),
    (68, 4, "WAL salt 2", 0x01020304),
    (72, 8, "node id", 99),
    (80, 20, "reserved", bytes(20)),
]


def a_file() -> bytes:
    frames = [ltx.block(3, ltx.page(3, 1024)), ltx.block(6, ltx.page(6, 1024))]
    return ltx.encode(
        frames, flags=0, page_size=1024, commit=7, min_txid=2, max_txid=0x1F, timestamp_ms=-5, pre_apply=ltx.FLAG | 77,
        wal=(32, 4152, 0xA1B2C3D4, 0x01020304), node_id=99, post_apply=ltx.FLAG | 5,
    )  # fmt: skip


def decoded_fields(header: Header) -> list[object]:
    return [
        header.flags, header.page_size, header.commit, header.min_txid, header.max_txid, header.timestamp_ms,
        header.pre_apply_checksum, header.wal_offset, header.wal_size, header.wal_salt1, header.wal_salt2,
        header.node_id,
    ]  # fmt: skip


@pytest.mark.parametrize(("offset", "size", "field", "value"), HEADER_ROWS, ids=lambda value: str(value)[:20])
def test_header_row(offset: int, size: int, field: str, value: object) -> None:
    """Each field of the header lies at the offset the table gives, big-endian."""
    raw = a_file()[offset : offset + size]
    expected = value if isinstance(value, bytes) else int(str(value)).to_bytes(size, "big", signed=value == -5)
    assert raw == expected
    assert re.search(rf"^\| {offset} \| {size} \| {field} ", PAGE.read_text(), re.MULTILINE)


def test_header_fields() -> None:
    """The decoder reads every field of the table, and nothing else stands in the header."""
    assert decoded_fields(Header.decode(a_file())) == [row[3] for row in HEADER_ROWS[1:-1]]
    assert sum(row[1] for row in HEADER_ROWS) == 100
    assert len(re.findall(r"^\| \d+ \| \d+ \| ", PAGE.read_text().split("## Page")[0], re.MULTILINE)) == 14


def test_frame_rows() -> None:
    """A frame is page number, flags, compressed size and an LZ4 block; six zero bytes follow the last."""
    data = a_file()
    number, flags, size = struct.unpack_from(">IHI", data, 100)
    assert (number, flags) == (3, 1)
    assert data[110 : 110 + size] == ltx.block(3, ltx.page(3, 1024)).body
    after = 110 + size
    (second,) = struct.unpack_from(">I", data, after + 6)
    assert data[after + 10 + second :][:6] == bytes(6)


def test_index_rows() -> None:
    """The index lists page, offset and size as varints, closes with a zero, and its size follows it."""
    data = a_file()
    tail = Tail.decode(data[-24:], len(data))
    index = data[tail.index_start : -24]
    assert len(index) == tail.index_size == struct.unpack(">Q", data[-24:-16])[0]
    assert index[0] == 3
    assert index.endswith(b"\0")
    assert list(index_pages(index, Header.decode(data), tail)) == [3, 6]


def test_trailer_rows() -> None:
    """The trailer is the post-apply checksum and the file checksum."""
    summary = verify(a_file())
    assert summary.trailer.post_apply_checksum == ltx.FLAG | 5
    assert summary.trailer.file_checksum == int.from_bytes(a_file()[-8:], "big")


def test_smallest_file() -> None:
    """The smallest file has 131 bytes: a header, no pages, an empty index, a trailer."""
    data = ltx.encode([], min_txid=2)
    assert len(data) == 131
    assert verify(data).page_count == 0


def test_crc_is_go_iso() -> None:
    """The CRC is CRC-64/GO-ISO: its check value, chained, and equal to the textbook's."""
    assert crc(b"123456789") == 0xB90956C775A41001 == ltx.slow_crc(b"123456789")
    assert crc(b"6789", crc(b"12345")) == 0xB90956C775A41001
    assert page_checksum(7, b"x" * 512) == ltx.FLAG | ltx.slow_crc(b"\0\0\0\7" + b"x" * 512)


def test_names() -> None:
    """A name is two TXIDs of 16 lower-case hex digits; anything else is told by its text."""
    name = LtxName.parse("0000000000000006-0000000000000023.ltx")
    assert name == (Txid(6), Txid(0x23))
    assert str(name) == "0000000000000006-0000000000000023.ltx"
    assert str(Txid.parse("00000000000000ff")) == "00000000000000ff"
    for text in ("", "6-23.ltx", f"{name}.tmp", f"{name}\n", str(name).upper(), f"x{name}"):
        with pytest.raises(ValueError, match="is not the name of an LTX file"):
            LtxName.parse(text)
    with pytest.raises(ValueError, match="is not a TXID"):
        Txid.parse("00000000000000FF")


@pytest.mark.parametrize(
    "change",
    [
        {"flags": 1}, {"flags": 1 << 31}, {"page_size": 0}, {"page_size": 256}, {"page_size": 131072},
        {"page_size": 1000}, {"commit": 0}, {"min_txid": 0, "max_txid": 3}, {"min_txid": 4, "max_txid": 3},
        {"wal": (-1, 0, 0, 0)}, {"wal": (0, -1, 0, 0)}, {"wal": (0, 1, 0, 0)}, {"wal": (0, 0, 1, 0)},
        {"wal": (0, 0, 0, 1)}, {"pre_apply": 1}, {"min_txid": 2, "pre_apply": ltx.FLAG | 1},
        {"min_txid": 2, "flags": 0, "pre_apply": 0}, {"min_txid": 2, "flags": 0, "pre_apply": 1},
        {"min_txid": 1, "flags": 0, "pre_apply": ltx.FLAG | 1},
    ],
    ids=str,
)  # fmt: skip
def test_headers_that_cannot_be(change: dict[str, int]) -> None:
    """What Header.Validate of superfly/ltx refuses is a bad_header, whatever the checksum says."""
    with pytest.raises(LtxError) as caught:
        Header.decode(ltx.encode([], **change))  # type: ignore[arg-type]
    assert caught.value.reason == "bad_header"


def test_reserved_bytes_are_only_checksummed() -> None:
    """Reserved bytes that are not zero make no file unsound, unless they were changed later."""
    data = ltx.encode([ltx.block(1, ltx.page(1))], reserved=bytes(range(20)))
    assert verify(data).page_count == 1
    with pytest.raises(LtxError) as caught:
        verify(data[:85] + b"\xff" + data[86:])
    assert caught.value.reason == "checksum"


def test_pages_come_out_as_they_went_in() -> None:
    """The decoder yields every page once, in order, however the bytes are cut."""
    for cut in (1, 7, 100, 131, 4096):
        decoder = Decoder()
        data = a_file()
        pages = [page for at in range(0, len(data), cut) for page in decoder.feed(data[at : at + cut])]
        decoder.finish()
        assert pages == [(3, ltx.page(3, 1024)), (6, ltx.page(6, 1024))]


def test_pages_wait_to_be_drawn() -> None:
    """Pages not drawn from one feed come with the next: nothing is lost."""
    decoder = Decoder()
    data = ltx.snapshot(5)
    decoder.feed(data[:400])
    assert [number for number, _ in decoder.feed(data[400:])] == [1, 2, 3, 4, 5]
    assert decoder.finish().file_checksum == int.from_bytes(data[-8:], "big")
