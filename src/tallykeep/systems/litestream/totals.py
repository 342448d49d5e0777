"""The published file counts as sums over targets.

Reckoned from the snapshots of the collectors that list; withdrawn as long as one of them is unknown, since a sum
without one of its parts would be a wrong number. Where nothing of a kind is configured they are 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, cast

from tallykeep.metrics import Book, Family, Sample, Snapshot
from tallykeep.runtime.work import Derived
from tallykeep.systems.litestream import families
from tallykeep.systems.litestream.inventory import Inventory
from tallykeep.systems.litestream.levels import ALWAYS_SHOWN, level_name
from tallykeep.systems.litestream.sources import LOCAL, REMOTE


class _Published(NamedTuple):
    files: Family
    bytes: Family
    files_by_level: Family
    bytes_by_level: Family


_PUBLISHED = {
    LOCAL: _Published(
        families.LOCAL_FILES, families.LOCAL_BYTES, families.LOCAL_FILES_BY_LEVEL, families.LOCAL_BYTES_BY_LEVEL
    ),
    REMOTE: _Published(
        families.REMOTE_FILES, families.REMOTE_BYTES, families.REMOTE_FILES_BY_LEVEL, families.REMOTE_BYTES_BY_LEVEL
    ),
}  # fmt: skip


def count(target: str, source: str, inventory: Inventory) -> Iterator[Sample]:
    """Files and bytes of one source by level, and what else its listing shows."""
    for level, total in inventory.totals.items():
        yield families.FILES(total.files, target=target, source=source, level=level)
        yield families.SIZE(total.bytes, target=target, source=source, level=level)
    yield families.TEMPORARY_FILES(inventory.temporary.files, target=target, source=source)
    newest = max((file.name.max for file in inventory), default=None)
    if newest is not None:
        yield families.NEWEST_TXID(newest, target=target, source=source)


def total(source: str, collector: str, targets: Sequence[str], book: Book) -> Iterator[Derived]:
    """The sum over `targets`, each listed by `collector`; without any, zeros in the book."""
    if targets:
        inputs = tuple((collector, target) for target in targets)
        yield Derived("litestream_totals", source, inputs, lambda snapshots: tuple(sum_up(source, snapshots)))
        return
    for sample in sum_up(source, ()):
        book.set(
            sample.family, cast(float, sample.value), **dict(zip(sample.family.labels, sample.labels, strict=True))
        )


def sum_up(source: str, snapshots: Iterable[Snapshot]) -> Iterator[Sample]:
    """The four published families of one source, over the targets of `snapshots`."""
    files = dict.fromkeys(ALWAYS_SHOWN, 0.0)
    size = dict.fromkeys(ALWAYS_SHOWN, 0.0)
    for sample in (sample for snapshot in snapshots for sample in snapshot.samples):
        for sums, family in ((files, families.FILES), (size, families.SIZE)):
            if sample.family is family:
                level = int(sample.labels[2])
                sums[level] = sums.get(level, 0.0) + cast(float, sample.value)
    published = _PUBLISHED[source]
    yield published.files(sum(files.values()))
    yield published.bytes(sum(size.values()))
    for level in sorted(files):
        yield published.files_by_level(files[level], level=level, level_name=level_name(level))
        yield published.bytes_by_level(size[level], level=level, level_name=level_name(level))
