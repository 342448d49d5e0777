"""Drills on their schedule, one cluster at a time.

One that did not come to restore anything is tried again after a while; of a restore that is large once a day is enough.
"""

from __future__ import annotations

import asyncio
import logging

from tallykeep.clock import Clock
from tallykeep.errors import Unavailable
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.cluster import Cluster
from tallykeep.systems.postgres.drilling.result import DrillResult
from tallykeep.systems.postgres.due import first_backup
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.scheduling import Schedule
from tallykeep.systems.postgres.settings import PostgresSettings
from tallykeep.units import format_duration

_log = logging.getLogger(__name__)


def drill_schedule(cluster: Cluster, settings: PostgresSettings, clock: Clock, turn: asyncio.Lock) -> Schedule:
    """The service that drills a cluster when settings say so; `turn` is shared with all others that drill."""

    async def last() -> float | None:
        found = (await in_thread(Journal(cluster.folder).read)).drill.get("started")
        return float(found) if found else await first_backup(cluster, clock)

    async def work() -> None:
        from tallykeep.systems.postgres.drilling.drill import drill  # numpy with it, which no server needs till then

        _tell(await drill(cluster, settings, clock))

    return Schedule(
        f"drill-{cluster.name}", settings.drill.schedule, settings.backup.timezone, clock, work=work, last=last,
        turn=turn,
    )  # fmt: skip


def _tell(result: DrillResult) -> None:
    """Log it. Raises: Unavailable where it is to be tried again."""
    if result.ok:
        _log.info(
            "%s: drill from tier %s ok: recovered to %s in %s", result.cluster, result.tier, result.recovered_lsn,
            format_duration(result.recovery_time),
        )  # fmt: skip
    elif result.outcome == "failed":
        _log.error("%s: drill from tier %s failed: %s", result.cluster, result.tier, result.why)
    else:
        told = f"{result.cluster}: the drill from tier {result.tier} is inconclusive: {result.why}"
        if not result.restore_seconds:
            raise Unavailable(told)
        _log.warning("%s", told)
