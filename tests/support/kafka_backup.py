"""Small backups in a store, and stores that fail their writers at a chosen call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tests.support.clock import FakeClock
from tests.support.stores import Wrapped

from tallykeep.errors import Unavailable
from tallykeep.storage.content import Content
from tallykeep.storage.store import ObjectInfo, Store
from tallykeep.systems.kafka.chain import Chain
from tallykeep.systems.kafka.committing import commit
from tallykeep.systems.kafka.held import Held, Incarnation, add_up
from tallykeep.systems.kafka.segment import NO_TOPIC_ID, Sealed, SegmentBuilder
from tallykeep.systems.kafka.wire import Aborted, Codec, Record, encode_batch, only

ORDERS = Incarnation("orders", NO_TOPIC_ID, 0)


def a_batch(first: int, count: int = 3, codec: Codec = Codec.NONE, size: int = 50) -> bytes:
    """A batch of `count` records from offset `first` on."""
    records = [Record(offset, 1000 + offset, b"key %d" % offset, b"v" * size) for offset in range(first, first + count)]
    return encode_batch(records, codec)


def a_segment(start: int = 0, batches: int = 3, *, codec: Codec = Codec.NONE, pack: Codec = Codec.NONE) -> Sealed:
    """A segment of batches of three records each."""
    builder = SegmentBuilder(*ORDERS, start, pack=pack)
    for first in range(start, start + 3 * batches, 3):
        builder.add(only(a_batch(first, codec=codec)), uncompressed=500)
    builder.aborted([Aborted(7, start)])
    return builder.seal()


async def write_segments(store: Store, *starts: int) -> Chain:
    """A writer's whole life: open, take over, and commit the segments that are not there yet, one record each."""
    chain = await Chain.open(store, FakeClock())
    await chain.take_over()
    for start in starts:
        held = add_up(chain.records).get(ORDERS)
        if held is None or held.checkpoint <= start:
            await commit(store, chain, [a_segment(start)])
    return chain


async def held_orders(store: Store) -> Held:
    """What a reader finds."""
    return add_up((await Chain.open(store, FakeClock())).records)[ORDERS]


class Died(BaseException):
    """The process is gone: nothing catches this."""


class Dying(Wrapped):
    """The writer dies at its `at`-th call of the store, before or after the store has done it."""

    def __init__(self, store: Store, at: int, *, after: bool) -> None:
        super().__init__(store)
        self.calls = 0
        self._at, self._after = at, after

    def _counts(self, after: bool) -> None:
        if not after:
            self.calls += 1
        if self.calls == self._at and after is self._after:
            raise Died

    async def create(self, key: str, data: Content) -> None:
        self._counts(after=False)
        await self.store.create(key, data)
        self._counts(after=True)

    async def delete(self, key: str) -> None:
        self._counts(after=False)
        await self.store.delete(key)
        self._counts(after=True)

    async def before_read(self, key: str) -> None:
        self._counts(after=False)

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        self._counts(after=False)
        async for page in self.store.list(prefix, start_after):
            yield page


class LosingReplies(Wrapped):
    """Each create is done and answered, or refused, as it should be; then the first `times` answers are lost."""

    def __init__(self, store: Store, times: int = 1_000_000, only: str = "") -> None:
        super().__init__(store)
        self._left = times
        self._only = only

    async def create(self, key: str, data: Content) -> None:
        try:
            await self.store.create(key, data)
        finally:
            if self._left and key.startswith(self._only):
                self._left -= 1
                raise Unavailable(f"{key}: the answer was lost")


class Forgetful(Wrapped):
    """A store without conditional writes: a create replaces."""

    async def create(self, key: str, data: Content) -> None:
        await self.store.replace(key, data)
