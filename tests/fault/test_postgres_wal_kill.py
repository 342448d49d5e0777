"""kill -9 of receiver and primary while clients commit: no acknowledged commit is lost."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_wal import KEY, base_backup, place, primary, restored, run, wait

from tallykeep.demo.postgres import PostgresServer, program
from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.cipher import Cipher

__all__ = ["place"]
pytestmark = [pytest.mark.server, pytest.mark.chaos]
_CIPHER = Cipher.from_key(KEY)


class Client(threading.Thread):
    """Commits numbers one after another, and knows which were acknowledged."""

    def __init__(self, dsn: str, number: int) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.acknowledged = 0
        self._dsn = dsn

    def run(self) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                while True:
                    connection.execute("INSERT INTO kept VALUES (%s, %s)", (self.number, self.acknowledged + 1))
                    self.acknowledged += 1
        except psycopg.Error:
            return


def receiver(server: PostgresServer, folder: Path) -> subprocess.Popen[bytes]:
    """A receiver's process."""
    return subprocess.Popen([sys.executable, "-m", "tests.support.wal_receiver", server.dsn(), str(folder)])


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_nothing_acknowledged_is_lost(place: Path, tmp_path: Path, seed: int) -> None:
    """Receiver killed three times under load, then primary and receiver; what clients were told is restored."""
    moments = random.Random(seed)
    folder = tmp_path / "main"
    with primary(place) as server:
        process = receiver(server, folder)
        wait(lambda: bool(Archive(folder, _CIPHER).held()))
        run("pgbench", "-i", "-q", "-s", "2", "-d", server.dsn())
        base_backup(server, tmp_path / "base")
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (client int, n int)")
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'tallykeep'")
            connection.execute("SELECT pg_reload_conf()")
            wait(lambda: connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall() == [("sync",)])
        load = subprocess.Popen(
            [str(program("pgbench")), "-c", "2", "-T", "60", "-n", "-d", server.dsn()],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        clients = [Client(server.dsn(), number) for number in range(3)]
        for client in clients:
            client.start()
        for _ in range(3):
            before = sum(client.acknowledged for client in clients)
            wait(lambda before=before: sum(client.acknowledged for client in clients) > before + 20)  # type: ignore[misc]
            time.sleep(moments.random())
            process.kill()
            process.wait()
            process = receiver(server, folder)
        before = sum(client.acknowledged for client in clients)
        wait(lambda: sum(client.acknowledged for client in clients) > before + 20)
        time.sleep(moments.random())
        server.kill()
        process.kill()
        process.wait()
        load.wait(60)
        for client in clients:
            client.join(60)
    with (
        restored(
            tmp_path / "base", Archive(folder, _CIPHER), place / "again", {"synchronous_standby_names": ""}
        ) as server,
        psycopg.connect(server.dsn()) as connection,
    ):
        for client in clients:
            found = connection.execute(
                "SELECT count(*), max(n) FROM kept WHERE client = %s AND n <= %s", (client.number, client.acknowledged)
            ).fetchone()
            assert found == (client.acknowledged, client.acknowledged)
    assert sum(client.acknowledged for client in clients) > 80
