"""`run_backup`: a base backup from its lock to its verdict, as the schedule and `tallykeep postgres backup` take it.

It counts as complete when every file is in tier 1, when the WAL from its start to its stop is there too, and when its
bytes have been read back, unless the settings say otherwise. Until then nothing is green: without its WAL a backup
cannot be restored. What was done is written to the journal, whichever process did it.
Source: Klio's spans of a backup: backup, backup_run, backup_verify, backup_maintenance.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from tallykeep.clock import Clock
from tallykeep.errors import IntegrityError, RestoreError, TallykeepError
from tallykeep.runtime.threads import in_thread
from tallykeep.runtime.tracing import tracer
from tallykeep.systems.postgres.archiver import LOCK
from tallykeep.systems.postgres.basebackup.backup import BackupRequest, back_up
from tallykeep.systems.postgres.basebackup.protocol import Begun
from tallykeep.systems.postgres.cluster import Cluster
from tallykeep.systems.postgres.journal import Entries, Journal
from tallykeep.systems.postgres.locks import BACKUP, exclusive, is_held, writing
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.reach import coverage_of
from tallykeep.systems.postgres.repository.chunk import Frames
from tallykeep.systems.postgres.repository.entries import BackupEntry, VerifiedEntry
from tallykeep.systems.postgres.retention.service import maintain
from tallykeep.systems.postgres.settings import PostgresSettings
from tallykeep.units import format_timestamp

ALONE = 20.0  # seconds that WAL is waited for while nobody receives any
PATIENCE = 600.0  # seconds that it is waited for while somebody does, without any coming
_POLL = 0.5

_log = logging.getLogger(__name__)
_tracer = tracer("klio.backup")


async def _nothing(cluster: Cluster, entry: BackupEntry) -> None:
    return


@dataclass(frozen=True, slots=True)
class Watching:
    """Who is told of a backup as it goes on. The first three are called from another thread."""

    begun: Callable[[Begun], None] = lambda _: None
    advance: Callable[[int], None] = lambda _: None
    stage: Callable[[str], None] = lambda _: None  # what is done now, for people; from the loop
    done: Callable[[Cluster, BackupEntry], Awaitable[None]] = _nothing  # it is complete


async def run_backup(
    cluster: Cluster, settings: PostgresSettings, clock: Clock, name: str = "", watching: Watching | None = None
) -> BackupEntry:
    """Take a base backup into tier 1, see that it can be restored, and let go of what is kept no longer.

    Raises: Conflict while another one is taken; RestoreError where its WAL does not come; IntegrityError where what was
    stored is not what was sent; SourceErrors; StoreErrors; ConfigError.
    """
    watching = watching or Watching()
    with exclusive(cluster.folder / BACKUP, "a backup is being taken"):
        journal, started, since = Journal(cluster.folder), clock.time(), clock.monotonic()
        name = name or format_timestamp(int(started)).replace(".000", "")
        stages = _Stages(clock)
        with _tracer.span("backup", {"backup.name": name}):
            try:
                await in_thread(journal.backups, latest_start=round(started, 3), problem="")
                entry = await _backup(cluster, settings, clock, name, watching, stages)
            except asyncio.CancelledError:
                await in_thread(_interrupted, journal, stages.seconds)
                raise
            except Exception as error:
                await in_thread(_failed, journal, stages.seconds, clock.time(), clock.monotonic() - since, error)
                raise
            await in_thread(_succeeded, journal, stages.seconds, clock.time(), clock.monotonic() - since)
            await watching.done(cluster, entry)
            await _maintain(cluster, settings, clock, name, watching)
    return entry


class _Stages:
    """How long each stage took."""

    def __init__(self, clock: Clock) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = clock

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        since = self._clock.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self._clock.monotonic() - since, 3)


async def _backup(
    cluster: Cluster, settings: PostgresSettings, clock: Clock, name: str, watching: Watching, stages: _Stages
) -> BackupEntry:
    attributes = {"backup.name": name, "cluster_name": cluster.name}
    with _tracer.span("backup_run", attributes) as span:
        watching.stage("base backup")
        with stages.stage("copy"):
            entry = await _take(cluster, settings, clock, name, watching)
        span.set("backup.id", entry.id)
        span.set("backup.bytes", entry.raw)
        watching.stage("waiting for its WAL")
        with stages.stage("wal"):
            await wait_for_wal(cluster, entry, clock)
    if settings.backup.verify:
        with _tracer.span("backup_verify", attributes):
            watching.stage("verifying")
            with stages.stage("verify"):
                await _verify(cluster, entry, clock)
    return entry


async def _maintain(cluster: Cluster, settings: PostgresSettings, clock: Clock, name: str, watching: Watching) -> None:
    """Retention. What goes wrong in it is logged and stands in its span; the backup is there all the same."""
    watching.stage("retention")
    attributes = {"backup.name": name, "cluster_name": cluster.name}
    with suppress(TallykeepError), _tracer.span("backup_maintenance", attributes):
        failed: list[TallykeepError] = []
        await maintain(cluster, settings, clock, failed.append)
        for error in failed:
            raise error


async def _take(
    cluster: Cluster, settings: PostgresSettings, clock: Clock, name: str, watching: Watching
) -> BackupEntry:
    identity = await in_thread(lambda: cluster.archive.identity)
    system_id = "" if identity is None else str(identity.system_id)
    request = BackupRequest(cluster.source.conninfo, cluster.name, name, system_id)
    async with writing(cluster, cluster.tier1, clock) as repository:
        repository.frames = Frames(cluster.cipher, settings.backup.compression_level)
        return await back_up(request, repository, clock, watching.begun, watching.advance)


async def wait_for_wal(cluster: Cluster, entry: BackupEntry, clock: Clock) -> None:
    """Return when tier 1 holds the WAL from the backup's start to its stop.

    Raises: RestoreError where it cannot come any more, and where it does not come; IntegrityError; StoreErrors.
    """
    start, stop = LSN.parse(entry.start_lsn), LSN.parse(entry.stop_lsn)
    reached, since = LSN(0), clock.monotonic()
    while True:
        coverage = await coverage_of(cluster.tier1.wal)
        if coverage.reach(entry).usable:
            return
        ends = [held.end for held in coverage.held if held.timeline == entry.timeline]
        if any(held.end >= stop and start < held.start for held in coverage.held if held.timeline == entry.timeline):
            raise _without_wal(cluster, entry, "a part of it is missing. Take another backup.")
        if max(ends, default=LSN(0)) > reached:
            reached, since = max(ends), clock.monotonic()
        receiving = await in_thread(is_held, cluster.folder / LOCK)
        if clock.monotonic() - since > (PATIENCE if receiving else ALONE):
            raise _without_wal(cluster, entry, (
                "it does not arrive, though a receiver is at work: see its log." if receiving else
                "nobody receives it: start `tallykeep postgres server`. Till then the primary "
                "keeps it for sure only where the slot is there already."
            ))  # fmt: skip
        await clock.sleep(_POLL)


def _without_wal(cluster: Cluster, entry: BackupEntry, why: str) -> RestoreError:
    return RestoreError(
        f"{cluster.name}: the files of the backup {entry.name} are in {cluster.folder}, and it cannot be restored: it "
        f"needs the WAL from {entry.start_lsn} to {entry.stop_lsn}, and {why}"
    )


async def _verify(cluster: Cluster, entry: BackupEntry, clock: Clock) -> None:
    """Read it back. Raises: IntegrityError with what was found wrong first; StoreErrors."""
    from tallykeep.systems.postgres.verifying.verify import damage_of, verify_backup  # numpy with it

    journal, tier = Journal(cluster.folder), cluster.tier1
    await in_thread(_count, journal, "verifications")
    read: dict[str, bool] = {}
    verdict = await verify_backup(tier, await tier.repository(clock), entry, clock=clock, read=read)
    problem = next(iter(verdict.problems), "")
    async with writing(cluster, tier, clock) as repository:
        told = VerifiedEntry(entry.id, round(clock.time(), 3), verdict.sound, problem)
        await repository.commit([told, *damage_of(repository, read, clock)])
    await in_thread(journal.verified, tier.number, told.time, problem, everything=False)
    if verdict.sound:
        return
    await in_thread(_count, journal, "verification_failures")
    raise IntegrityError(f"{cluster.name}: the backup {entry.name} is not what was sent: {problem}")


def _succeeded(journal: Journal, stages: dict[str, float], now: float, seconds: float) -> None:
    ended: dict[str, Any] = {"latest_completion": round(now, 3), "latest_duration": round(seconds, 3)}
    _count(journal, "successes", "ok", stages=stages, problem="", **ended)


def _failed(journal: Journal, stages: dict[str, float], now: float, seconds: float, error: Exception) -> None:
    ended: dict[str, Any] = {"latest_failure": round(now, 3), "latest_duration": round(seconds, 3)}
    category = error.code if isinstance(error, TallykeepError) else "unexpected"
    try:
        _count(journal, "failures", "failed", category, stages=stages, problem=str(error), **ended)
    except (TallykeepError, OSError) as why:
        _log.error("the failed backup is not written down: %s", why)


def _interrupted(journal: Journal, stages: dict[str, float]) -> None:
    try:
        _count(journal, "", "interrupted", stages=stages)
    except (TallykeepError, OSError) as why:
        _log.error("the interrupted backup is not written down: %s", why)


def _count(journal: Journal, counter: str, outcome: str = "", category: str = "", **changes: Any) -> None:
    """One more of these, and other fields set; "" counts nothing."""

    def to(entries: Entries) -> Entries:
        before = entries.backups
        more: dict[str, Any] = {counter: getattr(before, counter) + 1} if counter else {}
        more |= {"outcomes": _one_more(before.outcomes, outcome), "categories": _one_more(before.categories, category)}
        return replace(entries, backups=replace(before, **more, **changes))

    journal.change(to)


def _one_more(counts: dict[str, int], name: str) -> dict[str, int]:
    return {**counts, name: counts.get(name, 0) + 1} if name else counts
