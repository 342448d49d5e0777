"""What a run writes down of its cluster, and the entries of the manifest that speak of runs."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from tests.support.clock import FakeClock
from tests.support.kafka_backup import ORDERS, a_segment, held_orders, write_segments

from tallykeep.errors import IntegrityError
from tallykeep.storage.digest import check_digest
from tallykeep.storage.memory import MemoryStore
from tallykeep.systems.kafka.chain import Chain
from tallykeep.systems.kafka.held import Incarnation, add_up
from tallykeep.systems.kafka.manifest import (
    CompleteEntry,
    Entry,
    GapEntry,
    SnapshotEntry,
    StartEntry,
    segment_entry,
)
from tallykeep.systems.kafka.snapshot import (
    Snapshot,
    SnapshotGroup,
    SnapshotOffset,
    SnapshotPartition,
    SnapshotTopic,
)

PAGE = (Path(__file__).parents[2] / "docs/formats/krb1.md").read_text()
SNAPSHOT = Snapshot(
    "5" * 32, "cluster", "127.0.0.1:9092", 1.5, "full",
    [SnapshotTopic("orders", "a" * 32, 1, {"cleanup.policy": "compact"}, [SnapshotPartition(0, 1, 2, 9, 10)])],
    [SnapshotGroup("readers", "Empty", "consumer", [SnapshotOffset("orders", 0, 4, "a note", -1)])],
)  # fmt: skip
RUN = CompleteEntry("5" * 32, 9, 900, 500, 1.25)


def rows_of(heading: str) -> list[str]:
    """The first cells of the table under a heading of the page."""
    table = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| (?!field)([\w ]+) \|", table, re.MULTILINE)


def test_entries_are_documented() -> None:
    """Each field of the entries of runs is in the page's tables, in order, and nothing else."""
    for heading, kind in (("start", StartEntry), ("snapshot", SnapshotEntry), ("complete", CompleteEntry)):
        assert rows_of(f"Entry {heading}") == ["kind", *(field.name for field in fields(kind))]


def test_the_snapshot_is_documented() -> None:
    """Each field of the object is in the page's tables, in order, and nothing else."""
    body = json.loads(SNAPSHOT.encode())
    assert rows_of("Snapshot") == list(body)
    assert rows_of("Snapshot, topics") == list(body["topics"][0])
    assert rows_of("Snapshot, partitions") == list(body["topics"][0]["partitions"][0])
    assert rows_of("Snapshot, groups") == list(body["groups"][0])
    assert list(body["groups"][0]["offsets"][0]) == ["topic", "partition", "offset", "metadata", "leader_epoch"]


def test_a_snapshot_comes_back() -> None:
    """What is written is read back, and the manifest's entry says where it is and what is in it."""
    data = SNAPSHOT.encode()
    assert Snapshot.decode(data, "snapshot") == SNAPSHOT
    entry = SNAPSHOT.entry(data)
    check_digest("snapshot", data, entry.hash)
    assert re.fullmatch(r"snapshots/5{32}-[0-9a-f]{16}\.json", entry.key)
    assert (entry.size, entry.topics, entry.partitions, entry.groups) == (len(data), 1, 1, 1)
    assert SNAPSHOT.topic("orders") is SNAPSHOT.topics[0]
    assert SNAPSHOT.topic("other") is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format":"KRB2"}', b"[" * 100_000, SNAPSHOT.encode()[:-3]])
def test_something_else(data: bytes) -> None:
    """Bytes of anybody are refused, and named."""
    with pytest.raises(IntegrityError, match="the snapshot: not a snapshot"):
        Snapshot.decode(data, "the snapshot")


async def test_runs_move_no_checkpoint() -> None:
    """A run's begin and end are in the chain, and what it holds is what its segments say."""
    store = MemoryStore()
    chain = await write_segments(store, 0)
    await chain.append([SNAPSHOT.entry(SNAPSHOT.encode()), RUN])
    assert (await held_orders(store)).checkpoint == 9
    assert (await Chain.open(store, FakeClock())).records[-1].entries == chain.records[-1].entries


async def test_a_partition_begins() -> None:
    """A partition of which nothing is there yet is known, and what is lost before its first segment is missed."""
    store = MemoryStore()
    chain = await write_segments(store)
    empty = Incarnation("empty", "a" * 32, 3)
    await chain.append([StartEntry(*ORDERS, 5), StartEntry(*empty, 7)])
    held = add_up(chain.records)
    assert (held[empty].start, held[empty].checkpoint, held[empty].segments) == (7, 7, [])
    for entries in ([segment_entry(a_segment(8))], [GapEntry(*ORDERS, 6, 9, "log_start")], [StartEntry(*ORDERS, 6)]):
        broken: list[Entry] = [*chain.records[-1].entries, *entries]
        other = await write_segments(MemoryStore())
        await other.append(broken)
        with pytest.raises(IntegrityError, match=r"up to offset 5, and goes on with"):
            add_up(other.records)
