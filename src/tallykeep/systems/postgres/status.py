"""`tallykeep postgres status`: is everything protected? Answered by the primary and by what lies in the tiers.

No server need run. What cannot be told is unknown, and says why; it is never good.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import suppress

from tallykeep.clock import Clock
from tallykeep.errors import IntegrityError, TallykeepError
from tallykeep.runtime.telling import tell
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres import slot
from tallykeep.systems.postgres.archiver import LOCK
from tallykeep.systems.postgres.cluster import Cluster, Tier
from tallykeep.systems.postgres.collector import shared
from tallykeep.systems.postgres.condition import Status, TierStatus
from tallykeep.systems.postgres.coverage import Held, gaps
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.listing import Listed, listing
from tallykeep.systems.postgres.locks import BACKUP, is_held
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.opening import SERVER
from tallykeep.systems.postgres.reach import Coverage, coverage_of
from tallykeep.systems.postgres.replication import Connection
from tallykeep.systems.postgres.restoring.tail import look
from tallykeep.systems.postgres.restoring.tiered_wal import TieredWal
from tallykeep.systems.postgres.working import NO_ANSWER, Work, run_work
from tallykeep.units import format_bytes, format_timestamp

BEHIND = {"1": 16 << 20, "2": 64 << 20}  # bytes of WAL that a tier may lack without a word
OLD = 2 * 86_400.0  # seconds after which a backup is old
_TIMEOUT = 10.0  # seconds in which a primary answers
_SEGMENTS = 2  # that are read for the newest transaction


def run_status(args: argparse.Namespace) -> int:
    """`status`."""

    async def work(work: Work) -> int:
        found = [await status_of(cluster, work.clock) for cluster in work.clusters]
        now = work.clock.time()
        tell(args, [one.as_json() for one in found], [line for one in found for line in one.lines(now)])
        statuses = {one.exit_status for one in found}
        return 1 if 1 in statuses else max(statuses)

    return run_work(args, work)


async def status_of(cluster: Cluster, clock: Clock) -> Status:
    """Look at one cluster. What cannot be looked at is told and not raised."""
    status = Status(cluster.name)
    await in_thread(_here, cluster, status)
    if cluster.conninfo:
        await _ask(cluster, status)
    for tier in cluster.tiers:
        await _look(cluster, tier, status, clock)
    _judge(status, clock.time())
    return status


def _here(cluster: Cluster, status: Status) -> None:
    status.server = is_held(cluster.folder / SERVER) or is_held(cluster.folder / LOCK)
    status.backing_up = is_held(cluster.folder / BACKUP)
    status.journal = Journal(cluster.folder).read()


async def _ask(cluster: Cluster, status: Status) -> None:
    """What the primary says."""

    _ = cluster.source  # a connection string that is none is wrong usage, and no silence
    try:
        state = await in_thread(_state, cluster)
    except TallykeepError as error:
        status.unknown.append(f"the primary does not answer: {error}")
        return
    status.primary, status.retained = state, state.retained
    status.streaming = state.slot is not None and state.slot.active
    if (known := await in_thread(_system, cluster)) and state.system_id not in (0, known):
        status.problems.append(
            f"another cluster answers: its system identifier is {state.system_id}, and {known} is protected here. "
            "Give it a name of its own"
        )
        return
    if state.slot is None:
        status.problems.append(f"there is no replication slot {cluster.slot}: start `tallykeep postgres server`")
        return
    status.safe = state.slot.safe
    if state.slot.lost:
        status.problems.append(f"the slot {cluster.slot} is lost: WAL is missing, and a new base backup is needed")
    elif not state.slot.active:
        status.problems.append("no WAL is streaming: start `tallykeep postgres server`, or see its log")


def _state(cluster: Cluster) -> slot.ServerState:
    with Connection(cluster.source.conninfo, timeout=_TIMEOUT) as connection:
        return slot.look(connection, cluster.slot)


def _system(cluster: Cluster) -> int:
    """The system identifier of what is held; 0 where that is not known."""
    with suppress(TallykeepError):
        identity = cluster.archive.identity
        return 0 if identity is None else identity.system_id
    return 0


async def _look(cluster: Cluster, tier: Tier, status: Status, clock: Clock) -> None:
    """What a tier holds."""
    listed = await listing(cluster, tier, clock)
    if listed.status == NO_ANSWER:  # asking again would only take as long again
        status.unknown.append(f"tier {tier.number} cannot be read: {listed.problem}")
        status.tiers.append(TierStatus(tier.number))
        return
    primary = await _moved_on(cluster, status)
    try:
        coverage = await coverage_of(tier.wal)
    except TallykeepError as error:
        status.unknown.append(f"tier {tier.number} cannot be read: {error}")
        status.tiers.append(TierStatus(tier.number))
        return
    newest = coverage.newest
    missing = () if newest is None else tuple(gaps(coverage.held, coverage.histories[newest.timeline]))
    if listed.problem:
        status.unknown.append(f"the backups of tier {tier.number} cannot be read: {listed.problem}")
    status.tiers.append(TierStatus(
        tier.number, None if newest is None else newest.end, 0 if newest is None else newest.timeline,
        await _behind(cluster, tier, status, newest, primary),
        await _newest_end(tier, coverage, status),
        tuple(coverage.ranges()), missing, max(listed.backups, key=lambda one: one.entry.started, default=None),
        None if listed.problem else len(listed.backups),
        tuple(one for one in listed.backups if one.verified is not None and not one.verified.sound),
    ))  # fmt: skip


async def _moved_on(cluster: Cluster, status: Status) -> slot.ServerState | None:
    """The primary anew, just before a tier's WAL is looked at: it has moved on while other things were."""
    if status.primary is None:
        return None
    try:
        return await in_thread(_state, cluster)
    except TallykeepError as error:
        status.unknown.append(f"the primary does not answer any more: {error}")
        return None


async def _behind(
    cluster: Cluster, tier: Tier, status: Status, newest: Held | None, primary: slot.ServerState | None
) -> int | None:
    """Bytes that the primary has and the tier has not; None, with the reason, where that cannot be told."""
    if primary is None:
        return None
    timeline, end = (0, LSN(0)) if newest is None else (newest.timeline, newest.end)
    try:
        return max(0, primary.lsn - await in_thread(shared, cluster.archive, timeline, end, primary))
    except TallykeepError as error:
        status.unknown.append(f"tier {tier.number}: what would be lost with the primary cannot be told: {error}")
        return None


async def _newest_end(tier: Tier, coverage: Coverage, status: Status) -> float | None:
    """When the newest transaction ended that the tier holds, where its last segments have one."""
    if coverage.newest is None:
        return None
    history = coverage.histories[coverage.newest.timeline]
    try:
        wal = TieredWal([tier.wal])
        return (await look(wal, await tier.wal.segments(), history, coverage.ranges()[-1], _SEGMENTS)).last_end
    except IntegrityError as error:
        status.problems.append(f"tier {tier.number}: the end of its WAL is damaged: {error}")
    except TallykeepError as error:
        status.unknown.append(f"tier {tier.number}: the end of its WAL cannot be read: {error}")
    return None


def _judge(status: Status, now: float) -> None:
    """What is wrong."""
    for tier in status.tiers:
        wrong = status.problems
        name = f"tier {tier.number}"
        if tier.gaps and (tier.newest is None or tier.newest.reach.end < tier.gaps[-1].end):
            wrong.append(f"{name}: WAL is missing: no backup from before the gap reaches a moment after it")
        if tier.behind is not None and tier.behind > BEHIND[tier.number]:
            wrong.append(f"{name}: is {format_bytes(tier.behind)} of WAL behind the primary")
        if tier.backups == 0:
            wrong.append(f"{name}: holds no base backup: nothing can be restored from it")
        for one in tier.damaged:
            wrong.append(f"{name}: the backup {one.entry.name} is damaged: {one.verified and one.verified.problem}")
        if tier.newest is not None:
            wrong.extend(f"{name}: {problem}" for problem in _of_backup(tier.newest, now))
    backups = status.journal.backups
    if backups.latest_failure > backups.latest_completion:
        status.problems.append(f"the latest base backup failed: {backups.problem}")
    for number, found in status.journal.verified.items():
        if found.latest and not found.sound:
            status.problems.append(f"tier {number}: verification found damage: {found.problem}")
    drill = status.journal.drill
    if drill and drill.get("outcome") != "ok":
        status.problems.append(
            f"the latest drill is {drill.get('outcome')}: {drill.get('problem') or drill.get('message')}"
        )


def _of_backup(newest: Listed, now: float) -> Iterator[str]:
    entry = newest.entry
    if not newest.reach.usable:
        yield f"the newest backup {entry.name} cannot be restored: its WAL is not there"
    if now - entry.started > OLD:
        yield f"the newest backup is from {format_timestamp(round(entry.started))}"
