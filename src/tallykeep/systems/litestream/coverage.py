"""Which pages of the database the files of a plan hold: told by their page indexes, without reading the pages.

A restore needs every page from 1 to the size of the final database, the lock page excepted, in some file of the
plan. The index stands at the end of a file, so two small ranged reads an LTX file are enough.

Source: superfly/ltx, Encoder.Close: index, size of the index (u64), trailer (16 bytes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tallykeep.storage.store import Store
from tallykeep.systems.litestream.inventory import LtxFile
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.header import HEADER_SIZE, Header
from tallykeep.systems.litestream.ltx.index import TAIL_SIZE, Tail, index_pages
from tallykeep.systems.litestream.ltx.pageset import PageSet

_END = 64 << 10  # bytes read from the end at once: the index of some 6,000 pages
_WHOLE = 128 << 10  # bytes: up to here a file is read whole, which is one request


class Pages(NamedTuple):
    """What one file says of the database's shape, and the pages it holds."""

    page_size: int  # bytes
    commit: int  # pages of the database after its last transaction
    held: PageSet


class Cover(NamedTuple):
    """What the files of a plan amount to."""

    missing: PageSet  # pages of the final database that no file holds
    misfits: tuple[str, ...]  # keys of files of another page size than the plan's first: they cannot be applied


def cover(plan: Sequence[LtxFile], pages: Mapping[str, Pages]) -> Cover | None:
    """Add up the pages of a plan's files; None while those of some file are not known."""
    known = [pages.get(file.key) for file in plan]
    if not plan or any(each is None for each in known):
        return None
    shapes = [each for each in known if each is not None]
    first, last = shapes[0], shapes[-1]
    held = PageSet()
    for shape in shapes:
        held = held.union(shape.held)
    misfits = tuple(file.key for file, shape in zip(plan, shapes, strict=True) if shape.page_size != first.page_size)
    return Cover(held.missing(last.commit, first.page_size), misfits)


async def read_pages(store: Store, file: LtxFile) -> Pages:
    """The pages of a file, by its header and its page index alone.

    Raises: LtxError where they contradict themselves; StoreError.
    """
    if file.size <= _WHOLE:
        data = await store.read(file.key)
        return decode_pages(data[:HEADER_SIZE], data[-_END:], len(data))
    head = await store.read_range(file.key, 0, HEADER_SIZE)
    end = await store.read_range(file.key, file.size - _END, _END)
    tail = Tail.decode(end[-TAIL_SIZE:], file.size)
    if file.size - tail.index_start > len(end):
        end = await store.read_range(file.key, tail.index_start, file.size - tail.index_start)
    return decode_pages(head, end, file.size)


def decode_pages(head: bytes, end: bytes, size: int) -> Pages:
    """From the first bytes of a file and its last, the whole index among them."""
    tail = Tail.decode(end[-TAIL_SIZE:], size)
    header = Header.decode(head)
    start = len(end) - (size - tail.index_start)
    if start < 0:
        raise LtxError("bad_index", "the page index is longer than the file")
    held = index_pages(end[start : start + tail.index_size], header, tail)
    return Pages(header.page_size, header.commit, held)
