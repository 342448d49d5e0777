"""The demo's protected PostgreSQL: a server with payments coming in, and the settings that protect it.

WAL goes to a folder (tier 1) and on to the demo's S3 server (tier 2), encrypted with a key of its own. What was
committed is counted by whoever writes it, and owes nothing to tallykeep.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import psycopg

from tallykeep.demo.postgres import PostgresServer
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.errors import Unreachable
from tallykeep.systems.postgres import keyfile
from tallykeep.systems.postgres.lsn import LSN

CLUSTER = "payments"
RATE = 20  # commits a second
_TIMEOUT = 60.0
_SETTINGS = {
    "wal_level": "replica", "max_wal_senders": "5", "full_page_writes": "on", "shared_buffers": "32MB",
    "max_wal_size": "256MB",
}  # fmt: skip
_YAML = """\
postgres:
  archive: {archive}
  key_file: {key}
  interval: 1s
  clusters:
    - name: {cluster}
      url: {url}
  tier2:
    url: s3://{bucket}/postgres
    endpoint: {endpoint}
    region: us-east-1
    access_key: {access_key}
    secret_key: {secret_key}
    timeout: 5s
    partial_every: 2s
  queue:
    retry_after: 1s
    retry_at_most: 4s
  drill:
    schedule: ""
    recovery_file: {key}
    questions:
      - name: no payment is missing
        sql: SELECT count(*) = max(id) AND count(*) > 0 FROM payments
"""


class Drilled(NamedTuple):
    """A drill that has ended."""

    status: int
    told: Mapping[str, Any]  # its JSON
    said: str  # on standard error


class Payments:
    """A context manager: entered, the server comes up in a thread; left, nothing of it remains."""

    def __init__(self, folder: Path, s3: SeaweedFS, bucket: str) -> None:
        self.folder = folder
        self.count = 0  # payments that were acknowledged
        self.trouble = ""  # why none come in any more
        self._s3 = s3
        self._bucket = bucket
        self._server = PostgresServer(folder, fast=True, settings=_SETTINGS)
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._live, name="payments")

    @property
    def address(self) -> str:
        """For people."""
        return f"127.0.0.1:{self._server.port}"

    @property
    def alive(self) -> bool:
        """Whether server and payments are still there."""
        return not self.trouble and (self._server.alive or not self._ready.is_set())

    @property
    def key(self) -> Path:
        """The recovery file."""
        return self.folder / "recovery.key"

    def settings(self) -> str:
        """The section of tallykeep.yaml. Raises: Unreachable where the server does not come up."""
        if not self._ready.wait(_TIMEOUT) or self.trouble:
            raise Unreachable(f"the protected PostgreSQL did not come up: {self.trouble or 'it takes too long'}")
        return _YAML.format(
            archive=self.folder / "protected", key=self.key, cluster=CLUSTER, url=self._server.dsn(),
            bucket=self._bucket, endpoint=self._s3.endpoint, access_key=self._s3.access_key,
            secret_key=self._s3.secret_key,
        )  # fmt: skip

    def stop_paying(self) -> LSN:
        """Where the last commit is, once nothing more comes in."""
        self._stop.set()
        self._thread.join()
        with psycopg.connect(self._server.dsn()) as db:
            found = db.execute("SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn").fetchone()
        assert found is not None
        return LSN(found[0])

    def drill(self, config: Path, environment: Mapping[str, str]) -> Drilled:
        """Run `tallykeep postgres drill` with these settings."""
        argv = [sys.executable, "-m", "tallykeep", "postgres", "drill", "--config", str(config), "--json"]
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=2 * _TIMEOUT, check=False, cwd=self.folder, env=environment
        )
        try:
            [told] = json.loads(done.stdout)
        except ValueError:
            told = {}
        return Drilled(done.returncode, told, done.stderr.strip())

    def __enter__(self) -> Self:
        keyfile.write(self.key, keyfile.generate())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._server.kill()  # its data goes with the folder

    def _live(self) -> None:
        try:
            self._server.start()
            with psycopg.connect(self._server.dsn(), autocommit=True) as db:
                db.execute("CREATE TABLE payments (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, cents int)")
                self._ready.set()
                while not self._stop.wait(1 / RATE):
                    db.execute("INSERT INTO payments (cents) VALUES (%s)", (self.count * 37 % 9999,))
                    self.count += 1
        except (psycopg.Error, OSError, Unreachable) as error:
            if not self._stop.is_set():
                self.trouble = str(error)
                self._ready.set()
