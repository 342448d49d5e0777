"""`Worker`: does what an item asks for, whoever found it: the queue, or a comparison of the tiers.

What is done is counted here and nowhere else, so each WAL file counts once, also where a reply was lost and the upload
was begun again. Memory: `parallel` segments of WAL, or packs, at a time for each of the two that ask.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from tallykeep.clock import Clock
from tallykeep.errors import NotFound, Unavailable
from tallykeep.metrics import Book
from tallykeep.runtime.tracing import tracer
from tallykeep.systems.postgres import families
from tallykeep.systems.postgres.lsn import Segment, history_timeline
from tallykeep.systems.postgres.offload.copying import copy_backup
from tallykeep.systems.postgres.offload.items import BACKUP, WAL, Item
from tallykeep.systems.postgres.offload.partial import drop_parts
from tallykeep.systems.postgres.offload.standing import Standing
from tallykeep.systems.postgres.offload.uploading import put_histories, put_history, put_segment
from tallykeep.systems.postgres.wal_source import segment_key

_log = logging.getLogger(__name__)
_tracer = tracer("klio.consumer")


class NotOurs(Unavailable):
    """Tier 2 of a cluster is not this server's to write, or not yet: nothing was tried."""

    code = "not_ours"


class Worker:
    """Copies one item at a time, for any number of callers on the loop."""

    def __init__(self, standings: Iterable[Standing], book: Book, clock: Clock, parallel: int) -> None:
        self.standings: Mapping[str, Standing] = {standing.cluster.name: standing for standing in standings}
        self._book = book
        self._clock = clock
        self._parallel = parallel
        for name in self.standings:
            book.add(families.CONSUMER_WRITTEN_SIZE, 0, cluster_name=name)
            book.add(families.CONSUMER_WRITTEN, 0, cluster_name=name)
        self._took: Mapping[tuple[str, str], Callable[[float], None]] = {
            (name, kind): book.observer(families.OFFLOAD_SECONDS, cluster_name=name, kind=kind)
            for name in self.standings for kind in (WAL, BACKUP)
        }  # fmt: skip

    async def do(self, item: Item, parent: str = "") -> None:
        """Copy what an item names; done when tier 2 holds it. `parent`: the span that it goes on from.

        Raises: NotOurs; IntegrityError where another try makes no sense; StoreErrors.
        """
        standing = self.standings.get(item.cluster)
        if standing is None:
            _log.info("%s: is no cluster of this server; its message is dropped", item)
            return
        if not standing.ready:
            raise NotOurs(f"{item}: tier 2 is not this server's to write, or it is not known yet.")
        async with standing.alone(item):
            try:
                await self._histories(standing)
                await (self._wal if item.kind == WAL else self._backup)(standing, item, parent)
            except NotFound as error:
                if await self._still_there(standing, item):
                    raise
                _log.info("%s: is not in tier 1 any more, and is not copied: %s", item, error)
                standing.let_go(item)
            standing.succeeded(item)

    def latest(self, cluster: str, time: float) -> None:
        """Tier 2 held a WAL file of that time already."""
        self._book.set(families.CONSUMER_LATEST_WRITTEN_TIME, time, cluster_name=cluster)

    def arrived(self, standing: Standing) -> None:
        """Count what was put with an answer that never came, now that a comparison has found it there."""
        for size in standing.found():
            self._count(standing.cluster.name, size)

    def _count(self, cluster: str, size: int) -> None:
        self._book.add(families.CONSUMER_WRITTEN_SIZE, size, cluster_name=cluster)
        self._book.add(families.CONSUMER_WRITTEN, cluster_name=cluster)
        self.latest(cluster, self._clock.time())

    async def _histories(self, standing: Standing) -> None:
        if standing.remote is not None:
            await put_histories(standing.cluster, standing.tier, standing.remote.timelines)

    async def _wal(self, standing: Standing, item: Item, parent: str) -> None:
        timeline = history_timeline(item.name)
        if timeline is not None:
            await put_history(standing.cluster, standing.tier, timeline)
            return
        identity = await standing.cluster.tier1.wal.identity()
        assert identity is not None, "it was compared"
        segment = Segment.parse(item.name, identity.segment_size)
        if standing.has(segment):
            return
        with _tracer.span("upload_wal", {"cluster_name": item.cluster, "wal_name": item.name}, parent=parent) as span:
            standing.tried.add(segment)
            since = self._clock.monotonic()
            size, ours = await put_segment(standing.cluster, standing.tier, segment)
            span.set("size", size)
            self._took[item.cluster, WAL](self._clock.monotonic() - since)
        standing.tried.discard(segment)
        if ours:
            self._count(item.cluster, size)
        else:
            size = (await standing.tier.root.head(segment_key(segment))).size
        standing.stored(segment, size, same_bytes=ours)
        await drop_parts(standing, segment)

    async def _backup(self, standing: Standing, item: Item, parent: str) -> None:
        attributes = {"cluster_name": item.cluster, "backup.id": item.name}
        with _tracer.span("upload_backup", attributes, parent=parent) as span:
            since = self._clock.monotonic()
            copied = await copy_backup(standing.cluster, standing.tier, item.name, self._clock, self._parallel)
            span.set("size", copied.size)
            self._took[item.cluster, BACKUP](self._clock.monotonic() - since)
        standing.copied += 1

    async def _still_there(self, standing: Standing, item: Item) -> bool:
        """Whether tier 1 holds it, so that it was something of tier 2 that was not found."""
        if item.kind == BACKUP:
            return item.name in (await standing.cluster.tier1.repository(self._clock)).backups
        folder = standing.cluster.folder / "wal"
        return any(path.exists() for path in (folder / item.name, folder / item.name[:16] / item.name))
