"""Commands as root in an archive that is an unprivileged server's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support.postgres_cli import Protection
from tests.support.postgres_wal import place, primary

__all__ = ["place"]
pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave what others cannot use"),
]
OWNER = 61_234  # nobody that this machine has


def test_root_leaves_nothing_that_the_server_could_not_use(place: Path) -> None:
    """A backup, a verification, a drill and retention under sudo: what they make is the archive's owner's."""
    folder = place / "work"  # PostgreSQL's user enters it
    folder.mkdir(mode=0o711)
    archive, copy = folder / "archive", folder / "copy"
    for each in (archive, copy):
        each.mkdir(mode=0o711)
        os.chown(each, OWNER, OWNER)
    with primary(place) as server:
        protection = Protection.of(folder, server, TALLYKEEP_POSTGRES_TIER2=str(copy))
        with protection.server():
            protection.backed_up()
            protection.told("backup")
        protection.told("verify")
        protection.told("drill")
        protection.told("retention", "--yes")
    made = [path for root in (archive / "default", archive / "scratch", copy) for path in (root, *root.rglob("*"))]
    names = {path.name for path in made}
    assert {"lock", "backup.lock", "journal.lock", "base-1.lock", "journal.json", "drill.lock"} <= names
    assert {path for path in made if path.lstat().st_uid != OWNER} == set()
