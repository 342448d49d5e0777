"""Retention at work: after each backup and once a day, on every tier, written down in the journal.

Nobody is there to say yes, so where more than half of a tier's backups would go nothing is done, and a figure and its
alert say so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from tallykeep.clock import Clock
from tallykeep.errors import TallykeepError
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.cluster import Cluster, Tier
from tallykeep.systems.postgres.journal import Journal, Retained
from tallykeep.systems.postgres.retention.planning import RetentionPlan, RetentionRefused, apply
from tallykeep.systems.postgres.settings import PostgresSettings

_DAY = 86400.0  # seconds
_AGAIN = 3600.0  # seconds after which it is tried again where it failed: tier 1 grows while tier 2 is away

_log = logging.getLogger(__name__)


async def retain(
    cluster: Cluster, tier: Tier, settings: PostgresSettings, clock: Clock, *, yes: bool = False
) -> RetentionPlan:
    """Let go of what a tier keeps no longer, and write that down; what was done. Raises: as planning.apply does."""
    journal = Journal(cluster.folder)
    try:
        plan = await apply(cluster, tier, settings, clock, yes=yes)
    except RetentionRefused:
        await in_thread(journal.retention_refused, tier.number)
        raise
    await in_thread(journal.retained, tier.number, round(plan.time, 3), len(plan.forget), plan.freed)
    return plan


async def maintain(
    cluster: Cluster, settings: PostgresSettings, clock: Clock,
    failed: Callable[[TallykeepError], None] = lambda _: None,
) -> Sequence[RetentionPlan]:  # fmt: skip
    """The same for every tier, with nobody to say yes; what was done. Errors are logged and told to `failed`, and the
    other tier is done."""
    done = []
    for tier in cluster.tiers:
        try:
            plan = await retain(cluster, tier, settings, clock)
        except TallykeepError as error:
            _log.error("%s: retention of tier %s: %s", cluster.name, tier.number, error)
            failed(error)
            continue
        done.append(plan)
        if not plan.idle:
            _log.info(
                "%s: retention of tier %s: %d backups let go, %d gone, %d bytes freed",
                cluster.name, tier.number, len(plan.forget), len(plan.expired), plan.freed,
            )  # fmt: skip
    return done


class RetentionService:
    """Service. Once a day for each cluster, and again after an hour where it failed.

    What was missed while nothing ran is done at the start.
    """

    name = "postgres-retention"

    def __init__(self, clusters: Sequence[Cluster], settings: PostgresSettings, clock: Clock) -> None:
        self._clusters = clusters
        self._settings = settings
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        due = {number: await self._first(cluster) for number, cluster in enumerate(self._clusters)}
        while True:
            number = min(due, key=lambda number: due[number])
            await self._clock.sleep(due[number] - self._clock.monotonic())
            failed: list[TallykeepError] = []
            await maintain(self._clusters[number], self._settings, self._clock, failed.append)
            again = any(not isinstance(error, RetentionRefused) for error in failed)
            due[number] = self._clock.monotonic() + (_AGAIN if again else _DAY)

    async def _first(self, cluster: Cluster) -> float:
        """When it is due, by the clock that nobody sets. A last time in the future is none."""
        done = (await in_thread(Journal(cluster.folder).read)).retention
        latest = min(done.get(tier.number, Retained()).latest for tier in cluster.tiers)
        passed = self._clock.time() - latest
        return self._clock.monotonic() + (_DAY - passed if 0 <= passed < _DAY else 0)
