"""What there is to restore from, over the tiers that are asked: backups, WAL, timelines; and what could not be read.

A tier whose base backups cannot be read may still give WAL, and the other way round. One that gives neither is left
out and that is said; only where nothing is left it is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tallykeep.clock import Clock
from tallykeep.errors import ConfigError, NotFound, RestoreError, TallykeepError
from tallykeep.systems.postgres.cluster import Cluster, Tier
from tallykeep.systems.postgres.lsn import History
from tallykeep.systems.postgres.repository.repository import Repository
from tallykeep.systems.postgres.restoring.choosing import Candidate, Holdings
from tallykeep.systems.postgres.restoring.tiered_wal import TieredWal, merged
from tallykeep.systems.postgres.wal_source import HeldSegment, stretches


@dataclass(slots=True)
class Gathered:
    """Everything that was found."""

    repositories: dict[str, Repository] = field(default_factory=dict)  # by tier, in the order they are asked
    wal: TieredWal = field(default_factory=lambda: TieredWal(()))
    segments: Sequence[HeldSegment] = ()
    holdings: Holdings = field(default_factory=lambda: Holdings((), (), {}))
    notes: list[str] = field(default_factory=list)

    @property
    def wal_tiers(self) -> Sequence[str]:
        """Tiers that WAL is taken from."""
        return [source.tier for source in self.wal.sources]


async def gather(cluster: Cluster, tiers: Sequence[str], clock: Clock) -> Gathered:
    """Look at the tiers. Raises: ConfigError for a tier that is none, or a wrong key; RestoreError for nothing."""
    found = Gathered()
    asked = [cluster.tier(number) for number in tiers] if tiers else list(cluster.tiers)
    held: list[Sequence[HeldSegment]] = []
    for tier in asked:
        await _base(found, tier, clock)
        await _wal(found, tier, held)
    if not found.repositories:
        raise RestoreError(f"{cluster.name}: there is no backup to restore: {'; '.join(found.notes)}")
    found.segments = merged(held)
    found.holdings = Holdings(_candidates(found), stretches(found.segments), await _histories(found))
    return found


async def _base(found: Gathered, tier: Tier, clock: Clock) -> None:
    try:
        await tier.check_key()
        repository = await tier.repository(clock)
    except ConfigError:
        raise
    except TallykeepError as error:
        found.notes.append(f"tier {tier.number}: its base backups cannot be used: {error}")
        return
    if repository.backups:
        found.repositories[tier.number] = repository
    else:
        found.notes.append(f"tier {tier.number}: {tier.base.name} holds no backup")


async def _wal(found: Gathered, tier: Tier, held: list[Sequence[HeldSegment]]) -> None:
    try:
        if await tier.wal.identity() is None:
            raise NotFound("there is none")
        held.append(await tier.wal.segments())
    except TallykeepError as error:
        found.notes.append(f"tier {tier.number}: its WAL cannot be used: {error}")
        return
    found.wal = TieredWal([*found.wal.sources, tier.wal])


def _candidates(found: Gathered) -> list[Candidate]:
    """Backups, each with the first tier that holds it, oldest first; those in their grace period are whole as well."""
    first: dict[str, Candidate] = {}
    for tier, repository in found.repositories.items():
        for entry in (*repository.backups.values(), *repository.in_grace.values()):
            first.setdefault(entry.id, Candidate(entry, tier))
    return sorted(first.values(), key=lambda each: each.entry.finished)


async def _histories(found: Gathered) -> dict[int, History]:
    """Of every timeline; one whose file is not held has no ancestors that are known."""
    numbers = {held.segment.timeline for held in found.segments}
    numbers |= {entry.timeline for repository in found.repositories.values() for entry in repository.backups.values()}
    histories = {number: History(number) for number in numbers}
    for number in await found.wal.timelines():
        histories[number] = History.parse(number, await found.wal.history_text(number))
    return histories
