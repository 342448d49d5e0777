"""What goes wrong with the tool that leads today when it restores, shown not to go wrong here, on a real Kafka."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.support.kafka import KafkaServer
from tests.support.kafka_corpus import Seen, a_record, differences, produce, records, seen
from tests.support.kafka_live import Silent, backed_up, client, delete_topic, end_of, own_settings, restored
from tests.support.stores import Wrapped

from tallykeep.clock import SystemClock
from tallykeep.errors import TallykeepError, Unreachable
from tallykeep.storage.local import LocalStore
from tallykeep.storage.memory import MemoryStore
from tallykeep.systems.kafka.brokers import Address, Brokers
from tallykeep.systems.kafka.connection import Security
from tallykeep.systems.kafka.offset_map import OffsetMap
from tallykeep.systems.kafka.preflight import plan_restore
from tallykeep.systems.kafka.restore import restore
from tallykeep.systems.kafka.restore_plan import RestoreRequest
from tallykeep.systems.kafka.restoring.choosing import Window
from tallykeep.systems.kafka.wire import Batch, walk
from tallykeep.systems.kafka.wire.fetch import API_KEY, VERSION, fetch_request, fetch_response
from tallykeep.systems.kafka.wire.produce import API_KEY as PRODUCE

pytestmark = pytest.mark.server


async def stored_batches(kafka: KafkaServer, topic: str) -> list[Batch]:
    """The batches of partition 0 as the broker has them."""
    found: list[Batch] = []
    async with client(kafka) as (cluster, brokers):
        end, offset = await end_of(kafka, topic), 0
        [address] = cluster.brokers.values()
        while offset < end:
            body = fetch_request({topic: [(0, offset)]}, max_bytes=8 << 20, partition_max_bytes=8 << 20)
            [answer] = fetch_response(await brokers.request(address, 0, API_KEY, VERSION, body)).partitions
            found += [batch for batch in walk(answer.records) if batch.header.base_offset >= offset]
            offset = found[-1].header.last_offset + 1
    return found


async def test_3_transactions(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Records of aborted transactions do not come back as if they had been committed, nor do markers as records."""
    kafka.create_topic(topic)
    producer = kafka.producer(transactional_id=topic)
    producer.init_transactions(60)
    for number in range(4):
        producer.begin_transaction()
        for n in range(3):
            producer.produce(topic, b"%d %d" % (number, n))
        producer.flush(30)
        (producer.abort_transaction if number % 2 else producer.commit_transaction)(60)
    kafka.settle(topic)
    before = seen(kafka, [topic])
    backup = await backed_up(kafka, MemoryStore(), topic)
    delete_topic(kafka, topic)
    await restored(kafka, backup, tmp_path)
    after = seen(kafka, [topic])
    assert not list(differences(before, after))
    assert [record.value for _, record in after[topic, 0]] == [b"%d %d" % (a, b) for a in (0, 2) for b in range(3)]
    assert await end_of(kafka, topic) == 6


async def test_4_headers(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Headers that stand twice, are null, are empty, or are not UTF-8 come back as they were, in their order."""
    kafka.create_topic(topic)
    headers = (("a", b"1"), ("a", b"2"), ("b", None), ("b", b""), ("", b"\xff\xfe"), ("a", b"1"))
    produce(kafka, topic, [(0, Seen(1_700_000_000_000, b"k", b"v", headers))] * 3, compression_type="snappy")
    backup = await backed_up(kafka, MemoryStore(), topic)
    new = f"{topic}-new"
    await restored(kafka, backup, tmp_path, topic_mapping={topic: new})
    await restored(kafka, backup, tmp_path, topic_mapping={topic: f"{new}-cut"}, window=Window(0, 1_700_000_000_000))
    for name in (new, f"{new}-cut"):
        assert [record.headers for _, record in seen(kafka, [name])[name, 0]] == [headers] * 3


async def test_5_nothing_is_added(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Restored records have no header that they did not have: their bytes are those of the source."""
    kafka.create_topic(topic)
    produce(kafka, topic, [(0, a_record(number)) for number in range(50)], compression_type="zstd")
    before = await stored_batches(kafka, topic)
    backup = await backed_up(kafka, MemoryStore(), topic)
    delete_topic(kafka, topic)
    await restored(kafka, backup, tmp_path)
    after = await stored_batches(kafka, topic)
    assert [bytes(batch.payload) for batch in after] == [bytes(batch.payload) for batch in before]


async def test_6_a_window_over_unordered_timestamps(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """No segment is passed over because its first and last record lie outside the window."""
    kafka.create_topic(topic)
    rng = random.Random(3)
    for start in range(0, 400, 100):  # a segment each
        middle = [rng.randrange(1000, 2000) for _ in range(98)]
        moments = [9000, *middle, 9001] if start % 200 else [1, *middle, 2]
        many = [(0, a_record(start + n)._replace(timestamp=moment)) for n, moment in enumerate(moments)]
        produce(kafka, topic, many, batch_num_messages=7)
    backup = await backed_up(kafka, MemoryStore(), topic, segment_records=100)
    new = f"{topic}-new"
    window = Window(1200, 1700)
    await restored(kafka, backup, tmp_path, topic_mapping={topic: new}, window=window)
    wanted = [record for record in records(seen(kafka, [topic]))[topic, 0] if record.timestamp in window]
    assert len(wanted) > 150
    assert records(seen(kafka, [new]))[new, 0] == wanted


async def test_10_failures_are_told(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """A restore of which one topic fails is a failure, and says which; figures say so too; it can be gone on with."""
    for name in (topic, f"{topic}-2"):
        kafka.create_topic(name)
        produce(kafka, name, [(0, a_record(number)) for number in range(20)])
    before = seen(kafka, [topic, f"{topic}-2"])
    store = MemoryStore()
    backup = await backed_up(kafka, store, topic, f"{topic}-2")
    delete_topic(kafka, topic, f"{topic}-2")
    [entry] = next(held.segments for place, held in backup.held.items() if place.topic == topic)
    good = await store.read(entry.key)
    await store.replace(entry.key, good[:70] + bytes([good[70] ^ 1]) + good[71:])
    figures = Silent()
    with pytest.raises(TallykeepError, match=rf"topics/{topic}/"):
        await restored(kafka, backup, tmp_path, figures=figures)
    assert figures.of("finished") == [["failure"]]
    await store.replace(entry.key, good)
    await restored(kafka, backup, tmp_path)
    assert seen(kafka, [topic, f"{topic}-2"]) == before


class Losing(Brokers):
    """Every third answer to a Produce request is lost after the broker has done what was asked."""

    lost = 0

    async def request(
        self, address: Address, lane: int, api_key: int, version: int, body: bytes | Sequence[bytes | memoryview],
        *, timeout: float = 60.0, check: Callable[[], None] | None = None,
    ) -> memoryview:  # fmt: skip
        answer = await super().request(address, lane, api_key, version, body, timeout=timeout, check=check)
        if api_key == PRODUCE:
            self.lost += 1
            if self.lost % 3 == 0:
                raise Unreachable("the answer was lost")
        return answer


async def test_11_retries_make_no_duplicates(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Answers get lost and requests are sent again: each record is there once, in batches of the same shape, compressed
    as they were, and many partitions share a request."""
    kafka.create_topic(topic, 3)
    many = [(number % 3, a_record(number)) for number in range(900)]
    produce(kafka, topic, many, batch_num_messages=10, compression_type="gzip")
    before, shape = seen(kafka, [topic]), [b.header.record_count for b in await stored_batches(kafka, topic)]
    backup = await backed_up(kafka, MemoryStore(), topic)
    delete_topic(kafka, topic)
    figures, losing = Silent(), Losing(Security())
    async with client(kafka) as (cluster, _):
        plan = await plan_restore(RestoreRequest(tmp_path), backup, cluster)
        result = await restore(plan, cluster, losing, SystemClock(), figures, asyncio.Event())
    await losing.close()
    assert seen(kafka, [topic]) == before
    assert result.sent == result.verified == 900
    assert figures.of("retried")
    after = await stored_batches(kafka, topic)
    assert [batch.header.record_count for batch in after] == shape
    assert {batch.header.codec.name for batch in after} == {"GZIP"}


async def test_12_the_offset_map_stays_small(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """A map of 100,000 records without holes is one run a partition."""
    kafka.create_topic(topic, 2)
    produce(kafka, topic, ((n % 2, Seen(1_700_000_000_000, None, b"%d" % n, ())) for n in range(100_000)))
    backup = await backed_up(kafka, MemoryStore(), topic)
    delete_topic(kafka, topic)
    result = await restored(kafka, backup, tmp_path)
    assert result.offset_map
    data = result.offset_map.read_bytes()
    found = OffsetMap.decode(data, "map")
    assert [len(mapped) for mapped in found.places.values()] == [1, 1]
    assert len(data) < 1000


class Ranges(Wrapped):
    """Notes how much is read at once."""

    most = 0

    async def before_read(self, key: str) -> None:
        assert not key.endswith(".batches")

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        self.most = max(self.most, length)
        return await self.store.read_range(key, start, length)


async def test_13_a_segment_is_never_whole_in_memory(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """A segment of 60 MB is restored with a third of that in memory, in pieces of about 4 MiB."""
    kafka.create_topic(topic)
    value = random.Random(1).randbytes(50_000)
    produce(kafka, topic, ((0, Seen(1_700_000_000_000, None, value, ())) for _ in range(1200)))
    (tmp_path / "backup").mkdir()
    store = Ranges(LocalStore(tmp_path / "backup"))
    backup = await backed_up(kafka, store, topic)
    assert [entry.stored > 60_000_000 for held in backup.held.values() for entry in held.segments] == [True]
    delete_topic(kafka, topic)
    tracemalloc.start()
    await restored(kafka, backup, tmp_path / "state", verify=False)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert store.most < 6 << 20
    assert most < 32_000_000
    assert await end_of(kafka, topic) == 1200


async def test_14_settings_come_back(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Settings, partitions and a compacted topic's tombstones come back with it, also in a topic without records."""
    config = {"cleanup_policy": "compact", "segment_bytes": "1048576", "delete_retention_ms": "77777", "flush_ms": "9"}
    kafka.create_topic(topic, 4, **config)
    kafka.create_topic(f"{topic}-empty", 7, retention_ms="123456789")
    produce(kafka, topic, [(n, Seen(1_700_000_000_000, b"k", None, ())) for n in range(4)])
    before = seen(kafka, [topic, f"{topic}-empty"])
    settings = [await own_settings(kafka, name) for name in (topic, f"{topic}-empty")]
    backup = await backed_up(kafka, MemoryStore(), topic, f"{topic}-empty")
    delete_topic(kafka, topic, f"{topic}-empty")
    await restored(kafka, backup, tmp_path)
    assert [await own_settings(kafka, name) for name in (topic, f"{topic}-empty")] == settings
    assert seen(kafka, [topic, f"{topic}-empty"]) == before
