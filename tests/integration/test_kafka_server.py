"""The broker that the Kafka tests stand on is a real one."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer
from tests.support.kafka import KafkaServer

pytestmark = pytest.mark.server


def values(kafka: KafkaServer, topic: str, isolation: str) -> list[bytes | None]:
    """The values in a topic of one partition, up to its end."""
    settings = {
        "bootstrap.servers": kafka.bootstrap, "group.id": f"read-{topic}-{isolation}",
        "auto.offset.reset": "earliest", "isolation.level": isolation, "enable.partition.eof": True,
    }  # fmt: skip
    consumer, found = Consumer(settings), []
    consumer.subscribe([topic])
    try:
        while (message := consumer.poll(60)) is not None and message.error() is None:
            found.append(message.value())
    finally:
        consumer.close()
    return found


def test_it_keeps_transactions_apart(kafka: KafkaServer, topic: str) -> None:
    """What an aborted transaction wrote is there for who reads uncommitted, and for nobody else."""
    kafka.create_topic(topic)
    producer = kafka.producer(transactional_id=topic)
    producer.init_transactions(60)
    for value, end in ((b"kept", producer.commit_transaction), (b"dropped", producer.abort_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(60)
        end(60)
    kafka.settle(topic)
    assert values(kafka, topic, "read_committed") == [b"kept"]
    assert values(kafka, topic, "read_uncommitted") == [b"kept", b"dropped"]
