"""When what is scheduled should have been done, on the page."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from tests.support.postgres_retention import DAY, Hands, backups, opened, settings_of

from tallykeep.config.model import Secret
from tallykeep.systems.postgres.cluster import Cluster
from tallykeep.systems.postgres.figures import BaseCollector
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.overdue import DueCollector
from tallykeep.systems.postgres.settings import (
    BackupSettings,
    DrillSettings,
    PostgresSettings,
    RetentionSettings,
    VerifySettings,
)

BERLIN = ZoneInfo("Europe/Berlin")


async def due(settings: PostgresSettings, cluster: Cluster) -> dict[str, datetime]:
    """What is due when, as the page has it."""
    base = BaseCollector(cluster, Hands(), 1.0)
    async for _ in base.collect():
        pass
    found = DueCollector(cluster, settings, base).collect()
    return {each.labels[1]: datetime.fromtimestamp(float(str(each.value)), BERLIN) async for each in found}


async def test_it_is_counted_from_the_last_success(tmp_path: Path) -> None:
    """By each schedule and its zone; nothing before there is a backup, nor of what is not scheduled."""
    settings = replace(
        settings_of(tmp_path, RetentionSettings(), RetentionSettings()),
        backup=BackupSettings(schedule="30 2 * * 0", timezone="Europe/Berlin"),
        verify=VerifySettings("0 5 1 * *"),
        drill=DrillSettings(schedule="0 4 * * *"),
    )
    settings = replace(settings, clusters=(replace(settings.clusters[0], url=Secret("host=db")),))
    cluster = await opened(settings)
    assert await due(settings, cluster) == {}
    monday = datetime(2026, 10, 19, 3, tzinfo=BERLIN).timestamp()
    await backups(cluster, 2, until=monday)
    first = datetime(2026, 10, 18, 4, tzinfo=BERLIN)
    assert await due(settings, cluster) == {
        "backup": datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),  # the night that summer time ends
        "verification": datetime(2026, 11, 1, 5, tzinfo=BERLIN),
        "drill": first,
    }
    journal = Journal(cluster.folder)
    journal.verified("1", monday + 40 * DAY, "")
    journal.drilled({"outcome": "failed", "last_success": monday + 3600})
    found = await due(settings, cluster)
    assert found["verification"] == datetime(2026, 11, 1, 5, tzinfo=BERLIN), "tier 2 was never read"
    assert found["drill"] == datetime(2026, 10, 20, 4, tzinfo=BERLIN)
    journal.verified("2", monday + 14 * DAY, "")
    assert (await due(settings, cluster))["verification"] == datetime(2026, 12, 1, 5, tzinfo=BERLIN)
    never = replace(settings, backup=BackupSettings(schedule=""), verify=VerifySettings(""), drill=DrillSettings(""))
    assert await due(never, cluster) == {}
