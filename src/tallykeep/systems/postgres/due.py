"""When work is due, for its schedule: which base backup counts as the last, and when the next cannot wait; since when
there has been something to verify and to drill with.

After a gap in WAL nothing can be restored to a moment behind it until there is another base backup.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tallykeep.clock import Clock
from tallykeep.errors import NotFound
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.cluster import Cluster
from tallykeep.systems.postgres.coverage import Gap
from tallykeep.systems.postgres.figures import held_backups
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.locks import BACKUP, is_held
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.reach import coverage_of
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.repository.repository import Repository

_POLL = 1.0  # seconds between two looks whether another process has ended


def last_backup(cluster: Cluster, clock: Clock) -> Callable[[], Awaitable[float | None]]:
    """When the newest backup was begun that can be restored.

    One without its WAL is none; and none counts where an attempt after it has failed.
    """

    async def last() -> float | None:
        done = (await in_thread(Journal(cluster.folder).read)).backups
        if done.latest_failure > done.latest_completion:
            return None
        backups, coverage = await held_backups(cluster, clock), await coverage_of(cluster.tier1.wal)
        return max((entry.started for entry in backups if coverage.reach(entry).usable), default=None)

    return last


async def first_backup(cluster: Cluster, clock: Clock) -> float | None:
    """When the first base backup was finished, also one that is gone; None where there was none.

    What was never done counts as missed from then on: else a machine that is off at that time every week never does it.
    """
    try:
        listed = await Repository.listed(cluster.tier1.base, clock, cluster.cipher)
    except NotFound:
        return None
    return min((entry.finished for entry in listed.known.values()), default=None)


async def left_to_another(cluster: Cluster, clock: Clock) -> bool:
    """Whether another process was taking a base backup, and it came to be one. Returns once that has ended."""
    lock = cluster.folder / BACKUP
    if not await in_thread(is_held, lock):
        return False
    while await in_thread(is_held, lock):
        await clock.sleep(_POLL)
    begun = (await in_thread(Journal(cluster.folder).read)).backups.latest_start
    newest = await last_backup(cluster, clock)()
    return newest is not None and newest >= begun


def behind_gap(cluster: Cluster, clock: Clock) -> Callable[[], Awaitable[bool]]:
    """Whether WAL was lost, and no base backup begins behind that: by positions, since clocks are set."""
    healed: Gap | None = None  # the newest gap, once a backup begins behind it

    async def urgent() -> bool:
        nonlocal healed
        gaps = await in_thread(cluster.archive.recorded_gaps)
        if not gaps or gaps[-1] == healed:
            return False
        if any(_is_behind(entry, gaps[-1]) for entry in await held_backups(cluster, clock)):
            healed = gaps[-1]
            return False
        return True

    return urgent


def _is_behind(entry: BackupEntry, gap: Gap) -> bool:
    return (entry.timeline, LSN.parse(entry.start_lsn)) >= (gap.timeline, gap.end)
