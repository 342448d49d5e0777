"""Replicas damaged on purpose: copies of the healthy fixture with one thing wrong, each a function of its folder."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import lz4.block
from tests.support.replicas import ltx_name, replica

from tallykeep.systems.litestream.ltx.checksum import FLAG, crc
from tallykeep.systems.litestream.ltx.decoder import Decoder
from tallykeep.systems.litestream.ltx.index import encode_entry
from tallykeep.systems.litestream.ltx.page import Page

Damage = Callable[[Path], None]
TIP = 0x3B


def damaged(case: str, target: Path) -> Path:
    """The folder of a replica in S3 layout with the damage `case` done to it, or of a fixture of that name."""
    damage = DAMAGES.get(case)
    shutil.copytree(replica("healthy" if damage else case), target)
    if damage:
        damage(target)
    return target


def key(level: int, first: int, last: int | None = None) -> str:
    """Where a file of the S3 layout lies."""
    return f"{level:04x}/{ltx_name(first, last)}"


def encode(header: bytes, pages: Iterable[Page]) -> bytes:
    """A sound LTX file of these 100 header bytes and pages, as Litestream writes it."""
    out, checksum, index = bytearray(header), crc(header), b""
    for number, data in pages:
        packed = lz4.block.compress(data, store_size=False)
        head = struct.pack(">IHI", number, 1, len(packed))
        index += encode_entry(number, len(out), len(head) + len(packed))
        out += head + packed
        checksum = crc(data, crc(head, checksum))
    tail = bytes(6) + index + b"\0" + struct.pack(">QQ", len(index) + 1, 0)
    return bytes(out) + tail + struct.pack(">Q", FLAG | crc(tail, checksum))


def rewrite(path: Path, change: Callable[[list[Page]], list[Page]], header: bytes | None = None) -> None:
    """Write a file anew, sound, with other pages or another header."""
    data = path.read_bytes()
    decoder = Decoder()
    pages = list(decoder.feed(data))
    path.write_bytes(encode(header or data[:100], change(pages)))


def _flip(level: int, first: int, last: int | None, at: int) -> Damage:
    def damage(root: Path) -> None:
        path = root / key(level, first, last)
        data = bytearray(path.read_bytes())
        data[at] ^= 0x01
        path.write_bytes(data)

    return damage


def _remove(*files: tuple[int, int, int | None]) -> Damage:
    def damage(root: Path) -> None:
        for file in files:
            (root / key(*file)).unlink()

    return damage


def _overlap(root: Path) -> None:
    shutil.copy(root / key(1, 3, 5), root / key(1, 3, 4))


def _strays(root: Path) -> None:
    for name in ("0000/README.txt", "notes.txt", "0001/x.ltx", "0001/0000000000000001-0000000000000002.ltx.tmp"):
        (root / name).write_bytes(b"stray")


def _empty(root: Path) -> None:
    for folder in root.iterdir():
        shutil.rmtree(folder)


def _missing_pages(root: Path) -> None:
    """The database of 10 pages grows to 15; only page 15 is there."""
    path = root / key(0, TIP)
    header = bytearray(path.read_bytes()[:100])
    header[12:16] = struct.pack(">I", 15)
    rewrite(path, lambda pages: [*pages, (15, bytes(1024))], bytes(header))


def _page_size(root: Path) -> None:
    path = root / key(0, TIP)
    header = bytearray(path.read_bytes()[:100])
    header[8:12] = struct.pack(">I", 512)
    rewrite(path, lambda pages: [(number, data[:512]) for number, data in pages], bytes(header))


def _v3(root: Path) -> None:
    _empty(root)
    folder = root / "generations" / "0123456789abcdef" / "snapshots"
    folder.mkdir(parents=True)
    (folder / "00000000.snapshot.lz4").write_bytes(b"x" * 300)


DAMAGES: dict[str, Damage] = {
    "gap-middle": _remove(*((level, first, last) for level, first, last in [(1, 0x27, 0x29), (2, 0x24, 0x2C)])),
    "gap-covered": _remove((1, 0x2A, 0x2C)),
    "flip-reserved": _flip(3, 6, 0x23, 90),
    "flip-timestamp": _flip(3, 6, 0x23, 38),
    "flip-index": _flip(3, 6, 0x23, -20),
    "flip-unused": _flip(1, 3, 5, 150),
    "flip-snapshot": _flip(9, 1, 1, -5),
    "overlap": _overlap,
    "no-snapshot": _remove((9, 1, 1)),
    "strays": _strays,
    "empty": _empty,
    "missing-pages": _missing_pages,
    "page-size": _page_size,
    "v3-only": _v3,
}
