"""Whether the user that runs PostgreSQL may read what get-wal needs, told before the server is started in vain.

Permission bits alone are looked at: an access control list may allow more. It is a remark and never a refusal.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Collection, Iterable
from pathlib import Path


def unreadable(paths: Iterable[Path], user: str) -> list[Path]:
    """Those of `paths` that are there and `user` may not read; none for a user that there is not."""
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        return []
    groups = os.getgrouplist(user, found.pw_gid)
    return [path for path in paths if path.exists() and not _may_read(path.resolve(), found.pw_uid, groups)]


def _may_read(path: Path, uid: int, groups: Collection[int]) -> bool:
    if uid == 0:
        return True
    entered = all(_allows(folder.stat(), stat.S_IXOTH, uid, groups) for folder in path.parents)
    return entered and _allows(path.stat(), stat.S_IROTH, uid, groups)


def _allows(found: os.stat_result, bit: int, uid: int, groups: Collection[int]) -> bool:
    shift = 6 if found.st_uid == uid else 3 if found.st_gid in groups else 0
    return bool(found.st_mode & bit << shift)
