"""Backups and restores on a real broker, in a few words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.kafka import KafkaServer

from tallykeep.clock import SystemClock
from tallykeep.storage.store import Store
from tallykeep.systems.kafka.backup import back_up
from tallykeep.systems.kafka.backup_request import BackupRequest
from tallykeep.systems.kafka.brokers import Brokers
from tallykeep.systems.kafka.cluster import Cluster, ClusterSettings
from tallykeep.systems.kafka.connection import Security
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.preflight import plan_restore
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.restore import RestoreResult, restore
from tallykeep.systems.kafka.restore_plan import RestoreRequest
from tallykeep.systems.kafka.selecting import Selection


@dataclass
class Silent:
    """Figures of backups and restores alike: noted, not shown."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return lambda *values: self.calls.append((name, *values))

    def together(self) -> AbstractContextManager[None]:
        """As it comes."""
        return nullcontext()

    def of(self, name: str) -> list[Any]:
        """The arguments of the calls of that name."""
        return [values for called, *values in self.calls if called == name]


def client(kafka: KafkaServer) -> AbstractAsyncContextManager[tuple[Cluster, Brokers]]:
    """Both ways to a cluster."""
    return opened(kafka.bootstrap)


@asynccontextmanager
async def opened(bootstrap: str) -> AsyncIterator[tuple[Cluster, Brokers]]:
    """The same by its address."""
    cluster = await Cluster.open(ClusterSettings((bootstrap,), Security()))
    brokers = Brokers(Security())
    try:
        yield cluster, brokers
    finally:
        await brokers.close()
        await cluster.close()
        await asyncio.sleep(0.05)  # the loop lets go of closed sockets in its next rounds


async def backed_up(kafka: KafkaServer, store: Store, *topics: str, **settings: Any) -> BackupSet:
    """A run of the backup of these topics, and the backup then."""
    request = BackupRequest(topics=Selection(include=topics), **settings)
    async with client(kafka) as (cluster, brokers):
        result = await back_up(request, cluster, brokers, store, SystemClock(), Silent(), asyncio.Event())
    assert result.complete, result
    return await BackupSet.open(store, SystemClock())


async def restored(
    kafka: KafkaServer, backup: BackupSet, state: Path, *, figures: Silent | None = None, **wanted: Any
) -> RestoreResult:
    """What a restore of that request comes to. Raises: what it raises."""
    async with client(kafka) as (cluster, brokers):
        plan = await plan_restore(RestoreRequest(state, **wanted), backup, cluster)
        return await restore(plan, cluster, brokers, SystemClock(), figures or Silent(), asyncio.Event())


async def findings(kafka: KafkaServer, backup: BackupSet, state: Path, **wanted: Any) -> dict[str, bool]:
    """The codes of what preflight finds, and whether they are fatal."""
    async with client(kafka) as (cluster, _):
        plan = await plan_restore(RestoreRequest(state, **wanted), backup, cluster)
    return {finding.code: finding.fatal for finding in plan.findings}


async def end_of(kafka: KafkaServer, topic: str, partition: int = 0) -> int:
    """Offset behind the last record."""
    async with client(kafka) as (cluster, _):
        return (await cluster.offsets([Place(topic, partition)], "latest"))[Place(topic, partition)]


async def own_settings(kafka: KafkaServer, topic: str) -> dict[str, str]:
    """What is set for the topic itself."""
    async with client(kafka) as (cluster, _):
        return (await cluster.configs([topic]))[topic]


def delete_topic(kafka: KafkaServer, *names: str) -> None:
    """Gone when this returns."""
    kafka.delete_topics(*names)
