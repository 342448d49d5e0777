"""WAL in tier 2 while it is uploaded: a part that gives way to more of its segment is no end of WAL."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support.stores import Wrapped

from tallykeep.errors import IntegrityError, NotFound
from tallykeep.storage.local import LocalStore
from tallykeep.systems.postgres import blocks
from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.wal_source import RemoteWal, part_key, segment_key

SEGMENT = Segment(1, LSN(0x1000000), 1 << 20)


def file_of(data: bytes) -> bytes:
    """A block file with the beginning of the segment, or all of it."""
    encoder = blocks.Encoder(blocks.Header(False, SEGMENT, SEGMENT.start, 7, os.urandom(16)), None)
    end = encoder.end(SEGMENT.end) if len(data) == SEGMENT.size else b""
    return encoder.header + encoder.block(SEGMENT.start, data) + end


class Replacing(Wrapped):
    """Its first part goes, once it has been found, and what takes its place comes just before."""

    def __init__(self, store: LocalStore, key: str, data: bytes) -> None:
        super().__init__(store)
        self._key, self._data = key, data

    async def before_read(self, key: str) -> None:
        if key.endswith(".part") and self._data:
            await self.store.create(self._key, self._data)
            await self.store.delete(key)
            self._data = b""


@pytest.mark.parametrize("size", [3000, SEGMENT.size], ids=["longer", "complete"])
async def test_a_part_that_is_replaced_while_it_is_read(tmp_path: Path, size: int) -> None:
    """What has taken its place is read instead."""
    store = LocalStore(tmp_path)
    await store.create(part_key(SEGMENT, 1000), file_of(b"a" * 1000))
    key = segment_key(SEGMENT) if size == SEGMENT.size else part_key(SEGMENT, size)
    assert await RemoteWal(Replacing(store, key, file_of(b"a" * size)), None).read(SEGMENT) == b"a" * size


async def test_a_segment_that_becomes_complete_while_its_parts_are_listed(tmp_path: Path) -> None:
    """The last part goes between two looks: the whole segment is there then, and is read."""

    class Completing(Wrapped):
        async def before_read(self, key: str) -> None:
            if len(self.read_keys) == 2:
                await self.store.create(segment_key(SEGMENT), file_of(b"a" * SEGMENT.size))

    assert await RemoteWal(Completing(LocalStore(tmp_path)), None).read(SEGMENT) == b"a" * SEGMENT.size


async def test_nothing_of_a_segment(tmp_path: Path) -> None:
    """Where there is nothing, and nothing comes, that is said."""
    with pytest.raises(NotFound, match=SEGMENT.name):
        await RemoteWal(LocalStore(tmp_path), None).read(SEGMENT)


async def test_a_history_that_is_sealed_where_there_is_no_key(tmp_path: Path) -> None:
    """It is told as what it is, and is no defect, in either tier."""
    (tmp_path / "wal").mkdir()
    (tmp_path / "wal" / "00000002.history").write_bytes(b"\xbb\xff sealed")
    with pytest.raises(IntegrityError, match="needs a key, and none is given"):
        await RemoteWal(LocalStore(tmp_path), None).history_text(2)
    with pytest.raises(IntegrityError, match="needs a key, and none is given"):
        Archive(tmp_path, None).history_text(2)
