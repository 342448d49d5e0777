"""The one tier that a drill restores from, opened with the key as it would be found after a disaster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tallykeep.clock import Clock
from tallykeep.errors import NotFound
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres import keyfile
from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.cluster import TIER_1, TIER_2, Cluster, Tier
from tallykeep.systems.postgres.drilling.request import COLD, DrillRequest
from tallykeep.systems.postgres.drilling.result import DrillResult
from tallykeep.systems.postgres.settings import PostgresSettings
from tallykeep.systems.postgres.throwaway.ended import Ended
from tallykeep.systems.postgres.wal_source import LocalWal, RemoteWal

_SETTINGS = "settings"


def begun(cluster: Cluster, wanted: str, clock: Clock) -> DrillResult:
    """The result of a drill that has not done anything yet. Raises: ConfigError where there is no such tier."""
    number = cluster.tier(wanted).number if wanted != COLD else TIER_1 if cluster.tier2 is None else TIER_2
    result = DrillResult(cluster.name, number, cold=wanted == COLD and number == TIER_2, started=clock.time())
    if wanted == COLD and not result.cold:
        result.notes.append("there is no tier 2: nothing is shown of what is left when this machine is lost")
    return result


async def with_key(cluster: Cluster, settings: PostgresSettings, request: DrillRequest, result: DrillResult) -> Cluster:
    """The cluster with the key that counts in a drill. Raises: ConfigError where that cannot be read."""
    file = _key_file(settings, request)
    if file is None:
        if settings.key:
            result.key = _SETTINGS
            result.notes.append("the key is that of the settings: name the recovery file as drill.recovery_file")
        return cluster
    result.key = str(file)
    cipher = Cipher.from_key(await in_thread(keyfile.read, file))
    return replace(
        cluster,
        cipher=cipher,
        tier1=replace(cluster.tier1, cipher=cipher, wal=LocalWal(Archive(cluster.folder, cipher))),
        tier2=cluster.tier2 and replace(cluster.tier2, cipher=cipher, wal=RemoteWal(cluster.tier2.root, cipher)),
    )


async def check(tier: Tier, clock: Clock) -> None:
    """See that the key is right, and that there is a backup. Raises: Ended; ConfigError; what reading it raises."""
    await tier.check_key()
    try:
        repository = await tier.repository(clock)
    except NotFound as error:
        raise Ended("inconclusive", f"Tier {tier.number} holds no backup yet: {error}") from None
    if not repository.backups:
        raise Ended("inconclusive", f"{tier.base.name}: holds no backup yet; take one.")
    if await tier.wal.identity() is None:
        raise Ended("failed", f"{tier.wal.name}: holds no WAL, and no backup can be restored without.")


def _key_file(settings: PostgresSettings, request: DrillRequest) -> Path | None:
    return request.key_file or settings.drill.recovery_file or settings.key_file
