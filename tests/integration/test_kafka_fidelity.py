"""What comes back is what there was: everything records can be, on a real Kafka, by the commands themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.kafka import KafkaServer
from tests.support.kafka_cli import KafkaCommands
from tests.support.kafka_corpus import differences, fill, seen

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


def test_nothing_differs(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Backed up, deleted, restored, read again: every record of every kind is the same, in the same order."""
    topics = fill(kafka, topic)
    before = seen(kafka, topics)
    commands = KafkaCommands(tmp_path, kafka.bootstrap, {"backend": "filesystem", "path": str(tmp_path)})
    commands.settings["source"]["topics"] = {"include": [f"{topic}-*"]}
    backed_up = commands.done("backup")
    assert backed_up["status"] == "success"
    assert backed_up["topics"] == len(topics)
    kafka.delete_topics(*topics)
    restored = commands.done("restore")
    assert restored["status"] == "success"
    assert list(differences(before, seen(kafka, topics))) == []
    assert restored["records"] == sum(map(len, before.values())) == restored["verified"]
