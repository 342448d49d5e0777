"""Our reader on connections that aiokafka opened, against a real Kafka."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer
from tests.support.kafka import PASSWORD, USER, KafkaServer

from tallykeep.config.model import Secret
from tallykeep.errors import ConfigError, Malformed, Refused, Unreachable
from tallykeep.systems.kafka.connection import Connection, Security
from tallykeep.systems.kafka.wire import Aborted, Record, announces_size, decode_records, uncompressed_size, walk
from tallykeep.systems.kafka.wire.fetch import API_KEY, VERSION, FetchedPartition, fetch_request, fetch_response

pytestmark = pytest.mark.server
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
WAYS = [
    ("PLAINTEXT", ""), ("SSL", ""), ("SASL_PLAINTEXT", "PLAIN"), ("SASL_PLAINTEXT", "SCRAM-SHA-256"),
    ("SASL_SSL", "SCRAM-SHA-512"),
]  # fmt: skip


def security(kafka: KafkaServer, protocol: str, mechanism: str = "") -> Security:
    """A client's side of one of the broker's listeners."""
    return Security(protocol, mechanism or "PLAIN", USER, Secret(PASSWORD), kafka.ca_file)


Connect = Callable[[Security], Awaitable[Connection]]


@pytest.fixture
async def connect(kafka: KafkaServer) -> AsyncIterator[Connect]:
    """Opens connections that are closed after the test."""
    connections: list[Connection] = []

    async def opened(how: Security) -> Connection:
        host, _, port = kafka.address(how.protocol).partition(":")
        connections.append(await Connection.open(host, int(port), how, timeout=60))
        return connections[-1]

    yield opened
    for connection in connections:
        connection.close()
    await asyncio.sleep(0.05)  # the loop lets go of closed sockets in its next rounds


async def fetch(connection: Connection, topic: str, offset: int, max_bytes: int = 1 << 20) -> FetchedPartition:
    body = fetch_request({topic: [(0, offset)]}, max_bytes=max_bytes, partition_max_bytes=max_bytes)
    answer = fetch_response(await connection.request(API_KEY, VERSION, body, timeout=60))
    [partition] = answer.partitions
    assert (answer.error, partition.error) == (0, 0)
    return partition


async def everything(connection: Connection, topic: str, max_bytes: int = 1 << 20) -> list[Record]:
    """Every record of a topic of one partition, control batches left out; sizes and checksums proved on the way."""
    offset, found = 0, list[Record]()
    while True:
        partition = await fetch(connection, topic, offset, max_bytes)
        for batch in walk(partition.records):
            batch.check()
            assert uncompressed_size(batch.header.codec, batch.payload) > 0
            found += [] if batch.header.is_control else decode_records(batch)
            offset = batch.header.last_offset + 1
        if offset >= partition.high_watermark:
            return found


def produce(producer: Producer, topic: str, count: int, value: bytes) -> None:
    for number in range(count):
        headers: list[tuple[str, str | bytes | None]] = [("h", b"1"), ("h", None), ("\u00e9", b"\xff")]
        producer.produce(topic, value + b"%d" % number, key=None if number % 2 else b"k", headers=headers)
    assert producer.flush(60) == 0


@pytest.mark.parametrize(("protocol", "mechanism"), WAYS, ids=[" ".join(way) for way in WAYS])
async def test_every_way_in(kafka: KafkaServer, connect: Connect, topic: str, protocol: str, mechanism: str) -> None:
    """However a client has to come, the batches that it is sent are read, of all five codecs."""
    kafka.create_topic(topic)
    for codec in CODECS:
        produce(kafka.producer(compression_type=codec), topic, 20, b"v" * 200)
    connection = await connect(security(kafka, protocol, mechanism))
    found = await everything(connection, topic)
    assert [record.offset for record in found] == list(range(100))
    assert {record.value for record in found} == {b"v" * 200 + b"%d" % number for number in range(20)}
    assert {record.key for record in found} == {None, b"k"}
    assert found[0].headers == ((b"h", b"1"), (b"h", None), ("\u00e9".encode(), b"\xff"))


async def test_mutual_tls(kafka: KafkaServer, connect: Connect, topic: str) -> None:
    """A client certificate is shown to a broker that asks for one."""
    kafka.create_topic(topic)
    how = Security("SSL", ca_file=kafka.ca_file, certificate_file=kafka.client_certificate())
    connection = await connect(how)
    assert await everything(connection, topic) == []


async def test_large_and_cut_answers(kafka: KafkaServer, connect: Connect, topic: str) -> None:
    """Batches larger than what was asked for come whole, those cut at the end come again, and nothing is lost."""
    kafka.create_topic(topic, max_message_bytes=str(4 << 20))
    produce(kafka.producer(message_max_bytes=4 << 20, batch_size=100_000), topic, 30, b"v" * 30_000)
    produce(kafka.producer(message_max_bytes=4 << 20), topic, 2, b"v" * (2 << 20))
    connection = await connect(security(kafka, "PLAINTEXT"))
    first = await fetch(connection, topic, 0, 150_000)
    assert sum(batch.header.size for batch in walk(first.records)) < len(first.records)
    found = await everything(connection, topic, 150_000)
    assert [len(record.value or b"") for record in found[-2:]] == [(2 << 20) + 1] * 2
    assert [record.offset for record in found] == list(range(32))


async def test_aborted_transactions_are_named(kafka: KafkaServer, connect: Connect, topic: str) -> None:
    """The broker sends aborted records too, and says which they are; its own markers come as control batches."""
    kafka.create_topic(topic)
    producer = kafka.producer(transactional_id=topic)
    producer.init_transactions(60)
    for end in (producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        produce(producer, topic, 2, b"v")
        end(60)
    kafka.settle(topic)
    connection = await connect(security(kafka, "PLAINTEXT"))
    partition = await fetch(connection, topic, 0)
    batches = [batch.header for batch in walk(partition.records)]
    assert [(batch.is_transactional, batch.is_control) for batch in batches] == [(True, False), (True, True)] * 2
    assert partition.aborted == [Aborted(batches[2].producer_id, batches[2].base_offset)]
    assert partition.last_stable_offset == partition.high_watermark == 6


async def test_refusals(kafka: KafkaServer, connect: Connect, tmp_path: Path) -> None:
    """A wrong password, an unknown authority and a port where nothing listens are told apart."""
    wrong = Security("SASL_PLAINTEXT", "SCRAM-SHA-256", USER, Secret("wrong-secret"))
    with pytest.raises(Refused, match="refused the login") as caught:
        await connect(wrong)
    assert "wrong-secret" not in str(caught.value)
    with pytest.raises(Refused, match="refused the login"):
        await connect(Security("SASL_PLAINTEXT", "PLAIN", "bob", Secret("x")))
    with pytest.raises(Refused, match="no TLS that can be trusted"):
        await connect(Security("SSL"))
    with pytest.raises(ConfigError, match="cannot be set up with"):
        await connect(Security("SSL", ca_file=tmp_path / "none.pem"))
    with pytest.raises(Unreachable, match="no connection to Kafka"):
        await Connection.open("127.0.0.1", 1, Security(), timeout=5)


async def test_an_answer_that_does_not_come(kafka: KafkaServer, connect: Connect, topic: str) -> None:
    """A broker that stops answering is Unreachable after the time-out, and so is everything asked afterwards."""
    kafka.create_topic(topic)
    connection = await connect(security(kafka, "PLAINTEXT"))
    body = fetch_request({topic: [(0, 0)]}, max_bytes=100, partition_max_bytes=100, max_wait_ms=30_000)
    with pytest.raises(Unreachable, match="no answer within"):
        await connection.request(API_KEY, VERSION, body, timeout=0.2)
    with pytest.raises(Unreachable, match="closed"):
        await connection.request(API_KEY, VERSION, body, timeout=5)


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
async def test_closing_waits_for_nobody(kafka: KafkaServer, connect: Connect, protocol: str) -> None:
    """A connection is closed in the loop's next rounds, also where the broker says no word of farewell."""
    connection = await connect(security(kafka, protocol))
    socket = connection._transport.get_extra_info("socket")
    kafka.freeze()
    try:
        connection.close()
        for _ in range(3):
            await asyncio.sleep(0)
        assert socket.fileno() == -1
    finally:
        kafka.thaw()


async def test_many_requests_under_way(kafka: KafkaServer, connect: Connect, topic: str) -> None:
    """Requests sent one behind another are answered each with its own answer."""
    kafka.create_topic(topic)
    produce(kafka.producer(batch_size=1), topic, 5, b"v")
    connection = await connect(security(kafka, "PLAINTEXT"))
    found = [await fetch(connection, topic, offset, 1) for offset in range(5)]
    assert [next(walk(partition.records)).header.base_offset for partition in found] == list(range(5))


def test_hostile_answers() -> None:
    """An answer of anybody is Malformed, and lengths in it are believed only as far as there are bytes."""
    for data in (b"", b"\0" * 9, struct.pack(">ihii", 0, 0, 0, 1 << 30), struct.pack(">ihiih", 0, 0, 0, 1, -1)):
        with pytest.raises(Malformed, match="does not parse"):
            fetch_response(memoryview(data))


@pytest.mark.parametrize("codec", CODECS)
async def test_who_announces_sizes(kafka: KafkaServer, connect: Connect, topic: str, codec: str) -> None:
    """librdkafka says sizes with snappy alone: with gzip, lz4 and zstd they have to be counted."""
    kafka.create_topic(topic)
    produce(kafka.producer(compression_type=codec), topic, 50, b"v" * 500)
    connection = await connect(security(kafka, "PLAINTEXT"))
    partition = await fetch(connection, topic, 0)
    announced = {announces_size(batch.header.codec, batch.payload) for batch in walk(partition.records)}
    assert announced == {codec in ("none", "snappy")}


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
async def test_answers_of_every_size(kafka: KafkaServer, topic: str, connect: Connect, protocol: str) -> None:
    """The kernel wakes us for pieces, never later than with the last byte: answers of any size arrive at once."""
    kafka.create_topic(topic)
    producer = kafka.producer(linger_ms=0, batch_size=5000)
    for number in range(120):
        producer.produce(topic, random.Random(number).randbytes(4000 + number))
    producer.flush(60)
    connection = await connect(security(kafka, protocol))
    for size in (*range(20_000, 60_000, 7001), *range(190_000, 270_000, 15_001), 400_000, 1 << 20):
        async with asyncio.timeout(30):
            partition = await fetch(connection, topic, 0, size)
        assert min(size, 490_000) - 10_000 < len(partition.records) <= size
