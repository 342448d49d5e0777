"""`tallykeep postgres` as processes: a server that protects a real primary, and commands beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.support.postgres_wal import wait

from tallykeep.demo.postgres import PostgresServer
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.runtime.processes import ManagedProcess, free_port

PATIENCE = 60.0


@dataclass
class Protection:
    """One archive: its settings as variables, its server, its commands."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    @classmethod
    def of(cls, folder: Path, primary: PostgresServer, **variables: str) -> Protection:
        """An archive of `primary` in `folder`."""
        made = cls(folder)
        made.variables = {
            "TALLYKEEP_POSTGRES_URL": primary.dsn(), "TALLYKEEP_POSTGRES_ARCHIVE": str(folder / "archive"),
            "METRICS_HOST": "127.0.0.1", "METRICS_PORT": str(made.port), "TALLYKEEP_STATE_DIR": str(folder / "state"),
            "TALLYKEEP_POSTGRES_INTERVAL": "0.5",
            **variables,
        }  # fmt: skip
        return made

    @property
    def cluster(self) -> Path:
        """The cluster's folder in tier 1."""
        return Path(self.variables["TALLYKEEP_POSTGRES_ARCHIVE"]) / "default"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "server.log"

    def environment(self, **more: str) -> dict[str, str]:
        """Of a process."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TALLYKEEP_", "OTEL_"))}
        return {**inherited, **self.variables, **more}

    @staticmethod
    def argv(*words: str) -> list[str]:
        """A command line."""
        return [sys.executable, "-m", "tallykeep", "postgres", *words]

    def run(self, *words: str, status: int = 0, env: Mapping[str, str] | None = None) -> str:
        """Run a command to its end; what it printed, errors behind it. Raises: AssertionError for another status."""
        done = subprocess.run(
            self.argv(*words), capture_output=True, text=True, timeout=150, check=False, cwd=self.folder,
            env=self.environment(**(env or {})),
        )  # fmt: skip
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done.stdout if "--json" in words else done.stdout + done.stderr

    def told(self, *words: str, status: int = 0) -> Any:
        """The same with --json, read."""
        return json.loads(self.run(*words, "--json", status=status))

    @contextmanager
    def server(self, **variables: str) -> Iterator[ManagedProcess]:
        """`tallykeep postgres server`, once it serves its page."""
        process = ManagedProcess(
            self.argv("server"), env=self.environment(**variables), cwd=self.folder, log=self.log
        )  # fmt: skip
        process.start()
        try:
            process.wait_ready(lambda: "metrics are at" in self.log.read_text(), PATIENCE)
            yield process
        finally:
            process.stop(timeout=PATIENCE)

    def page(self) -> dict[str, float]:
        """What the server's page says: series as they are written, and their values."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE) as reply:
            lines = [line for line in reply.read().decode().splitlines() if not line.startswith("#")]
        return {series: float(value) for series, _, value in (line.rpartition(" ") for line in lines)}

    def backed_up(self) -> None:
        """Wait until the server's first backup has ended, its retention, too: before that another one is refused."""
        self.until("klio_backup_successes_total", 1)
        wait(lambda: self.page()["klio_backup_running"] == 0, PATIENCE)

    def until(self, series: str, value: float) -> None:
        """Wait until a series of the page has reached a value."""
        wait(lambda: self.page().get(series, -1.0) >= value, PATIENCE, lambda: f"{series}\n{self.log.read_text()}")


def s3_variables(weed: SeaweedFS, bucket: str) -> dict[str, str]:
    """Tier 2 on a SeaweedFS."""
    return {
        "TALLYKEEP_POSTGRES_TIER2": f"s3://{bucket}/postgres", "TALLYKEEP_POSTGRES_S3_ENDPOINT": weed.endpoint,
        "TALLYKEEP_POSTGRES_S3_REGION": "us-east-1", "TALLYKEEP_POSTGRES_S3_ACCESS_KEY_ID": weed.access_key,
        "TALLYKEEP_POSTGRES_S3_SECRET_ACCESS_KEY": weed.secret_key,
    }  # fmt: skip
