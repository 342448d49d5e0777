"""The collectors that list: one for the local LTX folder of a target, one for its replica.

They run beside each other, so a frozen replica never holds back the figures of the local side. What they see is
kept in the target's Sight, for the collectors that judge from it. A listing that fails half-way shows nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

from tallykeep.errors import Refused, StoreError
from tallykeep.metrics import Sample
from tallykeep.storage.store import Store
from tallykeep.systems.litestream.findings import Findings
from tallykeep.systems.litestream.headers import Headers
from tallykeep.systems.litestream.inventory import Inventory, LtxFile
from tallykeep.systems.litestream.known import Listed
from tallykeep.systems.litestream.levels import RAW, SNAPSHOT
from tallykeep.systems.litestream.ltx.header import Header
from tallykeep.systems.litestream.plan import Plan, find_reach
from tallykeep.systems.litestream.report import Report
from tallykeep.systems.litestream.sources import LOCAL, REMOTE, Source
from tallykeep.systems.litestream.targets import Target
from tallykeep.systems.litestream.totals import count
from tallykeep.threads import in_thread

LOCAL_COLLECTOR = "litestream_local"
REMOTE_COLLECTOR = "litestream_remote"


@dataclass(slots=True)
class Sight:
    """What is known of one target, shared by its collectors."""

    target: Target
    local: Source[Inventory] | None = None
    remote: Source[Inventory] | None = None
    report: Source[Report] | None = None
    findings: Findings = field(default_factory=Findings)


class Listing:
    """Lists one source of one target."""

    name: str
    kind: str

    def __init__(self, sight: Sight, source: Source[Inventory], store: Store | None, every: float) -> None:
        """`store` is None for a replica that cannot be read: each listing fails, and says why."""
        self.target = sight.target.name
        self.interval = every
        self.timeout = source.timeout
        self._sight = sight
        self._source = source
        self._store = store

    def verdicts(self) -> Sequence[Sample]:
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        with self._source.reading():
            inventory = Inventory()
            async for page in self.store.list():
                inventory.add(page)
            samples = await self._look(inventory)
            self._source.saw(inventory)
        for sample in samples:
            yield sample

    @property
    def store(self) -> Store:
        """The source. Raises: Refused where it is of a kind that cannot be read."""
        if self._store is None:
            raise Refused(self._sight.target.problem)
        return self._store

    async def _look(self, inventory: Inventory) -> tuple[Sample, ...]:
        return await in_thread(lambda: tuple(count(self.target, self.kind, inventory)))


class LocalListing(Listing):
    """Lists the local LTX folder."""

    name = LOCAL_COLLECTOR
    kind = LOCAL


class RemoteListing(Listing):
    """Lists the replica, and reads the headers of the files that say what a listing does not."""

    name = REMOTE_COLLECTOR
    kind = REMOTE

    def __init__(self, sight: Sight, source: Source[Inventory], store: Store | None, every: float) -> None:
        super().__init__(sight, source, store, every)
        self.headers = Headers(sight.findings)

    async def header(self, file: LtxFile) -> Header | None:
        """The header of one listed file; None where it cannot be had."""
        if self.headers.of(file) is None:
            try:
                await self.headers.read(self.store, [file], keep=True)
            except StoreError:
                return None
        return self.headers.of(file)

    async def _look(self, inventory: Inventory) -> tuple[Sample, ...]:
        samples = await super()._look(inventory)
        listed = await in_thread(Listed.of, inventory)
        self._sight.findings.look(listed)
        await self.headers.read(self.store, await in_thread(lambda: list(telling(inventory, listed.plan))))
        return samples


def telling(inventory: Inventory, plan: Plan) -> Iterator[LtxFile]:
    """The newest snapshot, the last file of the plan, the oldest base, and the file that ends at a place in the WAL."""
    yield from inventory.level(SNAPSHOT)[-1:]
    yield from plan.files[-1:]
    if (oldest := find_reach(inventory, plan).oldest) is not None:
        yield oldest
    if (raw := raw_file(inventory, plan.restorable_txid)) is not None:
        yield raw


def raw_file(inventory: Inventory, txid: int | None) -> LtxFile | None:
    """The file of level 0 that ends with `txid`: its header says where in the WAL that is."""
    return next((file for file in reversed(inventory.level(RAW)) if file.name.max == txid), None)
