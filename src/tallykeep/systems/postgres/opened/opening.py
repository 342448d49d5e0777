"""`opened`: a server at the moment that was asked for, as long as a context lasts, or an error that says why not.

PostgreSQL itself gives up where it does not come to its target. Without one it takes damaged WAL for the end of it,
so there the point that it came to is held against what is there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from subprocess import SubprocessError

from tallykeep.clock import Clock
from tallykeep.errors import RestoreError
from tallykeep.runtime.threads import in_thread, threads_noted
from tallykeep.systems.postgres.cluster import Cluster
from tallykeep.systems.postgres.opened.door import Door, door_of
from tallykeep.systems.postgres.restoring.restore import Plan, RestoreRequest
from tallykeep.systems.postgres.settings import PostgresSettings
from tallykeep.systems.postgres.throwaway import judging, scratch
from tallykeep.systems.postgres.throwaway.ended import Ended
from tallykeep.systems.postgres.throwaway.making import Making, Recovered
from tallykeep.systems.postgres.throwaway.server import RestoredServer
from tallykeep.systems.postgres.throwaway.watch import Watch


@dataclass(frozen=True, slots=True)
class Opened:
    """An open server."""

    cluster: str
    plan: Plan
    recovered: Recovered
    door: Door
    notes: list[str]  # beside those of the plan
    seconds: float  # from nothing to a server that takes queries
    server: RestoredServer


@asynccontextmanager
async def opened(
    cluster: Cluster, settings: PostgresSettings, request: RestoreRequest, clock: Clock, watch: Watch, *,
    port: int | None = None, planned: Callable[[Plan], None] = lambda _: None,
) -> AsyncIterator[Opened]:  # fmt: skip
    """Have a server; `planned` is told of its plan. `request`: its target is a folder of ours, whatever it says.

    Raises: RestoreError where it cannot be had, or not at that moment; ConfigError; IntegrityError; StoreErrors.
    """
    since = clock.monotonic()
    async with AsyncExitStack() as stack:
        with _told(), threads_noted() as threads:
            owner = scratch.Owner.of(settings.drill.user)
            folder = scratch.scratch(scratch.parent_of(cluster.name, settings), owner, scratch.OPEN)
            place = await stack.enter_async_context(scratch.entered(folder, threads))
            making = Making(cluster, place, settings.drill, clock)
            await _restore(making, request, watch, planned)
            watch.stage("recovery", making.wal_bytes)
            server = await stack.enter_async_context(making.running(watch.advance, port))
            recovered = await making.recover()
            notes = [*server.notes, *await _check(making, recovered)]
            door = await in_thread(door_of, server)
        yield Opened(cluster.name, making.planned, recovered, door, notes, clock.monotonic() - since, server)


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong on the way, as errors of a command."""
    try:
        yield
    except (Ended, OSError, SubprocessError, ExceptionGroup) as error:
        raise judging.raised(error) from error


async def _restore(making: Making, request: RestoreRequest, watch: Watch, planned: Callable[[Plan], None]) -> None:
    watch.stage("plan")
    planned(await making.plan(request))
    watch.stage("programs")
    await making.find_programs()
    watch.stage("restore", making.planned.entry.raw)
    await making.restore(watch.advance)


async def _check(making: Making, recovered: Recovered) -> list[str]:
    """See that the newest point is the newest, where it was asked for; what is to be said of it."""
    if making.planned.request.aimed:
        return []
    _, told = await making.behind(recovered.lsn)
    if told:
        raise RestoreError(f"{told}: WAL is damaged there. Ask for a moment before it; `verify` says more.")
    return [making.claim.missing] if making.claim.missing else []
