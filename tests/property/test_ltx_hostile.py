"""LTX files that something has tampered with: a typed error, or the very same pages. Never a third thing."""

from __future__ import annotations

import itertools
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import lz4.block
import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import ltx_encoder as ltx

from tallykeep.systems.litestream.ltx import Decoder, Header, LtxError, LtxName, Page, Tail, Trailer, index_pages
from tallykeep.systems.litestream.ltx.index import decode_index

FIXTURES = Path(__file__).parents[1] / "fixtures/litestream"
SMALL = FIXTURES / "remote/healthy/0000/0000000000000031-0000000000000031.ltx"  # 324 bytes, by a real Litestream
Contents = tuple[Header, list[Page], Trailer]


def decode(data: bytes, name: LtxName | None = None) -> Contents:
    decoder = Decoder(name)
    pages = list(decoder.feed(data))
    trailer = decoder.finish()
    assert decoder.header is not None
    return decoder.header, pages, trailer


def reason(data: bytes, name: LtxName | None = None) -> str:
    try:
        decode(data, name)
    except LtxError as error:
        return error.reason
    return "sound"


def rejected_or_same(data: bytes, honest: Contents) -> str:
    """The reason for which `data` is rejected; where it is not, it holds what the honest file holds."""
    try:
        contents = decode(data)
    except LtxError as error:
        return error.reason
    assert contents == honest
    return "same"


def small_files() -> list[bytes]:
    legacy = ltx.encode([ltx.legacy(1, ltx.page(1)), ltx.legacy(2, ltx.page(2))])
    tracked = ltx.encode([ltx.block(1, ltx.page(1)), ltx.block(2, ltx.page(2))], flags=0)
    return [SMALL.read_bytes(), legacy, tracked]


@pytest.mark.parametrize("data", small_files(), ids=["litestream", "legacy", "tracked"])
def test_every_flipped_bit_is_found(data: bytes) -> None:
    """Each single bit of a file flipped gives a typed error, or header and pages that are the same."""
    honest = decode(data)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert rejected_or_same(bytes(flipped), honest)


@pytest.mark.parametrize("data", small_files(), ids=["litestream", "legacy", "tracked"])
def test_every_truncation_is_found(data: bytes) -> None:
    """A file cut at any byte is too_small or truncated, never sound."""
    for length in range(len(data)):
        assert reason(data[:length]) == ("too_small" if length < 131 else "truncated")


@given(st.binary(max_size=600))
@settings(max_examples=300, deadline=None)
def test_any_bytes(data: bytes) -> None:
    """Arbitrary bytes are not an LTX file, and say so in the one way."""
    assert reason(data) in ("too_small", "bad_magic")
    assert reason(b"LTX1" + data) != "sound"


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_mutations(data: st.DataObject) -> None:
    """Bytes overwritten, removed, repeated or put in anywhere: a typed error, or the same contents."""
    honest = data.draw(st.sampled_from(small_files()))
    start = data.draw(st.integers(0, len(honest)))
    end = data.draw(st.integers(start, min(len(honest), start + 64)))
    put = data.draw(st.binary(max_size=32) | st.just(honest[start:end] * 2))
    assert rejected_or_same(honest[:start] + put + honest[end:], decode(honest))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_mutations_with_a_good_checksum(data: st.DataObject) -> None:
    """A header or index somebody made up and signed well: a typed error, or what it says is what it holds."""
    frames = [ltx.block(number, ltx.page(number)) for number in sorted(data.draw(st.sets(st.integers(1, 9))))]
    index = data.draw(st.just(None) | st.binary(max_size=40) | st.just(ltx.index_of(frames[1:])))
    made = ltx.encode(frames, index=index, commit=9, flags=data.draw(st.sampled_from([0, 2, 3])), min_txid=2)
    try:
        _, pages, _ = decode(made)
    except LtxError:
        return
    assert pages == [(frame.number, frame.page) for frame in frames]
    assert index in (None, ltx.index_of(frames))


@given(st.sets(st.integers(1, 40)), st.sampled_from([512, 1024, 4096, 65536]), st.booleans(), st.booleans(), st.data())
@settings(max_examples=60, deadline=None)
def test_round_trip(numbers: set[int], page_size: int, legacy: bool, tracked: bool, data: st.DataObject) -> None:
    """What an independent encoder wrote is read back exactly, in either frame form, with and without checksums."""
    write = ltx.legacy if legacy else ltx.block
    seeds = st.binary(min_size=1, max_size=40)
    pages = [(number, (data.draw(seeds) * page_size)[:page_size]) for number in sorted(numbers)]
    flags, pre = (0, ltx.FLAG | 3) if tracked else (2, 0)
    made = ltx.encode(
        [write(*page) for page in pages], page_size=page_size, min_txid=5, max_txid=9, flags=flags, pre_apply=pre
    )
    header, read, _ = decode(made, LtxName.parse("0000000000000005-0000000000000009.ltx"))
    assert read == pages
    assert header.page_size == page_size
    tail = Tail.decode(made[-24:], len(made))
    assert list(index_pages(made[tail.index_start : -24], header, tail)) == sorted(numbers)


def a_page(number: int = 1) -> ltx.Frame:
    return ltx.block(number, ltx.page(number))


def stored(size: int) -> bytes:
    body: bytes = lz4.block.compress(bytes(size), store_size=False)
    return body


def endless_frame() -> bytes:
    """The head of an LZ4 frame, and one empty block after another."""
    head: bytes = lz4.frame.compress(b"")[:7]
    return head + struct.pack("<I", 0x80000000) * 400


LOCK = 0x40000000 // 65536 + 1
LIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty": ("too_small", lambda: b""),
    "other magic": ("bad_magic", lambda: ltx.encode([a_page()], magic=b"LTX2")),
    "bad header": ("bad_header", lambda: ltx.encode([a_page()], flags=4)),
    "descending": ("bad_page", lambda: ltx.encode([a_page(2), a_page(1)], min_txid=2)),
    "twice": ("bad_page", lambda: ltx.encode([a_page(2), a_page(2)], min_txid=2)),
    "beyond commit": ("bad_page", lambda: ltx.encode([a_page(3)], commit=2, min_txid=2)),
    "lock page": ("bad_page", lambda: ltx.encode([ltx.block(LOCK, ltx.page(1, 65536))], page_size=65536, min_txid=2)),
    "page zero": ("bad_page", lambda: ltx.encode([ltx.block(0, ltx.page(1))], commit=1)),
    "unknown flags": ("bad_page", lambda: ltx.encode([ltx.block(1, ltx.page(1), flags=2)])),
    "short page": ("bad_page", lambda: ltx.encode([ltx.block(1, bytes(511), body=stored(511))])),
    "long page": ("bad_page", lambda: ltx.encode([ltx.block(1, bytes(513), body=stored(513))])),
    "bomb": ("bad_page", lambda: ltx.encode([ltx.block(1, bytes(9), body=stored(100_000))])),
    "no bytes": ("bad_page", lambda: ltx.encode([ltx.block(1, bytes(512), body=b"")])),
    "huge compressed size": ("bad_page", lambda: ltx.encode([ltx.block(1, bytes(512), size=2**32 - 1)])),
    "legacy bomb": ("bad_page", lambda: ltx.encode([ltx.legacy(1, bytes(9), body=lz4.frame.compress(bytes(100_000)))])),
    "legacy short": ("bad_page", lambda: ltx.encode([ltx.legacy(1, bytes(9), body=lz4.frame.compress(bytes(9)))])),
    "legacy not lz4": ("bad_page", lambda: ltx.encode([ltx.legacy(1, bytes(9), body=bytes(600))])),
    "legacy endless": ("bad_page", lambda: ltx.encode([ltx.legacy(1, b"", body=endless_frame())])),
    "page changed": ("checksum", lambda: ltx.encode([a_page()._replace(page=ltx.page(2))])),
    "wrong checksum": ("checksum", lambda: ltx.encode([a_page()], file_checksum=ltx.FLAG | 1)),
    "checksum without its flag": ("checksum", lambda: _without_flag(ltx.encode([a_page()]))),
    "post-apply where none may be": ("checksum", lambda: ltx.encode([a_page()], post_apply=ltx.FLAG)),
    "no post-apply where one must be": ("checksum", lambda: ltx.encode([a_page()], flags=0, post_apply=0)),
    "post-apply of another database": ("checksum", lambda: ltx.encode([a_page()], flags=0, post_apply=ltx.FLAG | 9)),
    "index lists nothing": ("bad_index", lambda: ltx.encode([a_page()], index=b"\0")),
    "index lists more": ("bad_index", lambda: ltx.encode([a_page()], index=ltx.index_of([a_page(), a_page(2)]))),
    "index has another offset": ("bad_index", lambda: ltx.encode([a_page()], index=b"\x01\x65\x20\0")),
    "index without end": ("bad_index", lambda: ltx.encode([a_page()], index=ltx.index_of([a_page()])[:-1])),
    "index size is a lie": ("bad_index", lambda: ltx.encode([a_page()], index_size=2**63)),
    "one byte more": ("trailing_bytes", lambda: ltx.encode([a_page()]) + b"\0"),
    "much more": ("trailing_bytes", lambda: ltx.encode([a_page()]) * 3),
    "one byte less": ("truncated", lambda: ltx.encode([a_page()])[:-1]),
}  # fmt: skip


def _without_flag(data: bytes) -> bytes:
    return data[:-8] + bytes([data[-8] & 0x7F]) + data[-7:]


@pytest.mark.parametrize("case", LIES)
def test_each_lie_has_its_reason(case: str) -> None:
    """What is wrong with a file is told by the reason that is true of it, however the bytes arrive."""
    expected, make = LIES[case]
    data = make()
    assert reason(data) == expected
    decoder = Decoder()
    with pytest.raises(LtxError) as caught:
        for at in range(0, len(data), 13):
            for _ in decoder.feed(data[at : at + 13]):
                pass
        decoder.finish()
    assert caught.value.reason == expected


def test_name_against_header() -> None:
    """A sound file under another file's name is header_name_mismatch; a corrupt one is first of all corrupt."""
    name = LtxName.parse("0000000000000002-0000000000000002.ltx")
    data = ltx.encode([a_page()])
    assert reason(data, name) == "header_name_mismatch"
    assert reason(data[:-1], name) == "truncated"


@pytest.mark.parametrize(
    "index",
    [b"", b"\x01", b"\x01\x64", b"\x01\x64\x10", b"\x80" * 11, b"\xff" * 9 + b"\x02" + b"\0", b"\x01\x64\x06\0",
     b"\x01\x65\x10\0", b"\x02\x64\x10\x01\x74\x10\0", b"\0\0"],
    ids=bytes.hex,
)  # fmt: skip
def test_index_alone(index: bytes) -> None:
    """An index read without its pages is judged by its own order, and cannot run past its end."""
    with pytest.raises(LtxError) as caught:
        list(decode_index(index))
    assert caught.value.reason == "bad_index"


def test_index_against_its_place() -> None:
    """An index of another file, though sound in itself, does not fit where it stands."""
    data = ltx.snapshot(4)
    header, tail = Header.decode(data), Tail.decode(data[-24:], len(data))
    for frames in ([a_page(1)], [a_page(5)]):
        with pytest.raises(LtxError) as caught:
            index_pages(ltx.index_of(frames), header, tail)
        assert caught.value.reason == "bad_index"
    for last, size in ((bytes(24), len(data)), (b"\xff" * 24, len(data)), (data[-24:], 130)):
        with pytest.raises(LtxError):
            Tail.decode(last, size)


def test_memory_stays_bounded() -> None:
    """40,000 pages that compress 250 times, and an endless tail, are decoded in less than 8 MiB."""
    zero = ltx.block(1, bytes(4096))
    head = ltx.encode([], page_size=4096, commit=2**31, min_txid=2)[:100]
    decoder = Decoder()
    tracemalloc.start()
    for _ in decoder.feed(head):
        pass
    for start in range(1, 40_000, 1000):
        chunk = b"".join(struct.pack(">I", number) + zero.head[4:] + zero.body for number in range(start, start + 1000))
        for _ in decoder.feed(chunk):
            pass
    for chunk in itertools.repeat(b"\0" * 65536, 200):
        for _ in decoder.feed(chunk):
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(decoder.pages) == 40_000
    assert peak < 8 << 20
    with pytest.raises(LtxError):
        decoder.finish()


@pytest.mark.parametrize("path", sorted(FIXTURES.rglob("*.ltx")), ids=lambda path: "/".join(path.parts[-3:]))
def test_fixtures(path: Path) -> None:
    """Each file a real Litestream wrote is sound; each that was damaged is found, for the true reason."""
    damaged: dict[tuple[str, ...], str] = {
        ("flip-page", "0003", "0000000000000006-0000000000000023.ltx"): "checksum",
        ("truncated", "0003", "0000000000000006-0000000000000023.ltx"): "truncated",
        ("zero-byte", "0000", "000000000000003b-000000000000003b.ltx"): "too_small",
        ("renamed", "0000", "000000000000003c-000000000000003c.ltx"): "header_name_mismatch",
    }
    assert reason(path.read_bytes(), LtxName.parse(path.name)) == damaged.get(path.parts[-3:], "sound")
