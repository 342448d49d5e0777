"""`back_up`: a base backup of a running server, from its first byte to the record that makes it one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass

from tallykeep.clock import Clock
from tallykeep.errors import Refused, TallykeepError
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.digest import digest
from tallykeep.systems.postgres.basebackup.protocol import BaseBackup, Begun
from tallykeep.systems.postgres.basebackup.taking import Advance, Taken, take
from tallykeep.systems.postgres.replication import Stop, Stopped
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.repository.files import FOLDER
from tallykeep.systems.postgres.repository.filling import Filler
from tallykeep.systems.postgres.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """What to back up."""

    conninfo: str  # of libpq; a role with REPLICATION
    cluster: str  # its name in labels and in the repository
    name: str = ""  # for people; empty: the time
    system_id: str = ""  # what the cluster has been known by; empty: whatever it is


async def back_up(
    request: BackupRequest,
    repository: Repository,
    clock: Clock,
    begun: Callable[[Begun], None] = lambda _: None,
    advance: Advance = lambda _: None,
) -> BackupEntry:
    """Take a base backup and commit it. The repository's chain has been taken over.

    `begun` and `advance` are called from another thread. Raises: SourceErrors; Refused where the server is another
    one than it was; IntegrityError; StoreErrors. What was stored before an error, or before it was cancelled, is found
    again by the next attempt; the server's side ends at once.
    """
    id, started = secrets.token_hex(16), clock.time()
    filler = Filler(repository, asyncio.get_running_loop())
    system_id, version, taken = await _taken(request, id, filler, begun, advance)
    entry = await _list(repository, request, id, taken, started, clock.time(), filler, system_id, version)
    await repository.commit([entry])
    return entry


async def _taken(
    request: BackupRequest, id: str, filler: Filler, begun: Callable[[Begun], None], advance: Advance
) -> tuple[str, int, Taken]:
    """System identifier and version of the server, and what it sent. Cancelled, it returns once its thread has."""
    stop = Stop()
    work = asyncio.ensure_future(in_thread(_take, request, id, filler, begun, advance, stop))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        filler.fail(Stopped())
        with suppress(Stopped, TallykeepError):
            await work
        raise
    finally:
        if work.done():
            stop.close()


def _take(
    request: BackupRequest, id: str, filler: Filler, begun: Callable[[Begun], None], advance: Advance, stop: Stop
) -> tuple[str, int, Taken]:
    """All of it, in one thread."""
    try:
        with closing(BaseBackup(request.conninfo, stop)) as source:
            system_id = source.identify()
            if request.system_id and system_id != request.system_id:
                raise Refused(
                    f"{request.cluster}: answers with the system identifier {system_id}, and was {request.system_id} "
                    "before: it is another cluster. Give it a name of its own."
                )
            return system_id, source.version, take(source, f"tallykeep {id}", filler, begun, advance)
    except BaseException:
        filler.abandon()
        raise


async def _list(
    repository: Repository, request: BackupRequest, id: str, taken: Taken, started: float, finished: float,
    filler: Filler, system_id: str, version: int,
) -> BackupEntry:  # fmt: skip
    """Store the list of files; what is to be committed."""
    data = await in_thread(taken.files.encode, id, repository.cipher)
    key = f"{FOLDER}{id}"
    await repository.store.create(key, data)
    return BackupEntry(
        id=id, name=request.name or id[:12], cluster=request.cluster, system_id=system_id, version=version,
        timeline=taken.begun.timeline, start_lsn=taken.begun.start_lsn, stop_lsn=taken.stop_lsn,
        started=round(started, 3), finished=round(finished, 3), key=key, hash=digest(data), size=len(data),
        files=taken.count("file"), directories=taken.count("directory"), raw=taken.raw, added=filler.stored,
    )  # fmt: skip
