"""Folders that are made for others than who makes them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tallykeep.storage.handing_over import make_folders


def test_the_mode_is_that_of_the_folder_alone(tmp_path: Path) -> None:
    """Those above it can be passed by whoever could pass a folder of ours: a server of another user works below."""
    before = os.umask(0o022)
    try:
        make_folders(tmp_path / "archive" / "main" / "base", 0o700)
    finally:
        os.umask(before)
    modes = [
        stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("archive", "archive/main", "archive/main/base")
    ]
    assert modes == [0o755, 0o755, 0o700]
