"""As root, what is made in a folder belongs to whom the folder belongs.

A command under sudo must not shut out the server that works there without it. For everybody else nothing happens:
what they make is theirs. Calls block, and raise OSError.
"""

from __future__ import annotations

import os
from pathlib import Path


def hand_over(made: int | Path, folder: int | Path) -> None:
    """Give a file or a folder, by its descriptor or path, to the owner of the folder that it was made in."""
    if os.geteuid() != 0:
        return
    owner = os.stat(folder)  # noqa: PTH116 - it may be a descriptor
    if owner.st_uid != 0:
        os.chown(made, owner.st_uid, owner.st_gid)


def make_folders(path: Path, mode: int = 0o777) -> None:
    """Make a folder of that mode, and those above it as any folder is made, as far as they are missing."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode if each == path else 0o777, exist_ok=True)
        hand_over(each, each.parent)
