"""What the target has to say about a restore, asked before anything of it is changed.

Fatal is what would make the restore fail, or mix its records with others; the rest is what whoever restores will want
to know. The codes are stable; docs/guide/kafka-restore.md has them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tallykeep.clock import Clock, SystemClock
from tallykeep.errors import TallykeepError
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.replies import UNKNOWN_TOPIC_OR_PARTITION, KafkaRefused
from tallykeep.systems.kafka.restore_plan import (
    Finding,
    PlannedTopic,
    RestorePlan,
    RestoreRequest,
    newest_topics,
    plan_topics,
    restore_id,
)
from tallykeep.systems.kafka.restore_state import StateFolder
from tallykeep.systems.kafka.restoring.holding import DEFAULT_LARGEST, at_creation, held_settings
from tallykeep.systems.kafka.restoring.survey import Survey, survey
from tallykeep.systems.kafka.restoring.tasks import at_once
from tallykeep.systems.kafka.selecting import is_pattern, matches

if TYPE_CHECKING:
    from tallykeep.systems.kafka.cluster import Cluster, Topic

INTERNAL = ("__consumer_offsets", "__transaction_state", "__share_group_state")
_AT_ONCE = 4  # partitions whose indexes are read at the same time
_LOOKS, _PAUSE = 10, 0.5  # at a topic that is being deleted: how often, and seconds between
_WEEK = 604_800_000  # ms; retention.ms where nothing else is set


async def plan_restore(
    request: RestoreRequest, backup: BackupSet, cluster: Cluster, clock: Clock | None = None
) -> RestorePlan:
    """What is to be done, with everything that speaks against it; nothing is changed.

    Where a restore of the same request has begun, it is the plan of that one, with the backup as it was then.
    Raises: SourceErrors; StoreErrors; IntegrityError.
    """
    clock = clock or SystemClock()
    wanted = restore_id(request, backup.store.name, cluster.cluster_id)
    async with StateFolder(request.state) as folder:
        state = await folder.load(wanted)
    if state and state.sequence != backup.sequence:
        backup = await BackupSet.open(backup.store, clock, upto=state.sequence)
    snapshot, topics = await newest_topics(backup)
    planned, findings = plan_topics(request, backup, topics)
    plan = RestorePlan(wanted, request, backup, snapshot, planned, state, findings)
    counted = await at_once((survey(backup, route.segments, request.window) for route in plan.routes), _AT_ONCE)
    plan.surveys = dict(zip((route.target for route in plan.routes), counted, strict=True))
    if plan.topics and not request.window.is_open and not plan.records:
        plan.findings.append(Finding("WINDOW_EMPTY", "", "no record of these topics lies in the window."))
    plan.findings += await _looked(plan, cluster, clock)
    return plan


async def _looked(plan: RestorePlan, cluster: Cluster, clock: Clock) -> list[Finding]:
    """What speaks against it; looked at again where a topic that is being deleted goes meanwhile."""
    for _ in range(_LOOKS - 1):
        try:
            return await look_at_target(plan, cluster, clock.time())
        except KafkaRefused as error:
            if error.kafka_code != UNKNOWN_TOPIC_OR_PARTITION:
                raise
            await asyncio.sleep(_PAUSE)
    return await look_at_target(plan, cluster, clock.time())


async def look_at_target(plan: RestorePlan, cluster: Cluster, now: float) -> list[Finding]:
    """Everything that can be told before the restore begins; `now`: Unix seconds. Raises: SourceErrors."""
    topics = await cluster.topics()
    there = [topic.target for topic in plan.topics if topic.target in topics]
    effective = await cluster.effective_configs(there)
    found: list[Finding] = []
    for topic in plan.topics:
        settings = effective.get(topic.target)
        if topic.target in INTERNAL:
            message = f"{topic.target} belongs to the brokers: restore groups with `tallykeep kafka offsets`."
            found.append(Finding("INTERNAL_TOPIC", topic.target, message, fatal=True))
        elif settings is None:
            found += [finding async for finding in _creation(plan, topic, cluster)]
        else:
            found += _existing(plan, topic, topics[topic.target], settings)
        found += _settings(plan, topic, settings, now)
    found += _rights(plan, await cluster.rights(there))
    found += [finding async for finding in _contents(plan, cluster, set(there))]
    if plan.request.reset_offsets:
        found += [finding async for finding in _groups(plan, cluster)]
    return found


def replication(plan: RestoreRequest, topic: PlannedTopic, brokers: int) -> int:
    """Copies of each partition that the topic is made with."""
    return plan.default_replication_factor or min(topic.source.replication_factor, brokers)


async def _creation(plan: RestorePlan, topic: PlannedTopic, cluster: Cluster) -> AsyncIterator[Finding]:
    """What speaks against making the topic."""
    if plan.state and plan.state.partitions:
        message = f"{topic.target} is gone, and a restore to it had begun: delete its state in {plan.request.state}."
        yield Finding("TARGET_GONE", topic.target, message, fatal=True)
        return
    if not plan.request.create_topics:
        message = f"{topic.target} does not exist: create it, or set create_topics."
        yield Finding("TARGET_MISSING", topic.target, message, fatal=True)
        return
    wanted, copies = topic.source.replication_factor, replication(plan.request, topic, len(cluster.brokers))
    if copies < wanted and not plan.request.default_replication_factor:
        message = f"{topic.target} had {wanted} copies, and there are {len(cluster.brokers)} brokers: it gets {copies}."
        yield Finding("REPLICATION_FACTOR", topic.target, message)
    try:
        configs = at_creation(topic.source.configs)
        await cluster.create_topic(topic.target, topic.partitions, copies, configs, validate_only=True)
    except TallykeepError as error:
        yield Finding("CREATION_REFUSED", topic.target, f"{topic.target} cannot be created: {error}", fatal=True)


def _existing(plan: RestorePlan, planned: PlannedTopic, topic: Topic, settings: Mapping[str, str]) -> Iterator[Finding]:
    """What speaks against a topic that is there."""
    name, count = topic.name, len(topic.partitions)
    known = plan.state.topics.get(name) if plan.state else None
    if known and known.topic_id and known.topic_id != topic.topic_id:
        message = (
            f"{name} was deleted and made again since this restore began: delete its state in {plan.request.state}."
        )
        yield Finding("TARGET_RECREATED", name, message, fatal=True)
    if count < planned.partitions:
        message = f"{name} has {count} partitions, and {planned.partitions} are needed: add partitions, or map them."
        yield Finding("TOO_FEW_PARTITIONS", name, message, fatal=True)
    elif count > planned.partitions:
        message = f"{name} has {count} partitions and had {planned.partitions}: keys will go to other ones than before."
        yield Finding("MORE_PARTITIONS", name, message)
    if leaderless := [part.number for part in topic.partitions if part.leader < 0]:
        yield Finding("NO_LEADER", name, f"{name}: partitions {leaderless} have no leader.", fatal=True)
    if not known:
        yield from _sizes(plan, planned, int(settings.get("max.message.bytes", DEFAULT_LARGEST)))


def _sizes(plan: RestorePlan, topic: PlannedTopic, largest: int) -> Iterator[Finding]:
    surveys = _surveys(plan, topic)
    record = max((found.largest_record for found in surveys), default=0)
    if record > largest:
        message = f"{topic.target} takes {largest} bytes, and one record makes {record}: raise max.message.bytes."
        yield Finding("MESSAGE_SIZE", topic.target, message, fatal=True)
    elif max((found.largest for found in surveys), default=0) > largest:
        message = f"{topic.target} takes batches of {largest} bytes: larger ones are split, their records are the same."
        yield Finding("MESSAGE_SPLIT", topic.target, message)


def _settings(
    plan: RestorePlan, topic: PlannedTopic, effective: Mapping[str, str] | None, now: float
) -> Iterator[Finding]:
    """What is held off, and what will happen when it is put back."""
    own = dict(topic.source.configs) if effective is None else effective
    if names := sorted(held_settings(own, replicas=1 << 15)):
        message = f"{', '.join(names)} are held off until the data is in, and put back then."
        yield Finding("SETTINGS_HELD", topic.target, message)
    if plan.state and topic.target in plan.state.topics:
        own = {**own, **{name: value for name, value in plan.state.topics[topic.target].put_back.items() if value}}
    keep = int(own.get("retention.ms", _WEEK))
    oldest = min((found.first for found in _surveys(plan, topic) if found.first is not None), default=None)
    deletes = "delete" in own.get("cleanup.policy", "delete")
    if deletes and keep >= 0 and oldest is not None and oldest < now * 1000 - keep:
        message = (
            f"{topic.target} keeps records for {keep / 86_400_000:g} days and older ones are restored: the broker will "
            "delete them once retention.ms is put back; raise it first if they are to stay."
        )
        yield Finding("RETENTION_DELETES", topic.target, message)


async def _contents(plan: RestorePlan, cluster: Cluster, there: set[str]) -> AsyncIterator[Finding]:
    """Targets that have records already."""
    begun = plan.state.partitions if plan.state else {}
    places = [route.target for route in plan.routes if route.target.topic in there and route.target not in begun]
    topics = await cluster.topics()
    places = [place for place in places if place.partition < len(topics[place.topic].partitions)]
    first, last = await cluster.offsets(places, "earliest"), await cluster.offsets(places, "latest")
    full: dict[str, int] = {}
    for place in places:
        if first[place] != last[place]:
            full[place.topic] = full.get(place.topic, 0) + last[place] - first[place]
    for topic, count in full.items():
        message = (
            f"{topic} is not empty, it has {count} offsets: delete it, or restore to another name (topic_mapping)."
        )
        yield Finding("TARGET_NOT_EMPTY", topic, message, fatal=True)


def _rights(plan: RestorePlan, rights: Mapping[str, Container[str]]) -> Iterator[Finding]:
    """Topics that are there, and that this user may not do everything with that a restore does."""
    needed = ["DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS", "WRITE", *(["READ"] if plan.request.verify else [])]
    for name, may in rights.items():
        if missing := [operation for operation in needed if operation not in may]:
            message = (
                f"{name}: this user lacks the right to {', '.join(missing)}: grant it, or restore as another user."
            )
            yield Finding("NOT_AUTHORIZED", name, message, fatal=True)


async def _groups(plan: RestorePlan, cluster: Cluster) -> AsyncIterator[Finding]:
    """What keeps offsets from being set: groups that were not saved, or are at work."""
    saved, asked = {group.name for group in plan.snapshot.groups}, plan.request.groups
    for name in asked:
        if name not in saved and not is_pattern(name):
            message = f"group {name} is not in the backup: check the name in consumer_groups, or leave it out."
            yield Finding("GROUP_NOT_IN_BACKUP", "", message, fatal=True)
    wanted = matches(asked or ("*",))
    for group in await cluster.groups():
        if group.name in saved and wanted(group.name) and group.members:
            message = f"group {group.name} has {group.members} members: stop them, their offsets cannot be set before."
            yield Finding("GROUP_ACTIVE", "", message, fatal=True)


def _surveys(plan: RestorePlan, topic: PlannedTopic) -> Sequence[Survey]:
    return [plan.surveys[route.target] for route in topic.routes if route.target in plan.surveys]
