"""A folder as a store: a key is the path of a file below the root.

Writes go aside, are fsynced, renamed (a create: linked, which never replaces) and the folder is fsynced, so a file
is whole or absent whatever dies when. What a killed writer leaves aside begins with `.tallykeep-` and is never
listed. Below the root every path is opened part by part without following symbolic links, so no key reaches
outside. The root itself is never made: a folder that is not mounted must not be filled in its stead.
A hung disk or NFS server costs a thread, never the caller: after `timeout` seconds the call is Unavailable.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import TypeVar

from tallykeep.errors import Conflict, Corrupt, Denied, NotFound, StoreError, Unavailable
from tallykeep.storage.content import Content, groups
from tallykeep.storage.folders import make, opened, prune
from tallykeep.storage.handing_over import hand_over
from tallykeep.storage.keys import checked, folder_of, is_hopeless
from tallykeep.storage.store import ObjectInfo
from tallykeep.storage.walk import ASIDE, info, pages
from tallykeep.threads import in_thread

T = TypeVar("T")

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not block its opener
_TRIES = 5  # a delete may remove an empty folder between its making and the first file in it
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.EXDEV, errno.ENOTSUP, errno.EMLINK}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class LocalStore:
    """The files below `root`."""

    backend = "filesystem"

    def __init__(self, root: Path, *, timeout: float = 30.0) -> None:
        """`timeout`: seconds for one call, or for one page of a listing."""
        self.root = root.absolute()
        self.name = self.root.as_uri()
        self.timeout = timeout

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        if is_hopeless(prefix):
            return
        walk = pages(self.root, prefix, start_after)
        while page := await self._call("listing", prefix, partial(next, walk, None)):
            yield page

    async def head(self, key: str) -> ObjectInfo:
        return await self._call("looking at", checked(key), partial(self._head, key))

    async def read(self, key: str) -> bytes:
        return await self._call("reading", checked(key), partial(self._read, key, 0, None))

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        return await self._call("reading", checked(key), partial(self._read, key, start, length))

    async def create(self, key: str, data: Content) -> None:
        await self._call("writing", checked(key), partial(self._put, key, data, replace=False))

    async def replace(self, key: str, data: Content) -> None:
        await self._call("writing", checked(key), partial(self._put, key, data, replace=True))

    async def delete(self, key: str) -> None:
        with suppress(NotFound):
            await self._call("removing", checked(key), partial(self._delete, key))

    async def close(self) -> None:
        """Nothing is held between calls."""

    async def _call(self, doing: str, key: str, function: Callable[[], T]) -> T:
        """What `function` returns, from a thread; its OSErrors as StoreErrors."""
        try:
            async with asyncio.timeout(self.timeout):
                return await in_thread(function)
        except TimeoutError:
            raise Unavailable(
                f"{self._path(key)}: {doing} it took longer than {self.timeout:g} s; is the disk or its server hung?"
            ) from None
        except OSError as error:
            raise self._translated(error, doing, key) from error

    def _translated(self, error: OSError, doing: str, key: str) -> StoreError:
        what = f"{self._path(key)}: {doing} it failed: {error.strerror}."
        if _is_no_folder(self.root):
            return NotFound(f"{self.root}: no such folder; make it, or mount what belongs there.")
        if error.errno in _ABSENT and doing != "writing":
            return NotFound(f"{self._path(key)} is not there.")
        if error.errno in _REFUSED | _ABSENT:
            return Denied(f"{what} Check who owns it, who may use it, and what it is.")
        if error.errno in _FULL:
            return Unavailable(f"{what} Make room there.", retry=60.0)
        return Unavailable(f"{what} Check the disk, or the server behind it.")

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}".rstrip("/")

    def _head(self, key: str) -> ObjectInfo:
        with opened(self.root, folder_of(key)) as folder:
            status = os.stat(_name(key), dir_fd=folder, follow_symlinks=False)
        if not S_ISREG(status.st_mode):
            raise NotFound(f"{self._path(key)} is not a regular file.")
        return info(key, status)

    def _read(self, key: str, start: int, length: int | None) -> bytes:
        with (
            opened(self.root, folder_of(key)) as folder,
            os.fdopen(os.open(_name(key), _FILE, dir_fd=folder), "rb", 0) as file,
        ):
            status = os.fstat(file.fileno())
            if not S_ISREG(status.st_mode):
                raise NotFound(f"{self._path(key)} is not a regular file.")
            start = max(0, status.st_size + start) if start < 0 else start
            wanted = max(0, status.st_size - start)
            wanted = wanted if length is None else min(wanted, length)
            file.seek(start)
            data = _read_fully(file.fileno(), wanted)
        if len(data) < wanted:
            raise Corrupt(f"{self._path(key)} shrank while it was read: {len(data)} of {wanted} bytes came.")
        return data

    def _put(self, key: str, data: Content, *, replace: bool) -> None:
        for _ in range(_TRIES):
            make(self.root, folder_of(key))
            with suppress(FileNotFoundError), opened(self.root, folder_of(key)) as folder:
                return self._put_into(folder, key, data, replace=replace)
        raise FileNotFoundError(errno.ENOENT, "its folder is removed again and again")

    def _put_into(self, folder: int, key: str, data: Content, *, replace: bool) -> None:
        aside, name = f"{ASIDE}{secrets.token_hex(8)}", _name(key)
        try:
            _write(folder, aside, data)
            if replace:
                os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                os.link(aside, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            raise Conflict(f"{self._path(key)} is there already; read it to see whose it is.") from None
        finally:
            with suppress(FileNotFoundError):
                os.unlink(aside, dir_fd=folder)
        os.fsync(folder)

    def _delete(self, key: str) -> None:
        with opened(self.root, folder_of(key)) as folder:
            os.unlink(_name(key), dir_fd=folder)
            os.fsync(folder)
        prune(self.root, folder_of(key))


def _is_no_folder(root: Path) -> bool:
    """Known not to be one; a root that may not be looked at is another matter."""
    try:
        return not S_ISDIR(root.stat().st_mode)
    except OSError as error:
        return error.errno in _ABSENT


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _write(folder: int, name: str, data: Content) -> None:
    descriptor = os.open(name, _NEW, 0o666, dir_fd=folder)
    try:
        hand_over(descriptor, folder)
        for group in groups(data):
            _write_fully(descriptor, group)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_fully(descriptor: int, views: list[memoryview]) -> None:
    """One writev takes 2 GiB at most, and fewer where a signal comes in between or the disk is nearly full."""
    while views:
        written = os.writev(descriptor, views)
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]


def _read_fully(descriptor: int, wanted: int) -> bytes:
    """Up to `wanted` bytes: one read returns 2 GiB at most, and fewer where a signal comes in between."""
    data = os.read(descriptor, wanted)
    if len(data) == wanted or not data:
        return data
    parts = [data]
    while (missing := wanted - sum(map(len, parts))) and (more := os.read(descriptor, missing)):
        parts.append(more)
    return b"".join(parts)
