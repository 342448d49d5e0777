"""Consumer groups after a restore: real consumers of a real broker go on with the next record, and with no other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from tests.support.kafka import KafkaServer
from tests.support.kafka_corpus import Seen, a_record, fill, produce
from tests.support.kafka_holding import what_is_held
from tests.support.kafka_live import Silent, backed_up, client, delete_topic, restored

from tallykeep.clock import SystemClock
from tallykeep.storage.memory import MemoryStore
from tallykeep.systems.kafka.group_offsets import (
    GroupOutcome,
    OffsetResetFailed,
    WrongCluster,
    apply_plan,
    check_outcomes,
    plan_groups,
)
from tallykeep.systems.kafka.offset_map import OffsetMap
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.reading import BackupSet

pytestmark = pytest.mark.server

PATIENCE = 60.0  # seconds; a broker that has just started makes its first group first

Got = dict[tuple[str, int], list[Seen]]


def consumer(kafka: KafkaServer, group: str, reset: str) -> Consumer:
    return Consumer({
        "bootstrap.servers": kafka.bootstrap, "group.id": group, "isolation.level": "read_committed",
        "enable.auto.commit": False, "enable.auto.offset.store": False, "auto.offset.reset": reset, "log_level": 0,
        "enable.partition.eof": True, "fetch.message.max.bytes": 4 << 20,
    })  # fmt: skip


def read_some(kafka: KafkaServer, group: str, counts: Mapping[tuple[str, int], int]) -> None:
    """A member of the group reads so many records of each partition, commits that, and ends."""
    left = dict(counts)
    with closing(consumer(kafka, group, "earliest")) as member:
        member.assign([TopicPartition(*place) for place, count in left.items() if count])
        end, errors = time.monotonic() + PATIENCE, list[str]()
        while any(left.values()):
            assert time.monotonic() < end, (left, errors[-3:])
            for message in member.consume(1, 0.5):
                place = str(message.topic()), int(message.partition() or 0)
                if message.error():
                    errors.append(str(message.error()))
                elif left[place]:
                    left[place] -= 1
                    member.store_offsets(message)
        member.commit(asynchronous=False)


def read_on(kafka: KafkaServer, group: str, places: list[tuple[str, int]]) -> Got:
    """Everything a member of the group gets from where the group is; it fails where the group is nowhere."""
    found: Got = {place: [] for place in places}
    ended: set[tuple[str, int]] = set()
    with closing(consumer(kafka, group, "error")) as member:
        member.assign([TopicPartition(*place) for place in places])
        end = time.monotonic() + PATIENCE
        while len(ended) < len(places):
            assert time.monotonic() < end, set(places) - ended
            for message in member.consume(200, 0.5):
                place = str(message.topic()), int(message.partition() or 0)
                if error := message.error():
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    ended.add(place)
                    continue
                headers = tuple(message.headers() or ())
                found[place].append(Seen(message.timestamp()[1], message.key(), message.value(), headers))  # type: ignore[arg-type]
    return found


async def apply(
    kafka: KafkaServer, backup: BackupSet, data: bytes, *groups: str, dry_run: bool = False,
    figures: Silent | None = None,
) -> list[GroupOutcome]:  # fmt: skip
    """Set the groups by an offset map."""
    plan = plan_groups(await backup.snapshot(), OffsetMap.decode(data, "map"), groups)
    async with client(kafka) as (cluster, _):
        return await apply_plan(cluster, plan, SystemClock(), figures or Silent(), dry_run=dry_run)


async def test_next_unread_record(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Groups that had read one record, a third, all but one, or all, of topics with every kind of hole (compaction,
    transaction markers, aborted records, a deleted beginning), go on with exactly the records they had not read."""
    names = await asyncio.to_thread(fill, kafka, topic, partitions=6)
    store = MemoryStore()
    await backed_up(kafka, store, f"{topic}-*")
    full = {place: len(many) for place, many in (await what_is_held(store)).items()}
    shares: dict[str, Callable[[int], int]] = {
        "one": lambda n: min(1, n),
        "third": lambda n: n // 3,
        "most": lambda n: max(0, n - 1),
        "all": lambda n: n,
    }
    for name, share in shares.items():
        read_some(kafka, f"{topic}-{name}", {place: share(count) for place, count in full.items()})
    backup = await backed_up(kafka, store, f"{topic}-*")
    groups = {group.name: group for group in (await backup.snapshot()).groups}

    mapping = {name: f"{name}-new" for name in names}
    result = await restored(kafka, backup, tmp_path, topic_mapping=mapping)
    assert result.offset_map
    outcomes = await apply(kafka, backup, result.offset_map.read_bytes(), *(f"{topic}-{name}" for name in shares))
    assert len(outcomes) == 4
    assert all(outcome.ok for outcome in outcomes), outcomes

    held = await what_is_held(store)
    moved = 0
    for name in shares:
        committed = {(one.topic, one.partition): one.offset for one in groups[f"{topic}-{name}"].offsets}
        wanted = {
            (mapping[where], number): [record for offset, record in held[where, number] if offset >= at]
            for (where, number), at in committed.items()
        }
        assert read_on(kafka, f"{topic}-{name}", list(wanted)) == wanted
        [outcome] = [one for one in outcomes if one.group == f"{topic}-{name}"]
        moved += sum(move.source_offset != move.target_offset for move in outcome.done)
    assert moved >= 5, "the target has the source's offsets: this proves nothing"


async def test_148_offsets_are_committed(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """After the topic is deleted, which takes the groups' offsets with it, and restored under its own name, a consumer
    that is started as it was before goes on where it was: the offsets are committed, and not only reported."""
    kafka.create_topic(topic, 2)
    produce(kafka, topic, [(number % 2, a_record(number)) for number in range(60)])
    read_some(kafka, topic, {(topic, 0): 10, (topic, 1): 30})
    backup = await backed_up(kafka, MemoryStore(), topic)
    delete_topic(kafka, topic)
    result = await restored(kafka, backup, tmp_path)
    assert result.offset_map
    figures = Silent()
    [outcome] = await apply(kafka, backup, result.offset_map.read_bytes(), topic, figures=figures)
    assert outcome.ok
    assert read_on(kafka, topic, [(topic, 0), (topic, 1)]) == {
        (topic, 0): [a_record(number) for number in range(20, 60, 2)],
        (topic, 1): [],
    }
    assert [(group, place, status) for group, place, _, status in figures.of("reset")] == [
        (topic, Place(topic, number), "success") for number in range(2)
    ]
    assert [status for *_, status in figures.of("finished")] == ["success"]


async def test_active_groups_are_left_alone(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """A group with members is refused by name and with the reason, others are set all the same, and nothing of it
    changes; once its consumers have stopped it is set."""
    kafka.create_topic(topic)
    produce(kafka, topic, [(0, a_record(number)) for number in range(20)])
    busy, idle = f"{topic}-busy", f"{topic}-idle"
    for group in (busy, idle):
        read_some(kafka, group, {(topic, 0): 5})
    backup = await backed_up(kafka, MemoryStore(), topic)
    new = f"{topic}-new"
    result = await restored(kafka, backup, tmp_path, topic_mapping={topic: new})
    assert result.offset_map
    data = result.offset_map.read_bytes()
    figures = Silent()
    with closing(consumer(kafka, busy, "earliest")) as member:
        member.subscribe([topic])
        while not member.assignment():
            member.poll(0.2)
        first, second = await apply(kafka, backup, data, busy, idle, figures=figures)
    assert second.ok
    assert not first.ok
    assert "it is active in the target (Stable, 1 members): stop its consumers" in first.problem
    with pytest.raises(OffsetResetFailed, match=f"group {busy}: it is active"):
        check_outcomes([first, second])
    assert [type(error) for [error] in figures.of("failed")] == [OffsetResetFailed]
    async with client(kafka) as (cluster, _):
        assert Place(new, 0) not in await cluster.group_offsets(busy)
        assert (await cluster.group_offsets(idle))[Place(new, 0)].offset == 5
        async with asyncio.timeout(60):
            while found := await cluster.group(busy):  # the broker hears of a consumer's end when that is over
                if not found.members:
                    break
                await asyncio.sleep(0.1)
    [later] = await apply(kafka, backup, data, busy)
    assert later.ok


async def test_dry_run_and_refusals(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """A dry run changes nothing; a map of another cluster is refused; a group that was not saved, and a partition that
    cannot hold the offset (any more), are named."""
    kafka.create_topic(topic)
    produce(kafka, topic, [(0, a_record(number)) for number in range(20)])
    read_some(kafka, topic, {(topic, 0): 15})
    backup = await backed_up(kafka, MemoryStore(), topic)
    new = f"{topic}-new"
    result = await restored(kafka, backup, tmp_path, topic_mapping={topic: new})
    assert result.offset_map
    data = result.offset_map.read_bytes()
    [dry, nobody] = await apply(kafka, backup, data, topic, "nobody", dry_run=True)
    assert dry.ok
    assert not dry.done
    assert "not among the groups that were saved" in nobody.problem
    async with client(kafka) as (cluster, _):
        assert Place(new, 0) not in await cluster.group_offsets(topic)
    other = OffsetMap.decode(data, "map")
    other.target_cluster = "elsewhere"
    with pytest.raises(WrongCluster, match="went to cluster elsewhere"):
        await apply(kafka, backup, other.encode(), topic)
    delete_topic(kafka, new)
    [outcome] = await apply(kafka, backup, data, topic)
    assert outcome.failed == {Place(new, 0): "the target has no such partition (any more)"}
    kafka.create_topic(new)
    [outcome] = await apply(kafka, backup, data, topic)
    assert "offset 15 is not in its log any more, which has 0 to 0" in outcome.failed[Place(new, 0)]
