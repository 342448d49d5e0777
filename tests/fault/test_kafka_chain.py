"""The manifest under faults: two writers, lost replies, death at every call, and bytes that change."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from pathlib import Path

import pytest
from tests.support.clock import FakeClock
from tests.support.kafka_backup import (
    ORDERS,
    Died,
    Dying,
    Forgetful,
    LosingReplies,
    a_segment,
    held_orders,
    write_segments,
)

from tallykeep.errors import ConfigError, IntegrityError, Unavailable
from tallykeep.storage.content import Content
from tallykeep.storage.local import LocalStore
from tallykeep.storage.memory import MemoryStore
from tallykeep.storage.retry import RetryStore
from tallykeep.storage.store import Store
from tallykeep.systems.kafka.chain import Chain, Fenced
from tallykeep.systems.kafka.committing import commit
from tallykeep.systems.kafka.held import add_up
from tallykeep.systems.kafka.manifest import GapEntry, Record, key_of

STARTS = (0, 9, 18)
CLOCK = FakeClock()


async def sound(store: Store, *starts: int) -> None:
    """The backup holds exactly these segments, and their objects are there."""
    held = await held_orders(store)
    assert [entry.start for entry in held.segments] == list(starts)
    assert held.checkpoint == starts[-1] + 9
    for entry in held.segments:
        assert len(await store.read(entry.key)) == entry.stored
        assert len(await store.read(entry.index_key)) == entry.index_size


@pytest.mark.parametrize("backend", ["memory", "filesystem"])
async def test_one_writer_after_another(backend: str, tmp_path: Path) -> None:
    """Each writer begins with a fence of the next epoch and goes on where the chain ends."""
    store = MemoryStore() if backend == "memory" else LocalStore(tmp_path)
    await write_segments(store, 0)
    chain = await write_segments(store, *STARTS)
    await sound(store, *STARTS)
    assert [(record.fence, record.epoch) for record in chain.records] == [
        (True, 1), (False, 1), (True, 2), (False, 2), (False, 2),
    ]  # fmt: skip


@pytest.mark.parametrize("after", [False, True])
async def test_death_at_any_call(after: bool) -> None:
    """A writer that dies before or after any call of the store costs nothing: the next one completes the backup."""
    calls = Dying(MemoryStore(), 0, after=after)
    await write_segments(calls, *STARTS)
    for at in range(1, calls.calls + 1):
        store = MemoryStore()
        try:
            await write_segments(Dying(store, at, after=after), *STARTS)
        except Died:
            pass
        else:
            assert after, "only a call that nothing happens after lets it live"
        await write_segments(store, *STARTS)
        await sound(store, *STARTS)
    assert calls.calls > 25


async def test_lost_replies_to_a_patient_store() -> None:
    """Every reply to a create is lost once, and the retry meets its own object: all of it has succeeded, once."""
    store = MemoryStore()
    for _ in range(20):
        patient = RetryStore(LosingReplies(store, times=1), clock=InHaste())
        await write_segments(patient, *STARTS)
    await sound(store, *STARTS)


@pytest.mark.parametrize("arrived", [True, False])
async def test_an_answer_that_never_came(arrived: bool) -> None:
    """After a commit that nobody knows the end of, the same commit again adds the segment once."""
    store = MemoryStore()
    chain = await write_segments(store, 0)
    if arrived:
        chain._store = LosingReplies(store, only="manifest/")
    else:
        chain._store = Unreached(store)
    with pytest.raises(Unavailable):
        await commit(store, chain, [a_segment(9)])
    chain._store = store
    await commit(store, chain, [a_segment(9)])
    await commit(store, chain, [a_segment(18)])
    await sound(store, *STARTS)
    assert len(chain.records) == 4


async def test_a_fence_without_an_answer() -> None:
    """A writer whose fence was written, and the answer lost, is the writer: it does not fence itself off."""
    store = MemoryStore()
    chain = await Chain.open(LosingReplies(store, only="manifest/"), CLOCK)
    with pytest.raises(Unavailable):
        await chain.take_over()
    chain._store = store
    await chain.take_over()
    assert len((await Chain.open(store, CLOCK)).records) == 1


async def test_the_older_writer_is_stopped() -> None:
    """Once another has taken over, the older writer's next commit fails, names the other, and adds nothing."""
    store = MemoryStore()
    older = await write_segments(store, 0)
    newer = await write_segments(store, 9)
    with pytest.raises(Fenced, match=f"another writer \\({newer.writer}, epoch 2\\)"):
        await commit(store, older, [a_segment(9)])
    await commit(store, newer, [a_segment(18)])
    await sound(store, *STARTS)


async def test_a_commit_that_comes_before_the_fence_counts() -> None:
    """A newcomer that opened before the older writer's last commit reads it, and fences behind it."""
    store = MemoryStore()
    older = await write_segments(store, 0)
    newer = await Chain.open(store, CLOCK)
    await commit(store, older, [a_segment(9)])
    await newer.take_over()
    assert add_up(newer.records)[ORDERS].checkpoint == 18
    assert [record.fence for record in newer.records] == [True, False, False, True]


async def test_two_writers_at_once() -> None:
    """Of writers that start at the same moment one goes on, and the others are told; the backup is sound."""
    for count in (2, 3, 5):
        store = MemoryStore()
        lives = await asyncio.gather(
            *(write_segments(Slow(store, turns), *STARTS) for turns in range(count)), return_exceptions=True
        )
        assert any(isinstance(life, Chain) for life in lives)
        assert all(isinstance(life, Chain | Fenced) for life in lives), lives
        await write_segments(store, *STARTS)
        await sound(store, *STARTS)


async def test_a_store_that_forgets_is_refused() -> None:
    """Where a second create of a key is taken, nothing is backed up; the probe is removed everywhere."""
    for store in (Forgetful(MemoryStore()), MemoryStore()):
        chain = await Chain.open(store, CLOCK)
        if isinstance(store, Forgetful):
            with pytest.raises(ConfigError, match="conditional writes"):
                await chain.take_over()
        else:
            await chain.take_over()
        assert [info.key async for page in store.list("probe/") for info in page] == []


async def test_any_byte_flipped() -> None:
    """One bit anywhere in any record, the last one too, is found when the backup is opened, and the record named."""
    store = MemoryStore()
    chain = await write_segments(store, 0, 9)
    for record in chain.records:
        data = await store.read(record.key)
        for at in range(0, len(data), 3):
            await store.replace(record.key, data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
            with pytest.raises(IntegrityError, match=record.key):
                await Chain.open(store, CLOCK)
        await store.replace(record.key, data)
    await Chain.open(store, CLOCK)


async def test_a_record_that_is_missing() -> None:
    """A record that is gone from the middle is missed: what lies behind it is not forgotten."""
    for lost in (1, 2, 3):  # of 4
        store = MemoryStore()
        await write_segments(store, *STARTS)
        await store.delete(key_of(lost))
        with pytest.raises(IntegrityError, match=f"{key_of(lost)} is missing, and {key_of(lost + 1)}"):
            await Chain.open(store, CLOCK)


async def test_a_record_from_elsewhere() -> None:
    """A record of another backup, sound in itself, is found by the hash it follows; so is one of a past epoch."""
    store, other = MemoryStore(), MemoryStore()
    await write_segments(store, *STARTS)
    chain = await write_segments(other, *STARTS)
    await store.replace(key_of(3), await other.read(key_of(3)))
    with pytest.raises(IntegrityError, match="it follows a record with the hash"):
        await Chain.open(store, CLOCK)
    for change, problem in (
        ({"epoch": 2}, "epoch 2 after 1, without a fence"),
        ({"epoch": 0}, "epoch 0 after 1"),
        ({"fence": True}, "epoch 1 after 1, with a fence"),
        ({"writer": "x"}, "writer x goes on"),
        ({"sequence": 5}, "stands in the place of 4"),
    ):
        last = chain.records[-1]
        values = {name: getattr(last, name) for name in (field.name for field in fields(Record))} | change
        await other.replace(last.key, Record(**values).encode())
        with pytest.raises(IntegrityError, match=problem):
            await Chain.open(other, CLOCK)


async def test_long_chains() -> None:
    """A chain that is longer than what is read at once is read to its end."""
    store = MemoryStore()
    chain = await write_segments(store)
    for _ in range(40):
        await chain.append([])
    assert (await Chain.open(store, CLOCK)).records == chain.records


async def test_nothing_is_skipped() -> None:
    """A chain that leaves offsets out, or holds them twice, contradicts itself; a gap with its reason does not."""
    store = MemoryStore()
    chain = await write_segments(store, 0)
    await commit(store, chain, [a_segment(20)], [GapEntry(*ORDERS, 9, 20, "log_start")])
    held = await held_orders(store)
    assert (held.checkpoint, [(gap.start, gap.end) for gap in held.gaps]) == (29, [(9, 20)])
    for start in (28, 30):
        broken = MemoryStore()
        chain = await write_segments(broken, 0)
        await commit(broken, chain, [a_segment(start)])
        with pytest.raises(IntegrityError, match=f"up to offset 9, and goes on with {start}"):
            await held_orders(broken)


class InHaste(FakeClock):
    """A clock that does not wait."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Unreached(LosingReplies):
    """A store that no create reaches."""

    async def create(self, key: str, data: Content) -> None:
        raise Unavailable(f"{key}: nothing answered")


class Slow(LosingReplies):
    """A store that lets others go first, `turns` times at each create."""

    def __init__(self, store: Store, turns: int) -> None:
        super().__init__(store, 0)
        self._turns = turns

    async def create(self, key: str, data: Content) -> None:
        for _ in range(self._turns):
            await asyncio.sleep(0)
        await super().create(key, data)
