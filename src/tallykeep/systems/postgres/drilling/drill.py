"""`drill`: restore for practice, and keep what came of it in the journal.

The default is cold: from tier 2 alone, with nothing cached, and the key read anew from the recovery file, as on the
day when everything else is lost. Where there is no tier 2 it is tier 1, and the result says so.
"""

from __future__ import annotations

from asyncio import timeout
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tallykeep.clock import Clock
from tallykeep.errors import TallykeepError
from tallykeep.runtime.threads import in_thread, threads_noted
from tallykeep.runtime.tracing import tracer
from tallykeep.storage.handing_over import make_folders
from tallykeep.systems.postgres import locks
from tallykeep.systems.postgres.cluster import Cluster
from tallykeep.systems.postgres.drilling import cold
from tallykeep.systems.postgres.drilling.course import Course
from tallykeep.systems.postgres.drilling.request import DrillRequest
from tallykeep.systems.postgres.drilling.result import DrillResult
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.settings import PostgresSettings
from tallykeep.systems.postgres.throwaway import scratch
from tallykeep.systems.postgres.throwaway.ended import Ended
from tallykeep.systems.postgres.throwaway.scratch import Owner, Scratch
from tallykeep.systems.postgres.throwaway.watch import Silent, Watch
from tallykeep.units import format_duration

_tracer = tracer("tallykeep.postgres")


async def drill(
    cluster: Cluster, settings: PostgresSettings, clock: Clock, request: DrillRequest | None = None,
    watch: Watch | None = None,
) -> DrillResult:  # fmt: skip
    """Hold a drill. Leaves no process, and no file unless it is asked to; also when it is cancelled.

    Raises: Conflict where a drill of this cluster goes on; ConfigError for settings that cannot be used.
    """
    request = request or DrillRequest()
    owner = Owner.of(settings.drill.user)
    result = cold.begun(cluster, request.tier or settings.drill.tier, clock)
    with _tracer.span("drill", {"cluster_name": cluster.name, "tier": result.tier}) as span:
        await _held(cluster, settings, clock, request, owner, watch or Silent(), result)
        span.set("drill.outcome", result.outcome)
    result.finished = clock.time()
    await in_thread(_keep, cluster, result)
    return result


async def _held(
    cluster: Cluster, settings: PostgresSettings, clock: Clock, request: DrillRequest, owner: Owner | None,
    watch: Watch, result: DrillResult,
) -> None:  # fmt: skip
    """The drill in its folder, in its time."""
    limit, stage = settings.drill.timeout, ""
    parent = scratch.parent_of(cluster.name, settings)
    try:
        with threads_noted() as threads:
            async with scratch.entered(_alone(parent, owner, keep=request.keep), threads) as place:
                course = Course(cluster, settings, request, place, clock, watch, result)
                result.folder = str(place.folder) if request.keep else ""
                try:
                    async with timeout(limit):
                        await course.run()
                finally:
                    stage = course.stage
    except TimeoutError:
        result.end(stage, "inconclusive", f"it was given up after {format_duration(limit)}, drill.timeout")
    except Ended as error:
        result.end("scratch", error.outcome, str(error))


@contextmanager
def _alone(parent: Path, owner: Owner | None, *, keep: bool) -> Iterator[Scratch]:
    """The drill's folder, while no other drill of the cluster goes on. Raises: Conflict; as `scratch` does."""
    scratch.make(parent)
    kind = scratch.KEPT if keep else scratch.DRILL
    alone = locks.exclusive(parent / scratch.LOCK, "a drill of this cluster is being held")
    with alone, scratch.scratch(parent, owner, kind) as place:
        yield place


def _keep(cluster: Cluster, result: DrillResult) -> None:
    """Put the result into the journal; a disk that is full does not take it away from whoever waits for it."""
    try:
        make_folders(cluster.folder, 0o700)
        journal = Journal(cluster.folder)
        before = float(journal.read().drill.get("last_success", 0.0))
        result.last_success = result.finished if result.ok else before
        journal.drilled(result.as_json())
    except (TallykeepError, OSError) as error:
        result.notes.append(f"the result could not be kept in {cluster.folder}: {error}")
