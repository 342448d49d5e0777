"""The program as a module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tallykeep.demo.seaweedfs import SeaweedFS


def test_python_m_tallykeep() -> None:
    """`python -m tallykeep` is the program, exit status included."""
    for arguments, status in ((["version"], 0), (["no-such-command"], 2)):
        done = subprocess.run([sys.executable, "-m", "tallykeep", *arguments], capture_output=True, text=True)
        assert done.returncode == status, done.stderr


@pytest.mark.server
def test_a_command_that_has_asked_s3_ends_with_its_status(seaweedfs: SeaweedFS, bucket: str, tmp_path: Path) -> None:
    """Threads of the storage client that outlive their work do not abort the process: 1 in 6 did."""
    config = tmp_path / "tallykeep.yaml"
    config.write_text(
        f"postgres:\n  archive: {tmp_path}\n  clusters: [{{name: main}}]\n"
        f"  tier2: {{url: 's3://{bucket}/abort', endpoint: '{seaweedfs.endpoint}', region: us-east-1,"
        f" access_key: {seaweedfs.access_key}, secret_key: {seaweedfs.secret_key}}}\n"
    )
    argv = [sys.executable, "-m", "tallykeep", "postgres", "get-wal", "--config", str(config), "--cluster", "main"]
    argv += ["--tier", "2", "--absent", "99", "00000002.history", str(tmp_path / "out")]
    for _ in range(12):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 255, done.stderr  # no archive is there
