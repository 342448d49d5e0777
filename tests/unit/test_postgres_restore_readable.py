"""Whether PostgreSQL's user may read what get-wal needs: permission bits of real files."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from tallykeep.systems.postgres.restoring.readable import unreadable

OTHER = next(entry.pw_name for entry in pwd.getpwall() if entry.pw_uid not in (0, os.geteuid()))


def test_what_another_user_may_not_read_is_named(tmp_path: Path) -> None:
    """A file or a folder above it that is closed is told; what is not there, and an unknown user, are not."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    key, inner = tmp_path / "recovery.key", closed / "wal"
    key.touch(mode=0o600)
    inner.touch(mode=0o644)
    assert unreadable([key, inner, tmp_path / "none"], OTHER) == [key, inner]
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert unreadable([key, inner], me) == unreadable([key], "nobody-of-that-name") == []
    assert unreadable([Path("/etc/passwd")], OTHER) == []
