"""`plan` and `restore`: from what is asked to a data directory whose server recovers when it is started.

The server itself is not started: it runs as another user, under whatever manages it. A plan reads and writes nothing
but what it is planned from. A restore that was cut is begun again with the same request and keeps what is there.
"""

from __future__ import annotations

import logging
import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tallykeep.clock import Clock
from tallykeep.errors import ConfigError, NotFound, RestoreError
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.basebackup.putting import Advance, Owner, put, unfinished
from tallykeep.systems.postgres.cluster import Cluster
from tallykeep.systems.postgres.coverage import Range, ranges
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.repository.repository import Repository
from tallykeep.systems.postgres.restoring import recovery
from tallykeep.systems.postgres.restoring.aiming import aim
from tallykeep.systems.postgres.restoring.choosing import Choice
from tallykeep.systems.postgres.restoring.gathering import Gathered, gather
from tallykeep.systems.postgres.restoring.getwal import Planned
from tallykeep.systems.postgres.restoring.recovery import Recovery
from tallykeep.systems.postgres.restoring.request import RestoreRequest, told
from tallykeep.systems.postgres.restoring.tail import MOST, Tail, look
from tallykeep.systems.postgres.restoring.tiered_wal import TieredWal

__all__ = ["Plan", "RestoreRequest", "Restored", "plan", "restore"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore would do."""

    request: RestoreRequest
    entry: BackupEntry
    tier: str  # that its files come from
    repository: Repository
    others: Sequence[Repository]  # which may heal it
    wal: TieredWal
    wal_tiers: Sequence[str]
    timeline: int  # that is recovered along
    reach: Range  # WAL without a hole, along that line
    last_commit: float | None  # Unix seconds of the newest in it, where one was found
    reason: str
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done."""

    plan: Plan
    files: int
    bytes: int
    seconds: float
    notes: Sequence[str]  # what is worth knowing before the server is started
    start: str  # how it is


async def plan(cluster: Cluster, request: RestoreRequest, clock: Clock) -> Plan:
    """What a restore would do now. Raises: RestoreError, saying what can be restored; ConfigError; StoreErrors."""
    await in_thread(_check_target, request)
    found = await gather(cluster, request.tiers, clock)
    request = await _begun(found, request)
    choice, more = await aim(found, request)
    entry = choice.candidate.entry
    await _check_identity(found, entry)
    most = MOST if request.time is not None or request.lsn is not None else 1  # else it is only told
    tail = await look(found.wal, found.segments, choice.history, choice.reach, most)
    notes = [*found.notes, *more, *_check_reach(request, choice, tail), *_gap(found, request, choice)]
    order = [choice.candidate.tier, *(tier for tier in found.repositories if tier != choice.candidate.tier)]
    repository, *others = (found.repositories[tier] for tier in order)
    return Plan(
        request, entry, choice.candidate.tier, repository, others, found.wal, found.wal_tiers,
        choice.history.timeline, choice.reach, tail.last_end, choice.reason, notes,
    )  # fmt: skip


async def restore(cluster: Cluster, plan: Plan, clock: Clock, advance: Advance = lambda _: None) -> Restored:
    """Restore as planned; `advance` is told of bytes, from threads. Everything is durable when this returns.

    Raises: RestoreError where something is in the way; IntegrityError; StoreErrors; ConfigError for the owner.
    """
    since, request = clock.monotonic(), plan.request
    owner, notes = await in_thread(_owner, request.owner), list(plan.notes)
    command = (*request.program, "postgres", "get-wal", *_options(cluster, plan))
    how = Recovery(request, plan.timeline, command)
    try:
        files = await put(
            plan.repository, plan.entry, request.target, tablespaces=request.tablespaces, others=plan.others,
            owner=owner, advance=advance, settle=partial(_settle, request.target, how, owner, notes),
        )  # fmt: skip
    except NotFound as error:
        raise RestoreError(
            f"{error} Where retention let the backup go meanwhile, empty {request.target} and restore another one."
        ) from None
    count = sum(file.kind == "file" for file in files.files)
    taken = clock.monotonic() - since
    start = await in_thread(recovery.start_command, request.target)
    return Restored(plan, count, plan.entry.raw, taken, notes, start)


def _options(cluster: Cluster, plan: Plan) -> Sequence[str]:
    """Options of get-wal: where to look, for what, in which tiers, and how far WAL is held."""
    tiers = [word for tier in plan.wal_tiers for word in ("--tier", tier)]
    planned = str(Planned(plan.timeline, plan.reach.end))
    return [*plan.request.get_wal, "--cluster", cluster.name, *tiers, "--planned", planned]


def _settle(folder: Path, how: Recovery, owner: Owner | None, notes: list[str]) -> None:
    """Recovery settings, once every file of the backup is on disk."""
    notes += recovery.notes(folder)
    recovery.write(folder, how)
    for name in recovery.made(how.request):
        (folder / name).chmod(0o600)
        if owner is not None:
            os.chown(folder / name, owner.user, owner.group)


def _check_target(request: RestoreRequest) -> None:
    folder = request.target
    try:
        if folder.exists() and any(folder.iterdir()) and not unfinished(folder):
            raise RestoreError(f"{folder} is not empty: restore into a new folder, or empty this one.")
    except OSError as error:
        raise RestoreError(f"{folder}: cannot be restored into: {error.strerror}.") from None


async def _begun(found: Gathered, request: RestoreRequest) -> RestoreRequest:
    """A restore that was cut goes on with its own backup, if there is no word of another."""
    begun = await in_thread(unfinished, request.target)
    known = any(each.entry.id == begun for each in found.holdings.candidates)
    if request.backup or not known:
        return request
    found.notes.append(f"{request.target} holds an unfinished restore of the backup {begun}, which is gone on with")
    return replace(request, backup=begun)


async def _check_identity(found: Gathered, entry: BackupEntry) -> None:
    if found.wal.sources:
        system_id = (await found.wal.identity()).system_id
        if str(system_id) != entry.system_id:
            raise RestoreError(
                f"The backup {entry.name} is of the system {entry.system_id}, and the WAL of {system_id}: they do not "
                "go together."
            )


def _check_reach(request: RestoreRequest, choice: Choice, tail: Tail) -> Sequence[str]:
    """What is to be said of a target that may not be reached. Raises: RestoreError for one that cannot be."""
    entry, end = choice.candidate.entry, choice.reach.end
    if request.lsn is not None and tail.last_record is not None and request.lsn > tail.last_record:
        raise RestoreError(
            f"{request.lsn} lies beyond the last record of the WAL that is held, at {tail.last_record}: leave the LSN "
            f"out to restore all of it, or give one from {entry.stop_lsn} to {tail.last_record}."
        )
    if request.time is not None:
        if tail.last_end is None:
            return [f"whether WAL reaches to {told(request.time)} is not known: its end, {end}, holds no commit"]
        if request.time >= tail.last_end:
            raise RestoreError(
                f"{told(request.time)} lies beyond the last commit in the WAL that is held without a gap, of "
                f"{told(tail.last_end)} before {end}: PostgreSQL could not tell that it has arrived. Leave the time "
                "out to restore all of it, or give an earlier one."
            )
    if request.name and request.backup:
        return [f"whether WAL after this backup holds the restore point {request.name!r} is found out by recovery; "
                "where it lies before the backup give an earlier --backup"]  # fmt: skip
    return ()


def _gap(found: Gathered, request: RestoreRequest, choice: Choice) -> Sequence[str]:
    """What is to be said where WAL is held behind a gap, which all of it, or a restore point, may lie behind."""
    end, *behind = [each.end for each in ranges(found.holdings.held, choice.history) if each.end >= choice.reach.end]
    if not behind or request.time is not None or request.lsn is not None or request.immediate:
        return ()
    return [f"WAL is missing behind {end}: what is held behind that gap, to {behind[-1]}, is NOT recovered"]


def _owner(user: str) -> Owner | None:
    """Raises: ConfigError for a user that is not there, or that only root may give files to."""
    if not user:
        return None
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"owner: there is no user {user!r} on this machine") from None
    if os.geteuid() not in (0, found.pw_uid):
        raise ConfigError(f"owner: only root may give files to {user!r}; restore as that user, or as root")
    return Owner(found.pw_uid, found.pw_gid)
