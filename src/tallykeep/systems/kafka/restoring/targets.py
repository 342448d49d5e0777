"""The topics of the target: made or found, settings held off, and at the end put back.

Each step may have been done before a crash and is looked at before it is done again. What is to be put back is in the
state before anything changes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tallykeep.errors import RestoreError, Unreachable
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.preflight import replication
from tallykeep.systems.kafka.restore_plan import PlannedTopic, RestorePlan
from tallykeep.systems.kafka.restore_state import RestoreState, TopicState
from tallykeep.systems.kafka.restoring.holding import DEFAULT_LARGEST, at_creation, changes, held_settings, put_back
from tallykeep.systems.kafka.restoring.tasks import at_once
from tallykeep.systems.kafka.steps import reached

if TYPE_CHECKING:
    from tallykeep.systems.kafka.cluster import Cluster


async def intentions(plan: RestorePlan, cluster: Cluster) -> dict[str, TopicState]:
    """What is to be done with each topic, before it is. Raises: SourceErrors."""
    there = await cluster.topics()
    own = await cluster.configs([topic.target for topic in plan.topics if topic.target in there])
    found = {}
    for topic in plan.topics:
        create = topic.target not in there
        settings = at_creation(topic.source.configs) if create else own[topic.target]
        found[topic.target] = TopicState(topic.target, create, put_back(settings))
    return found


async def prepare(plan: RestorePlan, state: RestoreState, cluster: Cluster) -> None:
    """Make what is to be made, and hold settings off; ids and limits go into the state. Raises: SourceErrors."""
    there = await cluster.topics()
    await at_once(_made(plan, topic, cluster) for topic in plan.topics if topic.target not in there)
    there = await cluster.topics()
    await at_once(_held(plan, topic, state.topics[topic.target], cluster) for topic in plan.topics)
    for name, topic in state.topics.items():
        topic.topic_id = there[name].topic_id


async def finish(state: RestoreState, cluster: Cluster) -> None:
    """Put everything back as it is to be. Raises: SourceErrors."""
    await at_once(_put_back(topic, cluster) for topic in state.topics.values())


async def check_same(state: RestoreState, cluster: Cluster) -> None:
    """Raises: RestoreError where a topic is another one than the restore began with."""
    there = await cluster.topics()
    for name, topic in state.topics.items():
        if name not in there or there[name].topic_id != topic.topic_id:
            raise RestoreError(
                f"{name}: it was deleted{' and made again' if name in there else ''} while it was restored. "
                "Delete the state of this restore and begin again."
            )


class LeaderBook:
    """Who leads which partition, asked again when it proves wrong; many ask at once, the cluster is asked once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._leaders: dict[Place, int] = {}
        self._asking: asyncio.Task[None] | None = None

    async def leader(self, place: Place, *, again: bool = False) -> tuple[str, int]:
        """The address of the partition's leader. Raises: Unreachable where it has none; SourceErrors."""
        if again or place not in self._leaders:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            await asyncio.shield(self._asking)
        address = self._cluster.brokers.get(self._leaders.get(place, -1))
        if address is None:
            raise Unreachable(f"{place} has no leader in {self._cluster.name} at present.")
        return address

    async def _ask(self) -> None:
        topics = await self._cluster.topics()
        self._leaders = {
            Place(topic.name, part.number): part.leader for topic in topics.values() for part in topic.partitions
        }


async def _made(plan: RestorePlan, topic: PlannedTopic, cluster: Cluster) -> None:
    copies = replication(plan.request, topic, len(cluster.brokers))
    await cluster.create_topic(topic.target, topic.partitions, copies, at_creation(topic.source.configs))
    reached("restore topic made")


async def _held(plan: RestorePlan, topic: PlannedTopic, state: TopicState, cluster: Cluster) -> None:
    there = (await cluster.topics())[topic.target]
    effective = (await cluster.effective_configs([topic.target]))[topic.target]
    largest = max((plan.surveys[route.target].largest for route in topic.routes), default=0) if state.create else 0
    copies = min((part.replicas for part in there.partitions), default=1)
    if wanted := held_settings(effective, copies, largest):
        await cluster.alter_configs(topic.target, set=wanted)
        reached("restore settings held")
    state.largest = max(largest, int({**effective, **wanted}.get("max.message.bytes", DEFAULT_LARGEST)))


async def _put_back(topic: TopicState, cluster: Cluster) -> None:
    own = (await cluster.configs([topic.name])).get(topic.name, {})
    setting, unsetting = changes(topic.put_back, own)
    if setting or unsetting:
        await cluster.alter_configs(topic.name, set=setting, unset=unsetting)
        reached("restore settings back")
