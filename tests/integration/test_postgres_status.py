"""What `status` makes of a server whose position says nothing of what would be lost."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_wal import give, place, primary

from tallykeep.clock import SystemClock
from tallykeep.config.model import Secret
from tallykeep.errors import Unreachable
from tallykeep.systems.postgres import slot
from tallykeep.systems.postgres.cluster import open_cluster
from tallykeep.systems.postgres.condition import Status
from tallykeep.systems.postgres.replication import Connection
from tallykeep.systems.postgres.settings import ClusterSettings, PostgresSettings
from tallykeep.systems.postgres.status import status_of

__all__ = ["place"]


async def test_another_cluster_and_a_standby_that_was_cut_off_leave_it_unknown(place: Path, tmp_path: Path) -> None:
    """Neither is 0 behind: another system identifier is wrong, and a standby without a primary cannot tell."""
    with primary(place) as server:
        with psycopg.connect(server.dsn()) as db:
            [system] = db.execute("SELECT system_identifier FROM pg_control_system()").fetchone() or (0,)
        status = await looked_at(tmp_path / "right", server.dsn(), system)
        assert behind(status) is not None and "the primary is at" in next(status.lines(0))
        status = await looked_at(tmp_path / "wrong", server.dsn(), 7)
        assert behind(status) is None and status.exit_status == 1
        assert any(f"another cluster answers: its system identifier is {system}" in each for each in status.problems)
        assert not any("tallykeep postgres server" in each for each in status.problems), "a server would not help"
        server.stop()
        (server.data / "standby.signal").touch()
        give(server.data)
        server.start()
        status = await looked_at(tmp_path / "right", server.dsn(), system)
        assert behind(status) is None and "the standby is at" in next(status.lines(0))
        assert any("a standby to which no primary sends WAL" in each for each in status.unknown)


def test_slots_that_are_all_taken_are_no_lost_connection(place: Path) -> None:
    """What the server says is told, with what to raise."""
    with primary(place, {"max_replication_slots": "1"}) as server:
        with Connection(f"{server.dsn()}?client_encoding=LATIN1") as connection:
            assert connection.execute("SELECT U&'\\00E4'")[0][0] == "\udce4", "no text of a server is an accident"
        with psycopg.connect(server.dsn(), autocommit=True) as db:
            db.execute("SELECT pg_create_physical_replication_slot('other')")
        full = pytest.raises(Unreachable, match=r"all replication slots are in use\. Raise max_replication_slots")
        with Connection(server.dsn(), replication=True) as connection, full:
            slot.create(connection, "tallykeep")


async def looked_at(archive: Path, dsn: str, system: int) -> Status:
    """What is said of a cluster that holds WAL of that system."""
    folder = archive / "main"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "identity.json").write_text(json.dumps({"system_id": str(system), "segment_size": 16 << 20}))
    settings = PostgresSettings(archive=archive)
    return await status_of(open_cluster(settings, ClusterSettings("main", Secret(dsn)), None), SystemClock())


def behind(status: Status) -> int | None:
    """What is said of tier 1."""
    return status.tiers[0].behind
