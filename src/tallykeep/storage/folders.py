"""Folders below a root, opened part by part, so that no symbolic link leads out of the root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tallykeep.storage.handing_over import hand_over

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC  # the root itself may be reached through links


@contextmanager
def opened(root: Path, folder: str) -> Iterator[int]:
    """A descriptor of `folder` ("" or "a/b/") below `root`. Raises: OSError, also where a link stands in the way."""
    descriptor = os.open(root, _ROOT)
    try:
        for part in folder.split("/")[:-1]:
            outer, descriptor = descriptor, os.open(part, FOLDER, dir_fd=descriptor)
            os.close(outer)
        yield descriptor
    finally:
        os.close(descriptor)


def make(root: Path, folder: str) -> None:
    """Make `folder`, each part of it durable in its parent before the next; the root must be there."""
    with suppress(FileNotFoundError), opened(root, folder):
        return
    parts = folder.split("/")[:-1]
    for depth, part in enumerate(parts):
        with opened(root, _joined(parts[:depth])) as parent, suppress(FileExistsError):
            os.mkdir(part, dir_fd=parent)
            with opened(root, _joined(parts[: depth + 1])) as made:
                hand_over(made, parent)
            os.fsync(parent)


def prune(root: Path, folder: str) -> None:
    """Remove `folder` and those above it as far as they are empty; the root stays."""
    parts = folder.split("/")[:-1]
    with suppress(OSError):  # not empty, or somebody else was faster
        while parts:
            with opened(root, _joined(parts[:-1])) as parent:
                os.rmdir(parts.pop(), dir_fd=parent)


def _joined(parts: list[str]) -> str:
    return "".join(f"{part}/" for part in parts)
