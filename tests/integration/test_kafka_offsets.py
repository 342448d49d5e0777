"""Consumer groups in another cluster, at other offsets, after a part of the time; and the commands that set them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from tests.support.kafka import KafkaServer, running
from tests.support.kafka_corpus import Seen, a_record, produce, seen
from tests.support.kafka_live import Silent, backed_up, client, delete_topic, restored

from tallykeep.clock import SystemClock
from tallykeep.errors import IntegrityError, RestoreError
from tallykeep.storage.local import LocalStore
from tallykeep.storage.memory import MemoryStore
from tallykeep.systems.kafka import group_snapshot
from tallykeep.systems.kafka.cluster import Committed
from tallykeep.systems.kafka.group_offsets import GroupOutcome, apply_plan, plan_groups
from tallykeep.systems.kafka.offset_commands import newest_map
from tallykeep.systems.kafka.offset_map import OffsetMap
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.restoring.choosing import Window

pytestmark = pytest.mark.server


def read(kafka: KafkaServer, topic: str, group: str, stop: int | None = None) -> list[Seen]:
    """What a consumer of the group reads, from its committed offsets on, and commits: `stop` records, or all."""
    consumer = Consumer({
        "bootstrap.servers": kafka.bootstrap, "group.id": group, "isolation.level": "read_committed",
        "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0, "auto.offset.reset": "error",
    })  # fmt: skip
    with closing(consumer):
        places = [TopicPartition(topic, number) for number in consumer.list_topics(topic, 60).topics[topic].partitions]
        begin = [(one.partition, max(one.offset, 0)) for one in consumer.committed(places, timeout=60)]
        consumer.assign([TopicPartition(topic, number, offset) for number, offset in begin])
        records: list[Seen] = []
        ended = 0
        while ended < len(places) and (stop is None or len(records) < stop):
            message = consumer.poll(60)
            assert message is not None, f"nothing more after {len(records)} records"
            if (error := message.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended += 1
                continue
            headers = tuple(message.headers() or ())
            records.append(Seen(message.timestamp()[1], message.key(), message.value(), headers))  # type: ignore[arg-type]
        come_to = [one for one in consumer.position(places) if one.offset >= 0]
        if come_to:
            consumer.commit(offsets=come_to, asynchronous=False)
    return records


async def applied(
    kafka: KafkaServer, backup: BackupSet, *groups: str, figures: Silent | None = None
) -> list[GroupOutcome]:
    """What setting the groups after the newest restore comes to."""
    key = await newest_map(backup.store)
    plan = plan_groups(await backup.snapshot(), OffsetMap.decode(await backup.store.read(key), key), groups)
    async with client(kafka) as (cluster, _):
        return await apply_plan(cluster, plan, SystemClock(), figures or Silent())


def transactions(kafka: KafkaServer, topic: str) -> None:
    """Committed and aborted transactions in turn, three records each, and plain records between them."""
    producer = kafka.producer(transactional_id=f"{topic}-id")
    producer.init_transactions(60)
    for round_ in range(12):
        producer.begin_transaction()
        for number in range(3):
            producer.produce(topic, b"%d %d" % (round_, number), partition=number % 2)
        assert producer.flush(60) == 0
        (producer.abort_transaction if round_ % 3 == 1 else producer.commit_transaction)(60)
        produce(kafka, topic, [(0, a_record(round_))])
    kafka.settle(topic)


async def test_a_consumer_goes_on_in_another_cluster(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Real consumers that had stopped after any number of records, in the midst of batches and transactions, go on in
    another cluster, where all offsets are others, and read every record behind their last commit exactly once."""
    kafka.create_topic(topic, 2)
    transactions(kafka, topic)
    everything = sum(map(len, seen(kafka, [topic]).values()))
    stops = (1, 7, 16, everything - 1, everything)
    before = {stop: read(kafka, topic, f"{topic}-{stop}", stop) for stop in stops}
    backup = await backed_up(kafka, MemoryStore(), topic)
    after = {stop: read(kafka, topic, f"{topic}-{stop}") for stop in stops}
    assert all(len(before[stop]) + len(after[stop]) == everything for stop in stops)
    (tmp_path / "other").mkdir()
    with running(tmp_path / "other") as other:
        await restored(other, backup, tmp_path / "state")
        outcomes = await applied(other, backup, f"{topic}-*")
        assert [outcome.problem for outcome in outcomes] == [""] * len(stops)
        assert any(move.source_offset != move.target_offset for outcome in outcomes for move in outcome.done)
        for stop in stops:
            assert sorted(map(repr, read(other, topic, f"{topic}-{stop}"))) == sorted(map(repr, after[stop]))


async def test_other_offsets(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Where the log began late all new offsets differ; groups go on right with a committed offset at the log's start,
    in the midst, before the start, and at the end; what they noted with it stays."""
    kafka.create_topic(topic, 4)
    produce(kafka, topic, [(number % 4, a_record(number)) for number in range(400)], batch_num_messages=10)
    admin = kafka.admin()  # its requests end with it
    for future in admin.delete_records([TopicPartition(topic, number, 20) for number in range(4)]).values():
        future.result(60)
    old = {Place(topic, 0): 20, Place(topic, 1): 57, Place(topic, 2): 5, Place(topic, 3): 100}
    async with client(kafka) as (cluster, _):
        await cluster.commit_offsets(f"{topic}-group", {place: Committed(at, "mark") for place, at in old.items()})
    backup = await backed_up(kafka, MemoryStore(), topic)
    copy = f"{topic}-copy"
    await restored(kafka, backup, tmp_path, topic_mapping={topic: copy})
    figures = Silent()
    (outcome,) = await applied(kafka, backup, f"{topic}-group", figures=figures)
    assert outcome.ok
    async with client(kafka) as (cluster, _):
        found = await cluster.group_offsets(f"{topic}-group")
    assert [found[Place(copy, number)].offset for number in range(4)] == [0, 37, 0, 80]
    assert {found[Place(copy, number)].metadata for number in range(4)} == {"mark"}
    assert [values[-1] for values in figures.of("reset") + figures.of("finished")] == ["success"] * 5


async def test_point_in_time(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """After a restore of a span of time a group goes on within it, at its start, or at its end."""
    kafka.create_topic(topic)
    produce(kafka, topic, [(0, a_record(number)) for number in range(100)])
    async with client(kafka) as (cluster, _):
        for name, offset in (("early", 3), ("late", 90), ("within", 30)):
            await cluster.commit_offsets(f"{topic}-{name}", {Place(topic, 0): Committed(offset)})
    backup = await backed_up(kafka, MemoryStore(), topic)
    window = Window(a_record(20).timestamp, a_record(59).timestamp)
    await restored(kafka, backup, tmp_path, topic_mapping={topic: f"{topic}-copy"}, window=window)
    outcomes = await applied(kafka, backup, f"{topic}-*")
    assert [outcome.done[0].target_offset for outcome in outcomes] == [0, 40, 10]


async def test_saved_groups_come_back(kafka: KafkaServer, topic: str) -> None:
    """What groups have committed is saved by itself and read back, or refused when a byte of it was changed."""
    kafka.create_topic(topic)
    async with client(kafka) as (cluster, _):
        await cluster.commit_offsets(f"{topic}-g", {Place(topic, 0): Committed(0, "note")})
        saved = await group_snapshot.group_snapshot(cluster, SystemClock(), [f"{topic}-g"])
        with pytest.raises(RestoreError, match="there is no group 'nobody'"):
            await group_snapshot.group_snapshot(cluster, SystemClock(), ["nobody"])
    assert [(group.name, *group.offsets) for group in saved.groups] == [(f"{topic}-g", (topic, 0, 0, "note", -1))]
    data = group_snapshot.encode(saved)
    assert group_snapshot.decode(data, "file") == saved
    for at in range(len(data)):
        with pytest.raises(IntegrityError, match="file"):
            group_snapshot.decode(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :], "file")


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`tallykeep kafka offsets ...` as a person runs it."""
    argv = [sys.executable, "-m", "tallykeep", "kafka", "offsets", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=150, env=dict(os.environ))


async def test_commands(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """plan shows where groups go on, script does it with Kafka's own tool, apply does it and reads it back; a map that
    is not there and a group that was not saved are named, with the published codes."""
    kafka.create_topic(topic, 2)
    produce(kafka, topic, [(number % 2, a_record(number)) for number in range(20)])
    group = f"{topic}'s group"
    async with client(kafka) as (cluster, _):
        await cluster.commit_offsets(group, {Place(topic, number): Committed(3 + number) for number in range(2)})
    (tmp_path / "b" / "daily").mkdir(parents=True)
    store = LocalStore(tmp_path / "b" / "daily")
    backup = await backed_up(kafka, store, topic)
    here = ("-p", tmp_path / "b", "-b", "daily")
    missing = command("plan", *here)
    assert (missing.returncode, missing.stderr.startswith("tallykeep: OFFSET_MAPPING_MISSING: ")) == (1, True)
    delete_topic(kafka, topic)
    await restored(kafka, backup, tmp_path / "state")
    plan = command("plan", *here, "--group", group)
    assert plan.returncode == 0, plan.stderr
    assert f"  {topic}-1: 4 -> 4" in plan.stdout.splitlines()
    script(kafka, tmp_path, command("script", *here, "--group", group, "--bootstrap", kafka.bootstrap).stdout, group)
    (tmp_path / "file.yaml").write_text(
        f"mode: restore\nbackup_id: daily\nmetrics: {{enabled: false}}\n"
        f"target: {{bootstrap_servers: ['{kafka.bootstrap}']}}\n"
        f"storage: {{backend: filesystem, path: '{tmp_path / 'b'}'}}\n"
    )
    file = ("--config", tmp_path / "file.yaml")
    dry = json.loads(command("apply", *file, "--group", group, "--dry-run", "--json").stdout)
    assert (dry["status"], dry["groups"][0]["set"]) == ("success", 0)
    done = command("apply", *file, "--group", group)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 of 1 groups are set."), done.stderr
    async with client(kafka) as (cluster, _):
        found = await cluster.group_offsets(group)
    assert [found[Place(topic, number)].offset for number in range(2)] == [3, 4]
    nobody = command("apply", *file, "--group", "nobody", "--json")
    assert (nobody.returncode, json.loads(nobody.stdout)["error"]["code"]) == (1, "OFFSET_RESET_FAILED")
    saved = command("snapshot", *file, "--side", "target", "--group", group, "-o", tmp_path / "groups.json")
    assert saved.returncode == 0, saved.stderr
    again = command("plan", *here, "--snapshot", tmp_path / "groups.json", "--json")
    assert json.loads(again.stdout)["groups"][0]["partitions"][1]["target"]["offset"] == 4


def script(kafka: KafkaServer, folder: Path, text: str, group: str) -> None:
    """What the script calls Kafka's tool with is what plan showed; the tool stands in for the one in Kafka's folder."""
    tool = folder / "kafka-consumer-groups.sh"
    tool.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{folder}/arguments\ncp "$7" {folder}/offsets\n')
    tool.chmod(0o755)
    subprocess.run(["sh", "-c", text], env={"PATH": f"{folder}:/usr/bin:/bin"}, check=True, timeout=60)
    arguments = (folder / "arguments").read_text().splitlines()
    assert arguments[:6] == ["--bootstrap-server", kafka.bootstrap, "--group", group, "--reset-offsets", "--from-file"]
    assert arguments[7:] == ["--execute"]
    assert [line.split(",")[1:] for line in (folder / "offsets").read_text().splitlines()] == [["0", "3"], ["1", "4"]]
