"""`tallykeep kafka` as a process, with settings files of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tallykeep.runtime.processes import free_port


class KafkaCommands:
    """Runs commands in `folder`, on one backup."""

    def __init__(self, folder: Path, source: str, storage: Mapping[str, object], *, target: str = "") -> None:
        """`source`, `target`: bootstrap servers; `target` defaults to `source`."""
        self.folder = folder
        self.settings: dict[str, Any] = {
            "backup_id": "daily",
            "source": {"bootstrap_servers": [source]},
            "target": {"bootstrap_servers": [target or source]},
            "storage": dict(storage),
            "metrics": {"port": free_port(), "bind_address": "127.0.0.1"},
            "backup": {},
            "restore": {"checkpoint_state": str(folder / "restores")},
        }

    @property
    def file(self) -> Path:
        """The settings as they are now, in a file."""
        path = self.folder / "kafka.yaml"
        path.write_text(yaml.safe_dump(self.settings))
        return path

    def argv(self, command: str, *more: str) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", "tallykeep", "kafka", *command.split(), "--config", str(self.file), *more]

    def run(self, command: str, *more: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        return subprocess.run(
            self.argv(command, *more), capture_output=True, text=True, timeout=150, check=False,
            env={**os.environ, **(env or {})}, cwd=self.folder,
        )  # fmt: skip

    def done(self, command: str, *more: str, status: int = 0) -> dict[str, Any]:
        """Run with --json; what it says. Raises: AssertionError for another status, with its words."""
        result = self.run(command, "--json", *more)
        assert result.returncode == status, (result.returncode, result.stdout, result.stderr)
        found: dict[str, Any] = json.loads(result.stdout)
        return found
