"""What a restore would do, and what its backup says against it; settings that are held off; state that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.kafka_backup import a_batch
from tests.support.kafka_restore import TOPIC_ID, a_log, a_run, a_topic

from tallykeep.errors import ConfigError, IntegrityError
from tallykeep.storage.memory import MemoryStore
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.restore_plan import RestoreRequest, newest_topics, plan_topics, restore_id
from tallykeep.systems.kafka.restore_state import PartitionState, RestoreState, StateFolder, TopicState
from tallykeep.systems.kafka.restoring.choosing import Window
from tallykeep.systems.kafka.restoring.holding import at_creation, changes, held_settings, put_back
from tallykeep.systems.kafka.restoring.outgoing import Stint

HERE = Path("state")


async def test_names_and_partitions_are_mapped() -> None:
    """Topics and partitions go where the mappings say; the target gets as many partitions as that takes."""
    backup = await a_run(MemoryStore(), [a_topic("orders", 3), a_topic("other")])
    _, topics = await newest_topics(backup)
    request = RestoreRequest(
        HERE, include=("ord*",), topic_mapping={"orders": "again"}, source_partitions=(0, 2), partition_mapping={2: 5}
    )
    [planned], _ = plan_topics(request, backup, topics)
    assert (planned.target, planned.partitions) == ("again", 6)
    assert [(route.source.partition, route.target) for route in planned.routes] == [
        (0, Place("again", 0)),
        (2, Place("again", 5)),
    ]


async def test_what_the_backup_says() -> None:
    """Names that nothing has, two ways to one place, a cut that was not reached, an earlier topic of the name."""
    store = MemoryStore()
    await a_run(
        store, [a_topic("orders", end=3, topic_id="2" * 32)], [a_log("orders", [a_batch(0)], topic_id="2" * 32)]
    )
    backup = await a_run(store, [a_topic("orders", 2, end=4)], [a_log("orders", [a_batch(0)])])
    _, topics = await newest_topics(backup)
    request = RestoreRequest(HERE, include=("orders", "gone"), partition_mapping={1: 0})
    planned, findings = plan_topics(request, backup, topics)
    assert planned[0].source.topic_id == TOPIC_ID
    assert {(finding.code, finding.fatal) for finding in findings} == {
        ("TOPIC_NOT_IN_BACKUP", True), ("PARTITION_COLLISION", True), ("BACKUP_UNFINISHED", False),
        ("OLDER_INCARNATION", False),
    }  # fmt: skip
    _, findings = plan_topics(RestoreRequest(HERE, include=("nothing*",)), backup, topics)
    assert [finding.code for finding in findings] == ["NOTHING_TO_RESTORE"]


async def test_a_topic_that_newer_runs_do_not_have() -> None:
    """A topic that was deleted before the last run is restored as the newest snapshot that has it describes it."""
    store = MemoryStore()
    await a_run(store, [a_topic("orders", 2, retention_ms="5"), a_topic("kept")], [a_log("orders", [a_batch(0)])])
    backup = await a_run(store, [a_topic("kept")])
    newest, topics = await newest_topics(backup)
    assert newest.topic("orders") is None
    assert topics["orders"].configs == {"retention.ms": "5"}
    planned, _ = plan_topics(RestoreRequest(HERE), backup, topics)
    assert [topic.target for topic in planned] == ["kept", "orders"]


def test_one_id_a_request() -> None:
    """The same request has the same id, another window, mapping, backup or target another one."""
    request = RestoreRequest(HERE, topic_mapping={"a": "b"})
    ids = {
        restore_id(request, "store", "cluster"),
        restore_id(request, "store", "cluster2"),
        restore_id(request, "store2", "cluster"),
        restore_id(RestoreRequest(HERE, topic_mapping={"a": "c"}), "store", "cluster"),
        restore_id(RestoreRequest(HERE, topic_mapping={"a": "b"}, window=Window(1, 2)), "store", "cluster"),
    }
    assert len(ids) == 5
    assert restore_id(RestoreRequest(Path("else"), topic_mapping={"a": "b"}, verify=False), "store", "cluster") in ids


def test_settings_are_held_off() -> None:
    """What deletes, compacts, refuses or changes records is held off, nothing else, and nothing brokers do not know."""
    effective = {
        "cleanup.policy": "compact", "retention.ms": "1000", "retention.bytes": "-1", "segment.ms": "5",
        "message.timestamp.type": "LogAppendTime", "message.timestamp.before.max.ms": "7", "compression.type": "gzip",
        "min.insync.replicas": "2", "max.message.bytes": "100", "flush.ms": "1",
    }  # fmt: skip
    held = held_settings(effective, replicas=1, largest=200)
    most = "9223372036854775807"
    assert held == {
        "cleanup.policy": "delete", "retention.ms": "-1", "segment.ms": most, "message.timestamp.type": "CreateTime",
        "message.timestamp.before.max.ms": most, "compression.type": "producer", "min.insync.replicas": "1",
        "max.message.bytes": "200",
    }  # fmt: skip
    assert held_settings({**effective, **held}, replicas=1, largest=200) == {}


def test_settings_come_back() -> None:
    """Own settings are set again, others unset; where nothing differs, nothing is done."""
    own = {"cleanup.policy": "compact", "flush.ms": "1", "leader.replication.throttled.replicas": "*"}
    wanted = put_back(at_creation(own))
    now = {"cleanup.policy": "delete", "retention.ms": "-1", "flush.ms": "1"}
    assert changes(wanted, now) == ({"cleanup.policy": "compact"}, ["retention.ms"])
    assert changes(wanted, at_creation(own)) == ({}, [])


async def test_state_is_kept(tmp_path: Path) -> None:
    """A state comes back as it was saved; one that is complete is no more; one that was changed is refused."""
    state = RestoreState("id", "id-1", 7, "begun")
    state.topics["t"] = TopicState("t", True, {"retention.ms": None}, 5, "x")
    state.partitions[Place("t", 0)] = PartitionState(Place("t", 0), [Stint(3, 4, 5), Stint(8, 9, 0)])
    async with StateFolder(tmp_path) as folder:
        assert await folder.load("id") is None
        await folder.save(state)
        assert await folder.load("id") == state
        assert state.has("intended")
        assert not state.has("data_in")
        with pytest.raises(ConfigError):
            await StateFolder(tmp_path).__aenter__()
        state.phase = "complete"
        await folder.save(state)
        assert await folder.load("id") is None
        (tmp_path / "restore-id.json").write_bytes(b"{}")
        with pytest.raises(IntegrityError, match=r"restore-id\.json"):
            await folder.load("id")
