"""What retention would do to a tier, each decision with its reasons; and doing it.

A plan is made from the manifest and the lists of files. It is made anew under the tier's lock before it is carried
out, so that what is done is what holds then. More than half of a tier's backups go only when somebody says so: then
nothing at all is done.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple
from zoneinfo import ZoneInfoNotFoundError

from tallykeep.clock import Clock
from tallykeep.errors import ConfigError, TallykeepError, Unavailable
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.cluster import TIER_1, Cluster, Tier
from tallykeep.systems.postgres.locks import writing
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.offload.ownership import claim
from tallykeep.systems.postgres.reach import coverage_of
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.repository.repository import Repository
from tallykeep.systems.postgres.retention.collecting import let_go, remove
from tallykeep.systems.postgres.retention.objects import Needless, needless
from tallykeep.systems.postgres.retention.orphans import Orphans, note_seen, orphans, recall_seen
from tallykeep.systems.postgres.retention.policy import Candidate, Decision, decide
from tallykeep.systems.postgres.retention.wal import NeedlessWal, delete_wal, floor_of, needless_wal
from tallykeep.systems.postgres.settings import PostgresSettings, RetentionSettings

_log = logging.getLogger(__name__)


class RetentionRefused(TallykeepError):
    """More than half of the backups would go, and nobody has said that they may."""

    code: ClassVar[str] = "retention_refused"


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What is to become of a tier."""

    cluster: str
    tier: str
    time: float  # Unix seconds, by the clock it was made by
    decisions: Sequence[Decision]  # in the order the backups were made
    held: int  # backups that are promised now
    forget: Mapping[str, str]  # ids that are let go of, and why
    recall: Mapping[str, str]  # ids that are promised again, and why
    expired: Sequence[BackupEntry]  # let go before, and their grace period is over
    leaving: Mapping[str, float]  # ids that are let go, and when their objects go
    unfinished: bool  # a run before this one did not come to the end of its deletions
    objects: Needless
    orphans: Orphans
    wal: NeedlessWal

    @property
    def needs_yes(self) -> bool:
        """Whether more than half of what is promised would go."""
        return len(self.forget) * 2 > self.held

    @property
    def freed(self) -> int:
        """Bytes that are deleted."""
        return self.objects.freed + self.orphans.bytes + self.wal.bytes

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do. For orphans alone nothing is done: they go with the next that goes."""
        return not (self.forget or self.recall or self.expired or self.unfinished or self.wal.segments)


class _Fate(NamedTuple):
    """What follows from the decisions."""

    forget: Mapping[str, str]
    recall: Mapping[str, str]
    leaving: Mapping[str, float]


async def plan_retention(cluster: Cluster, tier: Tier, settings: PostgresSettings, clock: Clock) -> RetentionPlan:
    """What would be done now; nothing is changed.

    Raises: ConfigError for an unknown time zone; IntegrityError where what is kept is not whole; StoreErrors.
    """
    plan = await _plan(cluster, tier, await tier.repository(clock), settings, clock)
    if plan.idle:  # orphans alone are left where they are
        return replace(plan, orphans=plan.orphans._replace(due=(), bytes=0))
    return plan


async def apply(
    cluster: Cluster, tier: Tier, settings: PostgresSettings, clock: Clock, *, yes: bool = False
) -> RetentionPlan:
    """Do what holds now; what was done. Run again after an error it goes on from there.

    Raises: RetentionRefused where more than half of the backups would go, without `yes`; Refused where another server
    writes to tier 2; Fenced; and as plan_retention does.
    """
    try:
        return await _apply(cluster, tier, settings, clock, yes=yes)
    except Unavailable as error:
        if tier.number != TIER_1 or not await _without_a_record(cluster, tier, clock):
            raise
        _log.warning("%s: WAL that no backup needs went first, since: %s", cluster.name, error)
    return await _apply(cluster, tier, settings, clock, yes=yes)


async def _without_a_record(cluster: Cluster, tier: Tier, clock: Clock) -> bool:
    """Delete WAL that none of the backups needs whose bytes are there; whether any went. Raises: as needless_wal does.

    A disk that is full takes no record of what is to go, and could never be freed.
    """
    listed = await Repository.listed(tier.base, clock, tier.cipher)
    going = await needless_wal(cluster, tier, floor_of(in_order(listed)))
    await delete_wal(cluster, tier, going)
    return bool(going.segments)


async def _apply(cluster: Cluster, tier: Tier, settings: PostgresSettings, clock: Clock, *, yes: bool) -> RetentionPlan:
    listed = await Repository.listed(tier.base, clock, tier.cipher)
    plan = await _plan(cluster, tier, listed, settings, clock, with_objects=False)
    if plan.idle:  # nobody is stopped for nothing
        return plan
    await _claim(cluster, tier, clock)
    async with writing(cluster, tier, clock) as repository:
        plan = await _plan(cluster, tier, repository, settings, clock)
        if plan.needs_yes and not yes:
            raise RetentionRefused(
                f"{cluster.name}: tier {tier.number}: {len(plan.forget)} of {plan.held} backups would be let go of at "
                "once, which is more than half. Nothing was done. Is the clock right, and are the settings? "
                "`tallykeep postgres retention --dry-run` explains each, and --yes does it."
            )
        await let_go(repository, plan.forget, plan.recall, plan.time)
        await remove(repository, plan.objects, plan.orphans.due, plan.time)
        await delete_wal(cluster, tier, plan.wal)
        await in_thread(note_seen, cluster.folder, tier.number, plan.orphans)
    return plan


async def _claim(cluster: Cluster, tier: Tier, clock: Clock) -> None:
    """See that the tier is ours to delete from. Raises: as apply does."""
    if tier.number != TIER_1 and not await claim(cluster, tier, clock):
        raise ConfigError(
            f"{cluster.name}: tier 1 in {cluster.folder} knows no cluster yet: what tier 2 lets go of is for the "
            "server to say that writes to it."
        )


def rules_of(settings: PostgresSettings, tier: Tier) -> RetentionSettings:
    """What a tier is to keep."""
    return settings.retention if tier.number == TIER_1 else settings.tier2_retention


async def _plan(
    cluster: Cluster, tier: Tier, repository: Repository, settings: PostgresSettings, clock: Clock, *,
    with_objects: bool = True,
) -> RetentionPlan:  # fmt: skip
    now, rules = clock.time(), rules_of(settings, tier)
    other = await _other(cluster, tier, clock)
    entries = in_order(repository)
    candidates = await _candidates(tier, repository, entries, other)
    decisions = _decided(candidates, rules, settings.backup.timezone, now)
    fate = _fate(repository, decisions, rules.grace, now)
    expired = [entry for entry in entries if fate.leaving.get(entry.id, float("inf")) <= now]
    staying = [entry for entry in entries if entry not in expired]
    objects, beside = Needless(), Orphans()
    if with_objects:
        objects, beside = await _going(cluster, tier, repository, staying, expired, rules.grace, now)
    wal = await needless_wal(cluster, tier, floor_of([*staying, *_yet_to_come(tier, repository, other)]))
    return RetentionPlan(
        cluster.name, tier.number, now, decisions, len(repository.backups), fate.forget, fate.recall, expired,
        fate.leaving, bool(repository.unfinished), objects, beside, wal,
    )  # fmt: skip


async def _going(
    cluster: Cluster, tier: Tier, repository: Repository, staying: Sequence[BackupEntry],
    expired: Sequence[BackupEntry], grace: float, now: float,
) -> tuple[Needless, Orphans]:  # fmt: skip
    """Objects that go: with backups, and beside them."""
    before = await in_thread(recall_seen, cluster.folder, tier.number)
    beside = await orphans(repository, before, now, grace)
    return await needless(repository, staying, expired, now - grace) if expired else Needless(), beside


async def _other(cluster: Cluster, tier: Tier, clock: Clock) -> Repository | None:
    """The other tier's backups, where there is another one."""
    found = [each for each in cluster.tiers if each.number != tier.number]
    return await Repository.listed(found[0].base, clock, found[0].cipher) if found else None


def in_order(repository: Repository) -> list[BackupEntry]:
    """Backups whose bytes are there, in the order they were made: that of their positions in WAL.

    Copies come to tier 2 in any order, and clocks are set.
    """
    entries = [*repository.backups.values(), *repository.in_grace.values()]
    known = {id: number for number, id in enumerate(repository.known)}
    return sorted(entries, key=lambda entry: (entry.timeline, LSN.parse(entry.start_lsn), known[entry.id]))


async def _candidates(
    tier: Tier, repository: Repository, entries: Sequence[BackupEntry], other: Repository | None
) -> list[Candidate]:
    coverage = await coverage_of(tier.wal)
    awaited = set() if other is None or tier.number != TIER_1 else repository.known.keys() - other.known.keys()
    found = []
    for entry in entries:
        verdict = repository.verified.get(entry.id)
        flaw = "" if coverage.reach(entry).usable else "the WAL that it needs is not all there"
        if verdict is not None and not verdict.sound:
            flaw = f"verification found: {verdict.problem}"
        sound = verdict is not None and verdict.sound
        pin = "not yet in tier 2" if entry.id in awaited and not flaw else ""  # what is damaged never comes there
        found.append(Candidate(entry.id, entry.name, entry.finished, sound, flaw, pin))
    return found


def _decided(candidates: Sequence[Candidate], rules: RetentionSettings, zone: str, now: float) -> list[Decision]:
    try:
        return decide(candidates, rules, zone, now)
    except (ZoneInfoNotFoundError, ValueError):
        raise ConfigError(f"postgres: backup: {zone!r} is no time zone; one looks like Europe/Berlin") from None


def _fate(repository: Repository, decisions: Sequence[Decision], grace: float, now: float) -> _Fate:
    keep = {decision.backup.id: decision.keep for decision in decisions}
    why = {decision.backup.id: "; ".join(decision.reasons) for decision in decisions}
    forget = {id: why[id] for id in repository.backups if not keep[id]}
    recall = {id: why[id] for id in repository.in_grace if keep[id]}
    leaving = {id: repository.forgotten[id].time + grace for id in repository.in_grace if not keep[id]}
    return _Fate(forget, recall, leaving | dict.fromkeys(forget, now + grace))


def _yet_to_come(tier: Tier, repository: Repository, other: Repository | None) -> list[BackupEntry]:
    """Backups of tier 1 that tier 2 is to get: their WAL must not go before they come."""
    if other is None or tier.number == TIER_1:
        return []
    return [entry for id, entry in other.backups.items() if id not in repository.known]
